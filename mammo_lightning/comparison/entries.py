"""Runs as they can stand beside each other: at one level, on one split, each at its own operating point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo_lightning.ensembles.members import BY_HAND
from mammo_lightning.errors import DataError, SettingsError, one_of
from mammo_lightning.evaluation.thresholds import apply, cross_fitted, decided_on, parse
from mammo_lightning.runs import Scored
from mammo_lightning.types import Kind, Level, Predictions, Split

Bools = NDArray[np.bool_]
#: the rule of a threshold that came with predictions made elsewhere
GIVEN = "given"
JUDGED = {"val": "out of fold", "reserve": "reserved patients", "test": "test split", "external": "external"}


@dataclass(frozen=True)
class Entry:
    """One run of a comparison, its rows at the level compared and in the order of their images."""

    run: Scored
    name: str
    split: str
    table: Predictions
    #: the same rows, to be read as probabilities
    sure: Predictions
    #: the same rows with the scores that the threshold is one of
    decided: Predictions
    #: called positive; None where the run has no operating point for the level
    decisions: Bools | None
    threshold: float
    point: str
    level: Level
    reference: bool = False

    @property
    def folded(self) -> bool:
        """Whether its rows were scored in more than one fold."""
        return len(set(self.table.folds)) > 1 and self.run.judged_on != "reserve"

    @property
    def judged(self) -> str:
        """The rows it is judged on, in words."""
        return JUDGED[self.run.judged_on if self.split == Split.val else self.split]

    @property
    def probable(self) -> bool:
        """Whether its scores can be read as probabilities; some that were made elsewhere only rank."""
        return self.run.tags.get("scores") != "ranks"

    @property
    def family(self) -> str:
        """Runs of one family differ by their seed alone."""
        return str((self.run.tags.get("classifier"), sorted(self.run.run.read_params().items())))

    @property
    def chosen(self) -> bool:
        """Whether it is the one of several that looked best on the very rows it stands here with."""
        if self.split != Split.val:
            return False
        if self.run.kind is Kind.ensemble:
            return self.run.run.read_params().get("by") == BY_HAND
        if self.run.kind not in (Kind.trial, Kind.final):
            return False
        recipe = self.run.recipe
        if recipe is None:
            return True  # nothing says that it was the only one
        # each outer fold of a nested study is scored by what was chosen without it
        return recipe.trials > 1 and not (self.run.kind is Kind.final and recipe.scheme == "nested")

    @property
    def reads(self) -> str:
        """How often the test split had been read when the run read it, as far as the run knows."""
        count = self.run.tags.get("test_reads") or (self.run.study and self.run.study.read_tags().get("test_reads"))
        return f"{self.name}: its figures are of read {count} of the test split." if count else ""

    def cells(self) -> tuple[int, int, int, int]:
        """True positives, false negatives, false positives, true negatives; zeros without an operating point."""
        if self.decisions is None:
            return 0, 0, 0, 0
        called, truth = self.decisions, self.table.labels == 1
        counted = (called & truth, ~called & truth, called & ~truth, ~called & ~truth)
        first, second, third, fourth = (int(mask.sum()) for mask in counted)
        return first, second, third, fourth


def entries_of(
    runs: Sequence[Scored], *, reference: Scored | None = None, level: str | None = None, split: str = "val"
) -> tuple[Entry, ...]:
    """The runs as they can stand beside each other, the reference last; what cannot be compared at all is refused.

    Args:
        runs: Finished runs; one given twice counts once.
        reference: The run to be compared with, named before the figures were seen.
        level: Of the rows; the first run's where none is given.
        split: `val` or `test`; a run of predictions made elsewhere stands in with its own split, `external`.
    """
    unique = {run.run_id: run for run in runs if reference is None or run.run_id != reference.run_id}
    unique |= {reference.run_id: reference} if reference else {}
    if not unique:
        raise SettingsError("0 runs to compare; name at least one run or study")
    members = list(unique.values())
    _refuse_mixed(members)
    chosen = Level(level) if level in tuple(Level) else None
    if level is not None and chosen is None:
        raise SettingsError(f"no level {level!r}; {one_of(Level)}")
    _refuse_other_classes(members, split)
    names = _names(members)
    return tuple(_entry(run, names[run.run_id], chosen or members[0].level, split, run is reference) for run in members)


def _refuse_mixed(members: list[Scored]) -> None:
    domains = {run.tags.get("domain", "mammography"): run for run in members}
    if len(domains) > 1:
        (one, first), (other, second), *_ = domains.items()
        raise DataError(
            f"run '{first.run_id}' is of {one}, run '{second.run_id}' of {other}; compare runs of one domain"
        )


def _refuse_other_classes(members: list[Scored], split: str) -> None:
    first = members[0].predictions(_own_split(members[0], split)).classes
    for run in members[1:]:
        classes = run.predictions(_own_split(run, split)).classes
        if (classes[0], classes[-1]) != (first[0], first[-1]):
            raise DataError(
                f"run '{run.run_id}' tells {' from '.join(classes)}, run '{members[0].run_id}' {' from '.join(first)}; "
                "compare runs of one task"
            )


def _own_split(run: Scored, split: str) -> str:
    """Predictions made elsewhere have but one split, and stand in with it."""
    return split if run.has(split) or not run.has("external") else "external"


def _names(members: list[Scored]) -> dict[str, str]:
    """Each run by as few words as tell it from the others."""
    one_study = len({run.run.identity["study"] for run in members}) == 1
    short = {}
    for run in members:
        study, name = (str(run.run.identity[key] or "") for key in ("study", "name"))
        alike = [each for each in members if each.kind is run.kind]
        if run.kind is Kind.reference:
            name = name.removeprefix("reference ")
            parts = [name] if one_study or alike == [run] else [study, name]
        elif run.kind is Kind.final and sum(each.run.identity["study"] == study for each in alike) == 1:
            parts = [study]
        else:
            name = name.split()[0] if run.kind is Kind.trial else name
            parts = [name] if one_study else [study, name]
        short[run.run_id] = " ".join(part for part in parts if part) or run.run_id
    counts = pd.Series(list(short.values())).value_counts()
    return {run_id: name if counts[name] == 1 else run_id for run_id, name in short.items()}


def _entry(run: Scored, name: str, level: Level, split: str, reference: bool) -> Entry:
    own = _own_split(run, split)
    predictions = run.predictions(own)
    if level not in run.levels:
        raise DataError(
            f"run '{run.run_id}' was not judged at level {level}; {one_of(run.levels)}. Pass --level {run.levels[0]}"
        )
    table = predictions.at(level)
    if not 0 < table.labels.sum() < len(table):
        raise DataError(
            f"run '{run.run_id}' has {table.counts()} at level {level}; a comparison needs both classes, pass --level"
        )
    calibrated = run.calibrated(own)
    decisions, threshold, point = _decided(run, predictions, calibrated, level, own)
    order = np.argsort(table.frame["image"].to_numpy(), kind="stable")
    rows = Predictions(table.frame.iloc[order].reset_index(drop=True))
    deciding = decided_on(run.rule, predictions, calibrated) if own == Split.val else predictions
    sure = rows if calibrated is None else Predictions(calibrated.at(level).frame.iloc[order].reset_index(drop=True))
    return Entry(
        run,
        name,
        own,
        rows,
        sure,
        sure if deciding is calibrated else rows,
        None if decisions is None else decisions[order],
        threshold,
        point,
        level,
        reference,
    )


def _decided(
    run: Scored, predictions: Predictions, calibrated: Predictions | None, level: Level, split: str
) -> tuple[Bools | None, float, str]:
    """Decisions at the run's own operating point: cross-fitted out of fold, frozen elsewhere."""
    given = run.tags.get("operating_point") == GIVEN
    if run.kind is Kind.external and "operating_point" not in run.tags:
        return None, math.nan, "none"
    if split == Split.val and not given and (len(set(predictions.folds)) > 1 or parse(run.rule)[0] == "fixed"):
        decisions, points = cross_fitted(decided_on(run.rule, predictions, calibrated), run.rule, level)
        return decisions, float(np.mean([each.threshold for each in points.values()])), f"{run.rule}, cross-fitted"
    point = run.points.get(level) if given or split != Split.val else None
    if point is not None:
        origin = run.tags.get("threshold_origin", "frozen")
        return apply(predictions, point), point.threshold, point.rule if given else f"{point.rule}, {origin}"
    # a reference keeps its frozen threshold as a figure, at the level of its study
    kept = run.metrics.get("threshold" if split == Split.val else f"{split}_threshold")
    if kept is None or level is not run.level:
        return None, math.nan, "none"
    return predictions.at(level).scores >= kept, kept, f"{run.rule}, frozen"
