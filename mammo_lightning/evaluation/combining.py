"""From the scores of several members to one score: voting, means, weights, stacking, greedy selection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammo_lightning.errors import DataError, SettingsError, one_of
from mammo_lightning.evaluation.calibrators import Calibrator, calibrator_from, fit_calibrator
from mammo_lightning.evaluation.logistic import logit, sigmoid

Floats = NDArray[np.float64]

RULES = ("majority", "mean", "weighted", "stacking", "greedy")
#: the control that every ensemble is shown beside
UNIFORM = "uniform"
FLOOR = 0.01  # of a weight, as in the published weighted ensemble; less where there are very many members
SUM_WEIGHT = 1e4  # of the equation that weights sum to 1, beside those of the rows
DRAWS = 25  # of greedy selection, unless another number is asked for


@dataclass(frozen=True)
class Combiner:
    """A rule with what was fitted for it: scores of members (members x rows) to one score a row.

    `majority`: the share of members that call a row positive (score above 0.5); a row is called positive by more than
    half of them, so a tie is negative. `mean`: the mean. `weighted` and `greedy`: a weighted mean. `stacking`: logistic
    regression on the members' log-odds. What comes out may be calibrated.
    """

    rule: str
    weights: tuple[float, ...]
    intercept: float = 0.0
    calibrator: Calibrator | None = None

    def __call__(self, scores: NDArray[np.floating]) -> Floats:
        """One score a row."""
        given = np.asarray(scores, float)
        if len(given) != len(self.weights):
            raise DataError(f"{len(given)} members scored, and the ensemble has {len(self.weights)}; score with all")
        weights = np.asarray(self.weights)
        if self.rule == "majority":
            combined = (given > 0.5).T @ weights
        elif self.rule == "stacking":
            combined = sigmoid(logit(given).T @ weights + self.intercept)
        else:
            combined = given.T @ weights
        return self.calibrator(combined) if self.calibrator else np.asarray(np.clip(combined, 0.0, 1.0), float)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        kept: dict[str, Any] = {"rule": self.rule, "weights": list(self.weights), "intercept": self.intercept}
        return kept | ({"calibrator": self.calibrator.as_dict()} if self.calibrator else {})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Combiner:
        """What `as_dict` gave."""
        try:
            weights = tuple(float(weight) for weight in values["weights"])
            intercept = float(values.get("intercept", 0.0))
            rule = values["rule"]
        except (KeyError, TypeError, ValueError):
            raise DataError(f"combiner {dict(values)!r} cannot be read; expected a rule and numbers weights") from None
        if rule not in (*RULES, UNIFORM) or not weights or not np.isfinite([*weights, intercept]).all():
            raise DataError(f"combiner {dict(values)!r} has no known rule or no finite weights; {one_of(RULES)}")
        kept = values.get("calibrator")
        return cls(rule, weights, intercept, calibrator_from(kept) if kept else None)


def majority_threshold(members: int) -> float:
    """Midway between the largest share of votes that is no majority and the least that is one."""
    return (members // 2 + 0.5) / members


def fit_combiner(
    rule: str, scores: Floats, labels: NDArray[np.int64], folds: NDArray[np.int64], *, draws: int = DRAWS
) -> Combiner:
    """Fit what a rule needs, on rows that no member was trained on.

    Args:
        rule: One of `RULES`, or `uniform`.
        scores: Of members x rows.
        labels: 0 or 1 a row.
        folds: Within which rows are ranked; scores of several folds are of several networks.
        draws: How often greedy selection draws a member.
    """
    count = len(scores)
    even = tuple([1.0 / count] * count)
    match rule:
        case "majority" | "mean" | "uniform":
            return Combiner(rule, even)
        case "weighted":
            return Combiner(rule, simplex_weights(scores, labels))
        case "stacking":
            from sklearn.linear_model import LogisticRegression

            fitted = LogisticRegression(C=1.0, max_iter=1000).fit(logit(scores).T, labels)
            return Combiner(rule, tuple(map(float, fitted.coef_[0])), float(fitted.intercept_[0]))
        case "greedy":
            return Combiner(rule, greedy_weights(scores, labels, folds, draws=draws))
    raise SettingsError(f"no rule {rule!r} to combine by; {one_of(RULES)}")


def simplex_weights(scores: Floats, labels: NDArray[np.int64], floor: float = FLOOR) -> tuple[float, ...]:
    """Weights that sum to 1, none below the floor, with the least squared error of the weighted mean.

    The published ensemble walked there by gradient steps, clamping and dividing; the problem is convex and has one
    answer.
    """
    from scipy.optimize import nnls

    count = len(scores)
    least = min(floor, 0.5 / count)
    free = 1.0 - count * least  # what is left to give when every weight stands at the floor
    wanted = labels - least * scores.sum(axis=0)
    # as many rows as members
    reduced = np.asarray(np.linalg.qr(np.column_stack([free * scores.T, wanted]), mode="r"), float)
    heavy = SUM_WEIGHT * max(1.0, float(np.abs(reduced).max()))
    part, _ = nnls(np.vstack([reduced[:, :-1], np.full(count, heavy)]), np.append(reduced[:, -1], heavy))
    return tuple(map(float, least + free * part / part.sum()))


def greedy_weights(
    scores: Floats, labels: NDArray[np.int64], folds: NDArray[np.int64], *, draws: int = DRAWS
) -> tuple[float, ...]:
    """How often each member was drawn: at every draw the one whose addition gives the best mean fold AUC.

    Selection with replacement after Caruana et al. 2004; the bag with the best AUC of all that were passed is kept.
    """
    total = np.zeros(scores.shape[1], np.float32)
    given = np.asarray(scores, np.float32)
    counts, best, kept = np.zeros(len(scores)), -1.0, np.zeros(len(scores))
    for _ in range(max(1, draws)):
        found = mean_fold_aucs(total + given, labels, folds)
        choice = int(found.argmax())
        total += given[choice]
        counts[choice] += 1
        if found[choice] > best + 1e-9:
            best, kept = float(found[choice]), counts.copy()
    return tuple(map(float, kept / kept.sum()))


def mean_fold_aucs(scores: NDArray[np.floating], labels: NDArray[np.int64], folds: NDArray[np.int64]) -> Floats:
    """The mean of the AUCs of folds for each of many candidates (candidates x rows)."""
    parts = []
    for fold in np.unique(folds):
        rows = folds == fold
        high, low = rows & (labels == 1), rows & (labels == 0)
        if high.any() and low.any():
            parts.append(_aucs(scores[:, high], scores[:, low]))
    if not parts:
        raise DataError("no fold holds both classes; members cannot be ranked. Use fewer folds")
    return np.asarray(np.mean(parts, axis=0), float)


def _aucs(positives: NDArray[np.floating], negatives: NDArray[np.floating]) -> Floats:
    high, low = np.sort(positives, axis=1), np.sort(negatives, axis=1)  # sorted needles stay in the processor's cache
    won = np.array(
        [
            each.searchsorted(row, "left").sum() + each.searchsorted(row, "right").sum()
            for row, each in zip(high, low, strict=True)
        ],
        float,
    )
    return np.asarray(won / (2.0 * high.shape[1] * low.shape[1]), float)


def with_calibration(combiner: Combiner, name: str | None, scores: Floats, labels: NDArray[np.int64]) -> Combiner:
    """The combiner with a calibrator of its output, fitted on the rows it was fitted on."""
    if name is None:
        return combiner
    return replace(combiner, calibrator=fit_calibrator(name, labels, combiner(scores)))
