"""Operating points: chosen on validation rows, for a fold from the other folds, and applied as they are."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from mammo_lightning.errors import DataError, LeakError, SettingsError
from mammo_lightning.types import LEVEL_KEYS, Level, OperatingPoint, Predictions, Split

Floats = NDArray[np.float64]

RULES = ("youden", "sens0.95", "spec0.80", "fixed0.5")
_FORM = re.compile(r"(sens|spec|fixed)(\d*\.?\d+)")


def parse(rule: str) -> tuple[str, float]:
    """The kind of a rule and its target: `spec0.80` is ("spec", 0.8); `youden` has the target 0."""
    if rule == "youden":
        return rule, 0.0
    match = _FORM.fullmatch(rule)
    if match is None or not 0.0 < float(match[2]) < 1.0:
        raise SettingsError(
            f"no rule {rule!r} for an operating point; known forms: {', '.join(RULES)} (any number between 0 and 1)"
        )
    return match[1], float(match[2])


def _threshold(labels: NDArray[np.int64], scores: Floats, rule: str) -> float:
    kind, target = parse(rule)
    if kind == "fixed":
        return target
    positives, negatives = np.sort(scores[labels == 1]), np.sort(scores[labels == 0])
    if (kind != "spec" and not positives.size) or (kind != "sens" and not negatives.size):
        lacking = "positive" if not positives.size else "negative"
        raise DataError(f"no {lacking} row to choose '{rule}' on; use fewer folds, or rule fixed0.5")
    candidates = np.unique(scores)
    candidates = np.append(candidates, np.nextafter(candidates[-1], np.inf))  # the last calls nothing positive
    found = positives.size - positives.searchsorted(candidates, "left")
    cleared = negatives.searchsorted(candidates, "left")
    # 0.8 of 35 is 28.000000000000004 in floating point; 28 cleared must do.
    if kind == "spec":
        return float(candidates[np.flatnonzero(cleared >= target * negatives.size - 1e-9)[0]])
    if kind == "sens":
        return float(candidates[np.flatnonzero(found >= target * positives.size - 1e-9)[-1]])
    # Whole numbers: equal values of J must be equal, and the first of them is the one that misses fewest positives.
    return float(candidates[np.argmax(found * negatives.size + cleared * positives.size)])


def choose(predictions: Predictions, rule: str, level: Level | str) -> OperatingPoint:
    """Choose a threshold on validation rows.

    `spec0.80` is the lowest threshold with a specificity of at least 0.80 on these rows, `sens0.95` the highest with a
    sensitivity of at least 0.95, `youden` the one with the largest sensitivity + specificity (of equal ones the
    lowest: it misses fewest positives), `fixed0.5` is 0.5. Candidates are the scores that occur and one above all.

    Args:
        predictions: rows at patch level or at `level`.
        rule: one of the forms in `RULES`.
        level: at which the threshold is chosen and will be applied.

    Raises:
        LeakError: rows of a test or external split are among them.
        SettingsError: the rule is not known.
        DataError: a class that the rule needs is missing.
    """
    parse(rule)
    _refuse_walled(predictions, rule)
    level = Level(level)
    return _choose(predictions.at(level) if len(predictions) else predictions, rule, level)


def _refuse_walled(predictions: Predictions, rule: str) -> None:
    walled = predictions.frame["split"].astype(str).isin([Split.test.value, Split.external.value])
    if walled.any():
        raise LeakError(
            f"{int(walled.sum())} rows of split '{predictions.frame['split'][walled].iloc[0]}' given to choose "
            f"'{rule}'; an operating point is chosen on validation rows. Choose it there, then apply it."
        )


def _choose(table: Predictions, rule: str, level: Level) -> OperatingPoint:
    """As `choose`, on a table that is at the level already."""
    if not len(table):
        raise DataError(f"no rows to choose '{rule}' on; pass validation rows")
    return OperatingPoint(_threshold(table.labels, table.scores, rule), level, rule)


def apply(predictions: Predictions, point: OperatingPoint) -> NDArray[np.bool_]:
    """Which rows of `predictions.at(point.level)` are called positive: score >= threshold."""
    return np.asarray(_at(predictions, point.level).scores >= point.threshold, bool)


def _at(predictions: Predictions, level: Level) -> Predictions:
    """`predictions.at(level)`; rows that stand there already, in an order of their own, would lose it unnoticed."""
    table, keys = predictions.at(level), LEVEL_KEYS[level]
    if table is predictions or len(keys) < 2 or len(table) != len(predictions):
        return table
    named = predictions.frame[keys[0]].astype(str)
    for key in keys[1:]:
        named = named + "/" + predictions.frame[key].astype(str) if key in predictions.frame else named
    images = predictions.frame["image"].astype(str)
    already = bool(((images == named) | images.str.contains("\0", regex=False)).all())  # a patch of no lesion has a \0
    if already and not np.array_equal(predictions.scores, table.scores):
        raise DataError(
            f"{len(predictions)} rows stand at level {level} already, in another order than it has; decisions would "
            "go to other rows. Decide first and reorder then, or compare their scores with the threshold"
        )
    return table


def decided_on(rule: str, predictions: Predictions, calibrated: Predictions | None) -> Predictions:
    """The table a rule decides on: a fixed threshold is a probability, hence one of calibrated scores if there are."""
    return calibrated if calibrated is not None and parse(rule)[0] == "fixed" else predictions


def _refuse_shared_groups(first: NDArray[np.object_], second: NDArray[np.object_], what: str) -> None:
    shared = sorted(set(first.tolist()) & set(second.tolist()))
    if shared:
        raise LeakError(
            f"group '{shared[0]}' stands in {what} ({len(shared)} such); a group belongs to one side. Make new folds."
        )


def cross_fitted(
    predictions: Predictions, rule: str, level: Level | str, *, fitted_on: Predictions | None = None
) -> tuple[NDArray[np.bool_], dict[int, OperatingPoint]]:
    """Decisions for each fold by a threshold from the other folds only.

    Args:
        predictions: out-of-fold rows.
        rule: one of the forms in `RULES`.
        level: of the decisions.
        fitted_on: rows to choose on instead of the other folds; needed where there is one fold.

    Returns:
        Decisions aligned to the rows of `predictions.at(level)`, and the operating point of each fold.
    """
    kind, _ = parse(rule)
    folds = sorted(np.unique(predictions.folds).tolist())
    if len(folds) < 2 and fitted_on is None and kind != "fixed":
        raise DataError(
            f"{len(folds)} fold to choose '{rule}' for; a threshold comes from other rows than it is applied to. "
            "Pass fitted_on, use 2 folds or more, or rule fixed0.5."
        )
    level = Level(level)
    table = _at(predictions, level)
    chosen_on = fitted_on if fitted_on is not None else predictions
    _refuse_walled(chosen_on, rule)
    elsewhere = fitted_on.at(level) if fitted_on is not None else None
    groups, scores, in_fold = predictions.groups, table.scores, table.folds
    decisions = np.zeros(len(table), bool)
    points = {}
    for fold in folds:
        mine = predictions.folds == fold
        if fitted_on is not None or len(folds) > 1:
            what = f"fold {fold} and the rows its threshold is chosen on"
            _refuse_shared_groups(groups[mine], fitted_on.groups if fitted_on is not None else groups[~mine], what)
        rows = in_fold == fold
        # a row of the table is of one fold, so that the others' rows are those that were aggregated without it
        others = elsewhere if elsewhere is not None else table.where(~rows if len(folds) > 1 else rows)
        points[fold] = _choose(others, rule, level)
        decisions[rows] = scores[rows] >= points[fold].threshold
    return decisions, points
