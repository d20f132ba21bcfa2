"""An audit as a run of its own, in the journal."""

from __future__ import annotations

from mammo_lightning import record
from mammo_lightning.auditing.look import Look
from mammo_lightning.auditing.telling import markdown, one_line
from mammo_lightning.recipe import Recipe
from mammo_lightning.tracking.journal import Journal, RunJournal
from mammo_lightning.types import Kind

NOTED = 6  # warnings that stand on the run's page; all of them are in audit.md


def keep_look(look: Look, recipe: Recipe) -> RunJournal:
    """Journal what an audit found as a run of kind `audit`, one for each dataset as it is; its run.

    Args:
        look: What was found.
        recipe: That named the dataset; its `mlruns` holds the journal.
    """
    data = look.data
    run = Journal(recipe.mlruns).run(f"audit-{recipe.dataset}-{data.digest}")
    tags = {"dataset": recipe.dataset, "synthetic": str(data.synthetic).lower()}
    run.begin(kind=Kind.audit, name=f"audit {recipe.dataset}", study="", parent=None, experiment=data.name, tags=tags)
    with record.ending(run):
        run.dataset(data.name, data.digest, str(recipe.root or recipe.dataset))
        options = {"size": data.size, "limit": recipe.limit, "patients": recipe.patients, "trap": recipe.trap}
        run.params({"folds": recipe.folds} | {name: value for name, value in options.items() if value is not None})
        run.metrics({name: round(value, 4) for name, value in look.metrics.items()})
        _write(run, look)
        run.note("\n\n".join([f"warnings: {len(look.warnings)}", *map(one_line, look.warnings[:NOTED])]))
    return run


def _write(run: RunJournal, look: Look) -> None:
    frame = look.data.frame
    for name, table in look.tables.items():
        run.write(f"{name}.csv", table.to_csv(index=False, float_format="%.4f"))
    if (flagged := frame[frame["flags"] != ""]).size:
        run.write("flagged.csv", flagged[["image", "patient", "flags"]].to_csv(index=False))
    if len(look.findings.twins):
        run.write("identical.csv", look.findings.twins.to_csv(index=False))
    for label, (name, png) in enumerate(look.sheets.items()):
        run.write(f"contact/{label}-{''.join(c if c.isalnum() else '_' for c in name)}.png", png)
        run.image(f"contact/{name}", png)
    if look.augmented:
        run.write("augmentations.png", look.augmented)
    run.write("audit.md", markdown(look))
