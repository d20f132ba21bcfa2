"""All that is known of some runs beside each other, and the sentence that says which differences are real."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mammo_lightning.comparison.entries import Entry, entries_of
from mammo_lightning.comparison.figures import REPLICATES, figures, row_of, subgroups_of
from mammo_lightning.comparison.pairs import OTHER_FOLDS, other_images, paired_tests
from mammo_lightning.comparison.sentence import sentence
from mammo_lightning.evaluation.statistics import Estimate
from mammo_lightning.runs import Scored
from mammo_lightning.types import Kind, Level

#: kinds whose settings say how they were made, so that two with the same ones differ by their seed alone
SETTLED = (Kind.trial, Kind.final, Kind.reference)


@dataclass(frozen=True)
class Comparison:
    """What is known of some runs beside each other."""

    entries: tuple[Entry, ...]
    level: Level
    split: str
    #: one row a run: each figure with `_lo` and `_hi`, counts, the operating point
    table: pd.DataFrame
    #: one row a run and value of a subgroup column, at the one frozen threshold
    subgroups: pd.DataFrame
    #: one row a paired test against the reference
    tests: pd.DataFrame
    #: the sentence, then what else must be said
    lines: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """Which differences are real."""
        return self.lines[0]

    @property
    def synthetic(self) -> bool:
        """Whether images of any run were generated."""
        return any(entry.run.synthetic for entry in self.entries)

    @property
    def reference(self) -> Entry | None:
        """The run that was named to be compared with."""
        return next((entry for entry in self.entries if entry.reference), None)

    @property
    def classes(self) -> tuple[str, str]:
        """The negative and the positive class."""
        known = self.entries[0].table.classes
        return known[0], known[-1]

    @property
    def dataset(self) -> str:
        """The images, as the tracking folder calls them."""
        return " + ".join(dict.fromkeys(str(entry.run.run.identity["experiment"]) for entry in self.entries))

    def estimate(self, number: int, figure: str) -> Estimate:
        """A figure of a run of the table."""
        row = self.table.iloc[number]
        return Estimate(float(row[figure]), float(row[f"{figure}_lo"]), float(row[f"{figure}_hi"]))


def compare(
    runs: Sequence[Scored],
    *,
    reference: Scored | None = None,
    level: str | None = None,
    split: str = "val",
    replicates: int = REPLICATES,
) -> Comparison:
    """Compare runs by what they predicted.

    Args:
        runs: Finished runs; one given twice counts once.
        reference: The run they are tested against, named before the figures were seen.
        level: Of the rows; the first run's where none is given.
        split: `val` (out of fold) or `test`.
        replicates: Of each bootstrap.
    """
    entries = entries_of(runs, reference=reference, level=level, split=split)
    table = pd.DataFrame([row_of(entry, figures(entry, replicates)) for entry in entries])
    table["spread"] = _spread(entries, table)
    tests, untested = paired_tests(entries, 2 * replicates)
    chosen = [entry.name for entry in entries if entry.chosen]
    lines = (sentence(entries, tests, chosen), *_remarks(entries, table, tests, chosen), *untested)
    return Comparison(
        entries, entries[0].level, split, table, subgroups_of(entries, replicates), tests, tuple(dict.fromkeys(lines))
    )


def _remarks(
    entries: Sequence[Entry], table: pd.DataFrame, tests: pd.DataFrame, chosen: Sequence[str]
) -> Iterator[str]:
    """What a reader must know before believing a figure."""
    if any(entry.run.synthetic for entry in entries):
        yield "SYNTHETIC images: these figures say nothing about patients."
    for entry in entries:
        if entry.run.leaky:
            yield f"{entry.name} is leaky: patients stood on both sides of its folds."
        if unverified := entry.run.tags.get("unverified"):
            yield f"{entry.name} was predicted elsewhere; unverified: {unverified}."
        if entry.decisions is None:
            yield f"{entry.name} has no operating point at level {entry.level}: no TPR and FPR."
    chance = [str(row["name"]) for row in table.to_dict("records") if row["auc_lo"] <= 0.5 <= row["auc_hi"]]
    if chance:
        yield f"Not shown to be better than chance: {', '.join(chance)}."
    if len(rules := {entry.point.split(",")[0] for entry in entries if entry.decisions is not None}) > 1:
        yield f"Operating points follow different rules ({', '.join(sorted(rules))}): TPR and FPR differ by choice too."
    marked = list(dict.fromkeys(tests.loc[tests["mark"] == OTHER_FOLDS, "name"]))
    if marked:
        yield f"On other folds than the reference, hence compared by pooled rows alone: {', '.join(marked)}."
    if len(judged := {entry.judged for entry in entries}) > 1:
        yield f"Judged on different rows: {', '.join(sorted(judged))}."
    first = entries[0]
    if not any(entry.reference for entry in entries):  # with one, what is not tested says why
        if elsewhere := [entry.name for entry in entries if other_images(first, entry)]:
            yield f"Not on the same images as {first.name}: {', '.join(elsewhere)}."
    if chosen:
        yield (
            f"Out-of-fold figures of a run that was chosen on these images are optimistic: {', '.join(chosen)}. "
            "The test split is where they are not (--test)."
        )
    yield from dict.fromkeys(entry.reads for entry in entries if entry.split == "test" and entry.reads)


def _spread(entries: Sequence[Entry], table: pd.DataFrame) -> list[str]:
    """How far runs lie apart that differ by their seed alone, or are trials of one study."""
    aucs = table["auc"].to_numpy(float)
    seeds = [_settings(entry) for entry in entries]
    studies = [str(entry.run.run.identity["study"]) if entry.run.kind is Kind.trial else "" for entry in entries]
    told = []
    for number in range(len(entries)):
        alike = [other for other, key in enumerate(seeds) if key and key == seeds[number]]
        trials = [other for other, name in enumerate(studies) if name and name == studies[number]]
        rows, what = (alike, "seeds") if len(alike) > 1 else (trials, "trials")
        if len(rows) < 2:
            told.append("")
            continue
        low, high, spread = aucs[rows].min(), aucs[rows].max(), np.std(aucs[rows], ddof=1)
        told.append(f"{len(rows)} {what}: {low:.3f}–{high:.3f}, sd {spread:.3f}")
    return told


def _settings(entry: Entry) -> str:
    """What runs share that differ by their seed alone; empty where the run does not say how it was made."""
    run = entry.run
    known = run.kind in SETTLED and bool(run.run.read_params())
    return str((run.kind, run.tags.get("dataset"), entry.family)) if known else ""
