"""Logistic regression on one feature for many weightings of the same rows at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CLIP = 1e-7  # scores are held this far from 0 and 1, so that their logits stay within +-16.1
BOUND = 100.0  # a slope or intercept that would run away (separable classes) stops here
_LARGEST_STEP = 2.0  # in units of the standardised feature: a full Newton step may overshoot far from the solution
_TOLERANCE = 1e-7


def logit(scores: NDArray[np.floating]) -> Floats:
    """Log-odds of scores, which are first clipped to [1e-7, 1 - 1e-7]."""
    clipped = np.clip(np.asarray(scores, float), CLIP, 1.0 - CLIP)
    return np.asarray(np.log(clipped) - np.log1p(-clipped), float)


def sigmoid(values: Floats) -> Floats:
    """The inverse of `logit`, without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * np.asarray(values, float))), float)


def slope_and_intercept(
    feature: Floats,
    positive: Floats,
    total: Floats,
    *,
    ridge: float = 1e-6,
    start: tuple[float, float] = (1.0, 0.0),
) -> tuple[Floats, Floats]:
    """Fit P(positive) = sigmoid(slope * feature + intercept) by Newton's method, one fit for each weighting.

    The ridge pulls towards slope 1 and intercept 0 (on the standardised feature), so that separable classes, one
    class alone or a constant feature have an answer; results are bounded by +-100.

    Args:
        feature: one value a row.
        positive: weight of positive labels, (weightings, rows).
        total: weight of all labels, (weightings, rows).
        ridge: strength of the pull, in units of one row of weight 1.
        start: slope and intercept to start from; a good start saves iterations.

    Returns:
        Slopes and intercepts, one a weighting.
    """
    centre, scale = float(feature.mean()), float(feature.std()) or 1.0
    design = np.stack([(feature - centre) / scale, np.ones_like(feature)], axis=1)
    squares = np.stack([design[:, 0] ** 2, design[:, 0], design[:, 1]], axis=1)
    prior = np.array([scale, centre])  # the identity, written for the standardised feature
    solution = np.tile([start[0] * scale, start[1] + start[0] * centre], (len(total), 1))
    target = positive @ design
    active = np.arange(len(total))
    before, longest = np.zeros_like(solution), np.full((len(total), 1), _LARGEST_STEP)
    for _ in range(60):
        weight = total if len(active) == len(total) else total[active]
        chance = sigmoid(solution[active] @ design.T)
        expected = weight * chance
        gradient = target[active] - expected @ design - ridge * (solution[active] - prior)
        curvature = (expected * (1.0 - chance)) @ squares
        first, mixed, second = curvature[:, 0] + ridge, curvature[:, 1], curvature[:, 2] + ridge
        determinant = np.maximum(first * second - mixed**2, 1e-300)
        step = np.stack(
            [second * gradient[:, 0] - mixed * gradient[:, 1], first * gradient[:, 1] - mixed * gradient[:, 0]], axis=1
        )
        # a fit that turns round takes shorter steps: two that overshoot would otherwise follow each other for ever
        turned = (step * before[active]).sum(axis=1, keepdims=True) < 0
        longest[active] = np.where(turned, longest[active] / 2, longest[active])
        step = np.clip(step / determinant[:, None], -longest[active], longest[active])
        solution[active] += step
        before[active] = step
        active = active[np.abs(step).max(axis=1) > _TOLERANCE]
        if not len(active):
            break
    slope = solution[:, 0] / scale
    return np.clip(slope, -BOUND, BOUND), np.clip(solution[:, 1] - slope * centre, -BOUND, BOUND)


def intercept_alone(feature: Floats, positive: Floats, total: Floats, *, start: float = 0.0) -> Floats:
    """The intercept where the slope is held at 1 (calibration in the large), one for each weighting."""
    solution = np.full(len(total), start)
    target = positive.sum(axis=1)
    active = np.arange(len(total))
    before, longest = np.zeros(len(total)), np.full(len(total), _LARGEST_STEP)
    for _ in range(60):
        weight = total if len(active) == len(total) else total[active]
        chance = sigmoid(solution[active, None] + feature)
        expected = weight * chance
        gradient = target[active] - expected.sum(axis=1)
        curvature = np.maximum(np.einsum("ij,ij->i", expected, 1.0 - chance), 1e-300)
        longest[active] = np.where(gradient * before[active] < 0, longest[active] / 2, longest[active])
        step = np.clip(gradient / curvature, -longest[active], longest[active])
        solution[active] += step
        before[active] = step
        active = active[np.abs(step) > _TOLERANCE]
        if not len(active):
            break
    return np.asarray(np.clip(solution, -BOUND, BOUND), float)
