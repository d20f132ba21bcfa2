"""Every metric of a two-class table of scores, for many weightings of its rows at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mammo_lightning.errors import DataError
from mammo_lightning.evaluation.logistic import BOUND, intercept_alone, logit, slope_and_intercept

Floats = NDArray[np.float64]

NAMES = (
    "auc",
    "ap",
    "pauc",
    "tpr",
    "fpr",
    "accuracy",
    "balanced_accuracy",
    "precision",
    "recall",
    "f1",
    "mcc",
    "brier",
    "calibration_slope",
    "calibration_intercept",
    "ece",
)
MAX_FPR = 0.2  # of the partial AUC
BINS = 10  # of the expected calibration error
ALIKE = 1e-6  # scores whose logits vary less than this have no calibration slope
_CHUNK = 2**17  # weights looked at together: 1 MB a matrix stays within the cache


@dataclass(frozen=True)
class _Ranked:
    """Rows in descending order of score, with the starts of blocks of equal scores."""

    order: NDArray[np.intp]
    starts: NDArray[np.intp]
    scores: Floats  # one a block
    labels: Floats  # one a row, in order

    @classmethod
    def of(cls, labels: NDArray[np.int64], scores: Floats) -> _Ranked:
        order = np.argsort(-scores, kind="stable")
        ranked = scores[order]
        starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        return cls(order, starts, ranked[starts], labels[order].astype(float))

    def blocks(self, weights: NDArray[np.generic]) -> tuple[Floats, Floats]:
        """Weight of positives and of all rows in each block, (weightings, blocks)."""
        total = weights[:, self.order].astype(float)
        positive = total * self.labels
        if len(self.starts) == len(self.order):
            return positive, total
        return np.add.reduceat(positive, self.starts, axis=1), np.add.reduceat(total, self.starts, axis=1)


def _ratio(numerator: Floats, denominator: Floats, otherwise: float) -> Floats:
    out = np.full(np.shape(numerator), otherwise)
    return np.asarray(np.divide(numerator, denominator, out=out, where=denominator != 0), float)


def _ranking(positive: Floats, total: Floats) -> dict[str, Floats]:
    """AUC, average precision and standardised partial AUC from blocks in descending order of score."""
    negative = total - positive
    above, false = positive.cumsum(axis=1), negative.cumsum(axis=1)
    positives, negatives = above[:, -1], false[:, -1]
    rows = "ij,ij->i"
    auc = _ratio(np.einsum(rows, negative, above - 0.5 * positive), positives * negatives, np.nan)
    precision = _ratio(above, above + false, 0.0)
    ap = _ratio(np.einsum(rows, positive, precision), positives, np.nan)
    # A block is a straight piece of the ROC curve; the piece that crosses MAX_FPR is cut where it crosses.
    limit = (MAX_FPR * negatives)[:, None]
    width = np.clip(limit - (false - negative), 0.0, negative)
    height = above - positive * (1.0 - 0.5 * _ratio(width, negative, 0.0))
    partial = _ratio(np.einsum(rows, width, height), positives * negatives, np.nan)
    least = 0.5 * MAX_FPR**2
    return {"auc": auc, "ap": ap, "pauc": 0.5 * (1.0 + (partial - least) / (MAX_FPR - least))}


def _counting(labels: Floats, decisions: NDArray[np.bool_], weights: Floats) -> dict[str, Floats]:
    """Metrics at the operating point; 0 where nothing is called positive, as scikit-learn has it."""
    cells = np.stack([labels * decisions, (1 - labels) * decisions, labels, 1 - labels], axis=1)
    tp, fp, positives, negatives = (weights @ cells).T
    fn, tn = positives - tp, negatives - fp
    tpr, fpr = _ratio(tp, positives, np.nan), _ratio(fp, negatives, np.nan)
    precision = _ratio(tp, tp + fp, 0.0)
    spread = np.sqrt((tp + fp) * positives * negatives * (fn + tn))
    return {
        "tpr": tpr,
        "fpr": fpr,
        "accuracy": (tp + tn) / (positives + negatives),
        "balanced_accuracy": 0.5 * (tpr + 1.0 - fpr),
        "precision": precision,
        "recall": tpr,
        "f1": _ratio(2 * tp, 2 * tp + fp + fn, 0.0),
        "mcc": _ratio(tp * tn - fp * fn, spread, 0.0),
    }


def equal_mass_bins(total: Floats, bins: int = BINS) -> NDArray[np.int64]:
    """The bin of each block of equal scores, 0 for the lowest scores: bins hold equal weight as far as ties allow.

    A block goes where the middle of its weight lies, so a weight of two is the same as the row given twice.

    Args:
        total: weight of each block in descending order of score, (weightings, blocks).
        bins: how many.
    """
    middle = 1.0 - (total.cumsum(axis=1) - 0.5 * total) / total.sum(axis=1, keepdims=True)
    # A middle that lies on an edge in exact arithmetic must not fall to either side by rounding.
    return np.asarray(np.clip(np.floor(bins * middle + 1e-9), 0, bins - 1), np.int64)


def _calibration(
    scores: Floats, positive: Floats, total: Floats, start: tuple[float, float, float]
) -> dict[str, Floats]:
    mass = total.sum(axis=1)
    squared = positive @ (1.0 - scores) ** 2 + (total - positive) @ scores**2
    feature = logit(scores)
    slope, _ = slope_and_intercept(feature, positive, total, start=start[:2])
    centred = feature - feature.mean()
    spread = total @ centred**2 / mass - (total @ centred / mass) ** 2
    slope = np.where((spread < ALIKE**2) | (np.abs(slope) >= BOUND), np.nan, slope)
    intercept = intercept_alone(feature, positive, total, start=start[2])
    flat = equal_mass_bins(total) + BINS * np.arange(len(total))[:, None]
    gaps = np.bincount(flat.ravel(), (total * scores - positive).ravel(), minlength=BINS * len(total))
    ece = np.abs(gaps).reshape(len(total), BINS).sum(axis=1) / mass
    return {"brier": squared / mass, "calibration_slope": slope, "calibration_intercept": intercept, "ece": ece}


def measure(
    labels: ArrayLike, scores: ArrayLike, decisions: ArrayLike, weights: NDArray[np.generic] | None = None
) -> dict[str, Floats]:
    """All metrics of `NAMES`, one value for each weighting of the rows.

    `auc` counts ties half; `ap` is the step-wise average precision; `pauc` is McClish's standardised partial AUC for
    FPR <= 0.2. `tpr`, `fpr` ... `mcc` are of the decisions; a ratio 0/0 is 0 (precision, f1, mcc), as in scikit-learn.
    `calibration_slope` is the slope of a logistic regression on the logit of the score (1 is right, below 1 is
    overconfident; NaN where all scores are alike or it would leave +-100); `calibration_intercept` is calibration in
    the large: the intercept with the slope held at 1 (0 is right). `ece` has 10 bins of equal mass. What needs both
    classes is NaN where a weighting holds one.

    Args:
        labels: 0 or 1, one a row.
        scores: probability of the positive class, one a row.
        decisions: called positive at the operating point, one a row.
        weights: multiplicities, (weightings, rows); None is one weighting with 1 everywhere.
    """
    truth, values = np.asarray(labels, np.int64), np.asarray(scores, float)
    called = np.asarray(decisions, bool)
    if not truth.size or not truth.shape == values.shape == called.shape:
        raise DataError(
            f"{truth.size} labels, {values.size} scores, {called.size} decisions; expected one of each a row"
        )
    ranked, rows = _Ranked.of(truth, values), truth.size
    ones = np.ones((1, rows))
    positive, total = ranked.blocks(ones)
    feature = logit(ranked.scores)
    slope, intercept = slope_and_intercept(feature, positive, total)
    large = intercept_alone(feature, positive, total)
    start = (float(slope[0]), float(intercept[0]), float(large[0]))
    weights = ones if weights is None else np.atleast_2d(weights)
    parts: list[dict[str, Floats]] = []
    step = max(1, _CHUNK // rows)
    for first in range(0, len(weights), step):
        chunk = weights[first : first + step]
        positive, total = ranked.blocks(chunk)
        parts.append(
            _ranking(positive, total)
            | _counting(truth.astype(float), called, chunk.astype(float))
            | _calibration(ranked.scores, positive, total, start)
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in NAMES}


def auc_of(labels: ArrayLike, scores: ArrayLike, weights: NDArray[np.generic]) -> Floats:
    """The area under the ROC curve for each weighting of the rows, ties counted half; NaN where it holds one class."""
    truth, values = np.asarray(labels, np.int64), np.asarray(scores, float)
    ranked = _Ranked.of(truth, values)
    return _ranking(*ranked.blocks(weights))["auc"]


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve, ties counted half; NaN where there is one class."""
    return float(auc_of(labels, scores, np.ones((1, np.asarray(labels).size)))[0])
