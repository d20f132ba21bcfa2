"""Look at a dataset before anything is trained on it: `python -m experiments.audit --dataset D --root R`.

With `--waterfall`, look at a finished run instead: how its AUC falls as it is judged more strictly.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.cli import Verb, run, stop_at_interrupt, verb
from experiments.data_options import checked_recipe, option, with_data

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from mammo_lightning.datamodules.base import MammoDataModule
    from mammo_lightning.evaluation.steps import Step
    from mammo_lightning.progress import Progress
    from mammo_lightning.recipe import Recipe

app = verb()
#: side to which images of several sizes are brought; their own sizes are read from the files
SIDE = 128
SHOWN = 30  # rows of a table at the terminal
PLACES = ("view", "laterality", "spacing_mm")  # known of a row, no subgroup, and perhaps a shortcut
NAMED = {"shortcut", "leak", "duplicate", "label conflict", "unreadable"}


@app.command(cls=Verb)
@with_data
def audit(
    recipe: Annotated[
        Path | None,
        typer.Argument(help="A recipe whose dataset is meant; with --waterfall a run (id, STUDY/t001) or a study."),
    ] = None,
    waterfall: Annotated[bool, option("How the AUC of a run falls as it is judged more strictly.")] = False,
    folds: Annotated[int | None, option("Folds (default: 5).")] = None,
    fold_seed: Annotated[int | None, option("Seed of the folds.")] = None,
    mlruns: Annotated[Path | None, option("Where everything is kept (default: mlruns).")] = None,
    tracking_uri: Annotated[str | None, option("An MLflow server instead of the local database.")] = None,
    *,
    data: dict[str, Any],
) -> None:
    """Say what is wrong with a dataset: leaks, duplicates, shortcuts. Exit code 0 whatever is found."""
    if waterfall:
        return _waterfall(recipe, mlruns, tracking_uri, {"folds": folds, "fold_seed": fold_seed, **data})
    checked = checked_recipe(recipe, folds=folds, fold_seed=fold_seed, mlruns=mlruns, tracking_uri=tracking_uri, **data)

    from experiments.display import Display
    from mammo_lightning.opening import writable
    from mammo_lightning.tracking.publish import check_uri, default_uri

    checked = checked.model_copy(update={"mlruns": writable(checked.mlruns)})
    uri = checked.tracking_uri or default_uri(checked.mlruns)
    check_uri(uri)
    with Display() as progress:
        look = _looked(*_opened(checked, progress), checked)
        _show(look, progress.console)
        _keep(look, checked, uri, progress.console)


def _waterfall(word: Path | None, mlruns: Path | None, tracking_uri: str | None, given: dict[str, Any]) -> None:
    """Make, show and publish the waterfall of a run; stopped, the same command goes on."""
    from mammo_lightning.errors import SettingsError

    if word is None:
        raise SettingsError("--waterfall of which run? Pass its id, STUDY/t001, or the name of a study")
    if wrong := [key for key, value in given.items() if value is not None and key != "root"]:
        raise SettingsError(
            f"--{wrong[0].replace('_', '-')} means nothing with --waterfall: the run's study says it. Pass --root alone"
        )
    from experiments.display import Display
    from mammo_lightning.progress import Interrupted
    from mammo_lightning.runs import Runs
    from mammo_lightning.tracking.publish import ENOUGH, Publisher, check_uri, default_uri
    from mammo_lightning.waterfall.run import keep_waterfall

    found = Runs(mlruns or Path("mlruns"))
    uri = check_uri(tracking_uri or default_uri(found.mlruns))
    with Display() as progress:
        stop_at_interrupt(progress)
        try:
            kept, steps, lines = keep_waterfall(found, str(word), given.get("root"), progress)
        except (Interrupted, SystemExit):  # Lightning turns the second Ctrl-C into an exit
            raise KeyboardInterrupt from None
        _show_steps(kept.identity["name"], steps, lines, progress.console)
        progress.console.print(f"figure: {kept.artifacts / 'waterfall.png'}", soft_wrap=True)
    Publisher(found.journal, uri, found.mlruns).close(ENOUGH)


def _show_steps(title: str, steps: list[Step], lines: list[str], console: Console) -> None:
    from rich.table import Table

    heads = ("step", "AUC (95 % CI)", "difference (95 % CI)", "taken away", "counts")
    drawn = Table(*heads, title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for step in steps:
        words = (step.title, str(step.auc or "-"), step.change, step.taken, step.counts)
        drawn.add_row(*words, style="yellow" if step.lost else "")
    console.print(drawn)
    for line in lines:
        console.print(line, soft_wrap=True)


def _opened(recipe: Recipe, progress: Progress) -> tuple[MammoDataModule, bool]:
    """The dataset; images of several sizes, which a study refuses, are no reason for an audit to stop."""
    from mammo_lightning.errors import DataError
    from mammo_lightning.opening import open_dataset

    try:
        return open_dataset(recipe, progress, lenient=True), False
    except DataError as error:
        if recipe.size is not None:
            raise
        try:
            return open_dataset(recipe.model_copy(update={"size": SIDE}), progress, lenient=True), True
        except DataError:
            raise error from None


class _Look:
    """What an audit found, as tables, lines and pictures."""

    def __init__(self, data: MammoDataModule, title: str) -> None:
        from mammo_lightning.datamodules.audit import native_formats, structure

        self.data, self.title = data, title
        formats = native_formats(data.frame, data.shape, 8 * data.images.dtype.itemsize)
        self.formats = formats
        self.findings = structure(data.frame, classes=data.classes, formats=formats, unreadable=data.unreadable)
        self.metrics = self.findings.metrics()
        self.lines = [*self.findings.lines, *(f"note: {count:,} {why}" for why, count in data.notices.items())]
        if data.origin and data.origin.citation:
            self.lines.append(f"note: cite {data.origin.citation} Licence: {data.origin.licence}.")
        self.tables: dict[str, pd.DataFrame] = {"counts": self.findings.counts, "formats": self.findings.formats}
        self.sheets: dict[str, bytes] = {}
        self.augmented = b""  # what each augmentation makes of some images


def _looked(data: MammoDataModule, resized: bool, recipe: Recipe) -> _Look:
    import pandas as pd

    from mammo_lightning.controls import controls
    from mammo_lightning.datamodules import pipelines, shortcuts
    from mammo_lightning.datamodules.contact import contact_sheets
    from mammo_lightning.datamodules.folds import frozen_test_groups
    from mammo_lightning.errors import DataError
    from mammo_lightning.types import seed_from

    look = _Look(data, recipe.dataset)
    if recipe.limit:
        look.lines.append(f"note: a quick look at {len(data.frame)} images; the counts of what was left out are of all")
    if resized:
        look.lines.append(
            f"note: images of several sizes were brought to {SIDE} x {SIDE} to be looked at; a study needs --size"
        )
    frozen = frozen_test_groups(data)
    seen = shortcuts.readable(data.frame, frozen)
    if len(seen) < len(data.frame):
        unread = data.frame["patient"].nunique() - data.frame["patient"].iloc[seen].nunique()
        look.lines.append(f"note: {unread} patients of the test split are counted, and not looked at")
    if not len(seen):
        look.lines.append("note: every image is of the test split: none is looked at")
        return look
    look.sheets = contact_sheets(
        data.frame.iloc[seen],
        data.images[seen],
        classes=data.classes,
        title=recipe.dataset,
        synthetic=data.synthetic,
    )
    some = data.images[seen[:: max(1, len(seen) // 64)]]
    look.augmented = pipelines.png(some, scale=data.scale, title=recipe.dataset, synthetic=data.synthetic)
    try:
        seed = seed_from(data.source, recipe.folds, recipe.fold_seed)
        folds = shortcuts.grouped_folds(data.frame, folds=recipe.folds, seed=seed, frozen=frozen)
    except DataError as error:
        look.lines.append(f"note: no shortcut table and no controls: {error}")
        return look
    columns = [
        *(name for name in PLACES if name in data.frame),
        *(name for name in data.subgroups if name not in getattr(data, "answers", ())),
    ]
    found = shortcuts.shortcuts(
        data.frame, data.images, folds, classes=data.classes, columns=columns, formats=look.formats
    )
    tried = controls(data.frame, data.images, folds, scale=data.scale, seed=seed)
    look.tables["shortcuts"] = shortcuts.table(found)
    rows = [(c.name, c.auc.value, c.auc.lo, c.auc.hi, c.counts) for c in tried]
    look.tables["controls"] = pd.DataFrame(rows, columns=["control", "auc", "lo", "hi", "counts"])
    look.metrics |= {f"shortcut/{each.predictor.key}": each.auc.value for each in found}
    look.metrics |= {f"control/{each.key}": each.auc.value for each in tried}
    look.lines += [each.line for each in found if each.works] + [each.line for each in tried]
    return look


def _show(look: _Look, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    titles = {
        "counts": f"{look.title}: counts",
        "formats": "sizes and depths, as they stand in the files",
        "shortcuts": "shortcut table: what a trivial predictor reaches alone, by patient, out of fold (chance 0.5)",
        "controls": "controls: the reference classifier through the same folds",
    }
    for name, table in look.tables.items():
        drawn = Table(title=titles[name], title_justify="left", header_style="bold")
        shown = _readable(table)
        for column in shown:
            drawn.add_column(str(column), justify="right" if shown[column].dtype.kind in "if" else "left")
        warned = table.get("shortcut", [False] * len(table))
        for row, warn in list(zip(shown.itertuples(index=False), warned, strict=True))[:SHOWN]:
            drawn.add_row(*map(str, row), style="yellow" if warn else "")
        drawn.caption = "; ".join(_caption(name, len(shown))) or None
        console.print(drawn)
    for line in look.lines:
        console.print(Text(line, style="yellow" if line.partition(":")[0] in NAMED else ""), soft_wrap=True)
    if not any(line.partition(":")[0] in NAMED for line in look.lines):
        console.print("no leak, duplicate, label conflict or shortcut found; see the control lines too")


def _caption(name: str, rows: int) -> Iterator[str]:
    from mammo_lightning.datamodules.shortcuts import RULE

    if name == "shortcuts":
        yield RULE
    if rows > SHOWN:
        yield f"and {rows - SHOWN} more rows in {name}.csv"


def _readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table with value and interval in one column, and without columns for machines."""
    if "auc" not in table:
        return table
    from mammo_lightning.evaluation.resampling import Estimate

    told = [str(Estimate(*row)) for row in table[["auc", "lo", "hi"]].itertuples(index=False)]
    named = table.drop(columns=["auc", "lo", "hi", "predictor", "shortcut"], errors="ignore")
    named.insert(list(named.columns).index("what") + 1 if "what" in named else 1, "AUC (95 % CI)", told)
    return named


def _keep(look: _Look, recipe: Recipe, uri: str, console: Console) -> None:
    """Journal the audit as a run of its own and publish it; a server that is down is said and stops nothing."""
    from mammo_lightning.tracking.journal import Journal
    from mammo_lightning.tracking.publish import ENOUGH, Publisher
    from mammo_lightning.types import Kind, Outcome

    data = look.data
    journal = Journal(recipe.mlruns)
    kept = journal.run(f"audit-{recipe.dataset}-{data.digest}")
    tags = {"dataset": recipe.dataset, "synthetic": str(data.synthetic).lower()}
    kept.begin(kind=Kind.audit, name=f"audit {recipe.dataset}", study="", parent=None, experiment=data.name, tags=tags)
    kept.dataset(data.name, data.digest, str(recipe.root or recipe.dataset))
    options = {"size": data.size, "limit": recipe.limit, "patients": recipe.patients, "trap": recipe.trap}
    kept.params({"folds": recipe.folds} | {name: value for name, value in options.items() if value is not None})
    kept.metrics({name: round(value, 4) for name, value in look.metrics.items()})
    for name, table in look.tables.items():
        kept.write(f"{name}.csv", table.to_csv(index=False, float_format="%.4f"))
    if (flagged := data.frame[data.frame["flags"] != ""]).size:
        kept.write("flagged.csv", flagged[["image", "patient", "flags"]].to_csv(index=False))
    if len(look.findings.twins):
        kept.write("identical.csv", look.findings.twins.to_csv(index=False))
    for label, (name, png) in enumerate(look.sheets.items()):
        kept.write(f"contact/{label}-{''.join(c if c.isalnum() else '_' for c in name)}.png", png)
        kept.image(f"contact/{name}", png)
    if look.augmented:
        kept.write("augmentations.png", look.augmented)
    kept.write("audit.md", _markdown(look))
    warned = [line for line in look.lines if line.partition(":")[0] in NAMED]
    kept.note("\n\n".join([f"warnings: {len(warned)}", *warned[:6]]))
    kept.end(Outcome.completed)
    console.print(f"tables and contact sheets: {kept.artifacts}", soft_wrap=True)
    Publisher(journal, uri, recipe.mlruns).close(ENOUGH)


def _markdown(look: _Look) -> str:
    parts = [
        f"# Audit of {look.title}",
        "\n".join(f"- {line}" for line in look.lines) or "Nothing found that is wrong.",
    ]
    for name, table in look.tables.items():
        shown = _readable(table)
        head = [" | ".join(map(str, shown.columns)), " | ".join("---" for _ in shown.columns)]
        rows = [" | ".join(str(value).replace("|", "/") for value in row) for row in shown.itertuples(index=False)]
        body = "\n".join(f"| {line} |" for line in [*head, *rows])
        parts.append("\n\n".join([f"## {name.capitalize()}", body, *_caption(name, 0)]))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    run(app)
