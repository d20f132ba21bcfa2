"""A comparison as a run of its own: page, tables and the sentence, where the runs it is of are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mammo_lightning import record
from mammo_lightning.comparison.compare import Comparison
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.tracking.publish import ENOUGH, Publisher
from mammo_lightning.types import Kind, digest

MOST_MEMBERS = 40  # ids that fit into a tag


def keep(
    comparison: Comparison,
    page: str,
    mlruns: Path,
    uri: str,
    *,
    prevalence: float | None = None,
    published: Mapping[str, tuple[float, float]] | None = None,
) -> str:
    """Journal a comparison and publish it; said again of the same runs it is the same run. Returns the run's id."""
    members = [entry.run.run_id for entry in comparison.entries]
    asked = (members, comparison.level, comparison.split, prevalence, sorted((published or {}).items()))
    reference = comparison.reference
    journal = Journal(mlruns)
    run = journal.run(f"comparison-{digest(*asked, reference.run.run_id if reference else '')}")
    run.begin(
        kind=Kind.comparison,
        name=f"compare {len(members)} {comparison.level} {comparison.split}",
        study="",
        parent=None,
        experiment=str(comparison.entries[0].run.run.identity["experiment"]),
        tags={
            "dataset": comparison.entries[0].run.tags.get("dataset", ""),
            "domain": comparison.entries[0].run.tags.get("domain", "mammography"),
            "synthetic": str(comparison.synthetic).lower(),
            "members": " ".join(members[:MOST_MEMBERS]),
            "reference": reference.run.run_id if reference else "none",
            "level": str(comparison.level),
            "split": comparison.split,
        },
    )
    with record.ending(run):
        run.params({} if prevalence is None else {"prevalence": prevalence})
        run.write("compare.html", page)
        run.write("table.csv", comparison.table.to_csv(index=False, float_format="%.6g"))
        run.write("tests.csv", comparison.tests.to_csv(index=False, float_format="%.6g"))
        run.write("subgroups.csv", comparison.subgroups.to_csv(index=False, float_format="%.6g"))
        run.note("\n\n".join(comparison.lines))
    Publisher(journal, uri, mlruns).close(ENOUGH)
    return run.run_id
