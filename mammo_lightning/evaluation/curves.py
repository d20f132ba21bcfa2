"""Curves of `Predictions`: as points for the tracking server, as figures for paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mammo_lightning.errors import DataError
from mammo_lightning.evaluation.calibration import reliability
from mammo_lightning.evaluation.canvas import BLUE, DARK, GREY, ORANGE, TEXT, axes, figure, legend, png, unit_square
from mammo_lightning.evaluation.metrics import measure
from mammo_lightning.evaluation.statistics import Estimate, group_weights, intervals
from mammo_lightning.types import OperatingPoint, Predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["calibration_figure", "confusion_figure", "png", "pr_figure", "pr_points", "roc_figure", "roc_points"]

Floats = NDArray[np.float64]
Decisions = NDArray[np.bool_]

FPR, TPR = "1 − specificity (FPR)", "Sensitivity (TPR)"


def _vertices(labels: NDArray[np.int64], scores: Floats) -> tuple[Floats, Floats]:
    """Positives and negatives at or above each score that occurs, from the highest down, starting at 0, 0."""
    above, false = _weighted_vertices(labels, scores, np.ones((1, len(labels)), np.int16))
    return above[0], false[0]


def _weighted_vertices(labels: NDArray[np.int64], scores: Floats, weights: NDArray[np.int16]) -> tuple[Floats, Floats]:
    """The same for each weighting of the rows; where a block of equal scores weighs nothing, a vertex stands twice."""
    order = np.argsort(-scores, kind="stable")
    ranked, truth, mass = scores[order], labels[order], weights[:, order].astype(float)
    ends = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True])
    start = np.zeros((len(weights), 1))
    above = np.hstack([start, (mass * truth).cumsum(axis=1)[:, ends]])
    return above, np.hstack([start, (mass * (1 - truth)).cumsum(axis=1)[:, ends]])


def _both(predictions: Predictions) -> None:
    if not 0 < predictions.labels.sum() < len(predictions):
        raise DataError(f"{predictions.counts()}: a curve needs both classes; choose rows that hold both")


def _tpr_at(grid: Floats, above: Floats, false: Floats) -> Floats:
    """Sensitivity at each FPR of the grid: the upper end of a vertical step, straight across a block of ties."""
    tpr, fpr = above / above[-1], false / false[-1]
    # The grid's 0.3 and the curve's 3/10 may differ in the last digit, and would then read the foot of a step.
    last = np.clip(fpr.searchsorted(grid + 1e-12, "right") - 1, 0, len(fpr) - 1)
    after = np.minimum(last + 1, len(fpr) - 1)
    run = fpr[after] - fpr[last]
    share = np.divide(grid - fpr[last], run, out=np.zeros(len(grid)), where=run > 0)
    return np.asarray(tpr[last] + np.clip(share, 0.0, 1.0) * (tpr[after] - tpr[last]), float)


def roc_points(predictions: Predictions, count: int = 101) -> tuple[Floats, Floats]:
    """FPR at `count` equal steps from 0 to 1, and the sensitivity there (the upper end where the curve is upright)."""
    _both(predictions)
    grid = np.linspace(0.0, 1.0, count)
    return grid, _tpr_at(grid, *_vertices(predictions.labels, predictions.scores))


def _precision_at(grid: Floats, above: Floats, false: Floats) -> Floats:
    begin = int(np.argmax(above + false > 0))  # behind vertices without weight
    first = np.clip(above.searchsorted(grid * above[-1] - 1e-9, "left"), begin, len(above) - 1)
    return np.asarray(above[first] / (above[first] + false[first]), float)


def pr_points(predictions: Predictions, count: int = 101) -> tuple[Floats, Floats]:
    """Sensitivity at `count` equal steps, and the precision at the highest threshold that reaches it."""
    _both(predictions)
    grid = np.linspace(0.0, 1.0, count)
    return grid, _precision_at(grid, *_vertices(predictions.labels, predictions.scores))


def _draw_folds(found: Axes, predictions: Predictions, *, precision: bool) -> None:
    """A thin line for each fold that holds both classes, where there are several."""
    folds = np.unique(predictions.folds)
    name: str | None = "folds"
    for fold in folds if len(folds) > 1 else ():
        rows = predictions.where(predictions.folds == fold)
        if not 0 < rows.labels.sum() < len(rows):
            continue
        above, false = _vertices(rows.labels, rows.scores)
        if precision:
            found.step(*pr_points(rows), where="pre", color=BLUE, alpha=0.35, linewidth=0.5, label=name)
        else:
            found.plot(false / false[-1], above / above[-1], color=BLUE, alpha=0.35, linewidth=0.5, label=name)
        name = None


def _point_name(point: OperatingPoint | None, first: str, second: str) -> str:
    rule = f" {point.rule}" if point else ""
    return f"operating point{rule}\n{first}, {second}"


def _rates(predictions: Predictions, decisions: Decisions) -> tuple[float, float, float]:
    found = measure(predictions.labels, predictions.scores, decisions)
    return float(found["tpr"][0]), float(found["fpr"][0]), float(found["precision"][0])


def _mark(found: Axes, across: float, up: float, name: str) -> None:
    found.plot(
        [across], [up], marker="o", markersize=5, color=ORANGE, markeredgecolor="white", markeredgewidth=0.8,
        linestyle="none", zorder=8, label=name, clip_on=False,
    )  # fmt: skip


def _decide(predictions: Predictions, decisions: Decisions | None, point: OperatingPoint | None) -> Decisions | None:
    if decisions is None and point is not None:
        return np.asarray(predictions.scores >= point.threshold, bool)
    if decisions is not None and len(decisions) != len(predictions):
        raise DataError(f"{len(decisions)} decisions for {len(predictions)} rows; pass predictions.at(level)")
    return decisions


def _curve_figure(
    predictions: Predictions,
    decisions: Decisions | None,
    title: str,
    estimate: Estimate | None,
    stamp: str,
    point: OperatingPoint | None,
    name: str,
    *,
    precision: bool,
    replicates: int = 400,
) -> Figure:
    _both(predictions)
    labels, scores = predictions.labels, predictions.scores
    decisions = _decide(predictions, decisions, point)
    if estimate is None:
        called = scores >= 0.5 if decisions is None else decisions
        estimate = intervals(predictions, called, replicates)["ap" if precision else "auc"]
    drawn = figure(3.65, title, predictions.counts(), stamp)
    found = axes(drawn, (0.42, 0.38, 2.86, 2.66))
    grid = np.linspace(0.0, 1.0, 101)
    at = _precision_at if precision else _tpr_at
    weights = group_weights(predictions.groups, labels, replicates, np.random.default_rng(0))
    drawn_curves = [at(grid, *curve) for curve in zip(*_weighted_vertices(labels, scores, weights), strict=True)]
    band = np.quantile(drawn_curves, [0.025, 0.975], axis=0)
    found.fill_between(grid, *band, color=BLUE, alpha=0.16, linewidth=0, label="95 % band (groups resampled)")
    _draw_folds(found, predictions, precision=precision)
    above, false = _vertices(labels, scores)
    if precision:
        share = float(labels.mean())
        found.axhline(share, color=GREY, linewidth=0.7, linestyle=(0, (4, 3)), label=f"chance {share:.2f}")
        found.step(grid, at(grid, above, false), where="pre", color=BLUE, linewidth=1.5, label=f"{name} {estimate}")
        unit_square(found, TPR, "Precision (PPV)")
    else:
        found.plot([0, 1], [0, 1], color=GREY, linewidth=0.7, linestyle=(0, (4, 3)))
        found.plot(false / false[-1], above / above[-1], color=BLUE, linewidth=1.5, label=f"{name} {estimate}")
        unit_square(found, FPR, TPR)
    if decisions is not None:
        tpr, fpr, ppv = _rates(predictions, decisions)
        if precision:
            _mark(found, tpr, ppv, _point_name(point, f"TPR {tpr:.2f}", f"precision {ppv:.2f}"))
        else:
            _mark(found, fpr, tpr, _point_name(point, f"TPR {tpr:.2f}", f"FPR {fpr:.2f}"))
    legend(found, "lower left" if precision else "lower right")
    return drawn


def roc_figure(
    predictions: Predictions,
    decisions: Decisions | None = None,
    title: str = "",
    estimate: Estimate | None = None,
    stamp: str = "",
    *,
    point: OperatingPoint | None = None,
    name: str = "AUC",
) -> Figure:
    """The pooled ROC curve with its bootstrap band, a thin line a fold and the operating point.

    Args:
        predictions: rows at the level to show.
        decisions: called positive, one a row; marked as the operating point. Not given, they follow from `point`.
        title: over the figure, beside the counts.
        estimate: the figure to print; the pooled AUC where it is None.
        stamp: a word across the figure (`SYNTHETIC`).
        point: names the rule beside the mark.
        name: of the estimate (`mean fold AUC`).
    """
    return _curve_figure(predictions, decisions, title, estimate, stamp, point, name, precision=False)


def pr_figure(
    predictions: Predictions,
    decisions: Decisions | None = None,
    title: str = "",
    estimate: Estimate | None = None,
    stamp: str = "",
    *,
    point: OperatingPoint | None = None,
    name: str = "AP",
) -> Figure:
    """Precision against sensitivity, drawn as `roc_figure` is; `estimate` is the average precision to print."""
    return _curve_figure(predictions, decisions, title, estimate, stamp, point, name, precision=True)


def calibration_figure(predictions: Predictions, title: str = "", stamp: str = "") -> Figure:
    """Observed share of positives against the score, in ten bins of equal mass, over histograms of both classes."""
    _both(predictions)
    labels, scores = predictions.labels, predictions.scores
    drawn = figure(4.15, title, predictions.counts(), stamp)
    found = axes(drawn, (0.42, 1.14, 2.86, 2.42))
    table = reliability(labels, scores)
    values = {name: float(value[0]) for name, value in measure(labels, scores, scores >= 0.5).items()}
    slope = values["calibration_slope"]
    name = (
        f"slope {f'{slope:.2f}' if np.isfinite(slope) else '–'}, intercept {values['calibration_intercept']:.2f}\n"
        f"Brier {values['brier']:.3f}, ECE {values['ece']:.3f}"
    )
    reach = np.abs(table[["lo", "hi"]].to_numpy().T - table["observed"].to_numpy())
    found.plot([0, 1], [0, 1], color=GREY, linewidth=0.7, linestyle=(0, (4, 3)), label="perfect")
    found.errorbar(
        table["score"], table["observed"], yerr=reach, color=BLUE, marker="o", markersize=3.5, linewidth=1.2,
        elinewidth=0.7, capsize=1.5, capthick=0.7, label=name,
    )  # fmt: skip
    unit_square(found, "", "Observed share of positives")
    found.set_xticklabels([])
    legend(found, "upper left")
    below = axes(drawn, (0.42, 0.38, 2.86, 0.66))
    edges, highest = np.linspace(0.0, 1.0, 26).tolist(), 0.0
    for label, colour, class_name in ((0, GREY, predictions.classes[0]), (1, BLUE, predictions.classes[-1])):
        share = np.full(int((labels == label).sum()), 100.0 / (labels == label).sum())
        highest = max(highest, float(np.histogram(scores[labels == label], edges, weights=share)[0].max()))
        below.hist(scores[labels == label], edges, weights=share, color=colour, alpha=0.5, label=class_name)
    unit_square(below, "Score", "% of class")
    below.set(ylim=(0.0, 1.45 * highest), yticks=[0.0, highest], yticklabels=["0", f"{highest:.0f}"])
    legend(below, "upper center", columns=2)
    return drawn


def confusion_figure(predictions: Predictions, decisions: Decisions, title: str = "", stamp: str = "") -> Figure:
    """Counts of labels against decisions, with the share of each label, and TPR and FPR beneath."""
    from matplotlib.colors import LinearSegmentedColormap

    decided = _decide(predictions, decisions, None)
    labels = predictions.labels
    cells = np.array([[((labels == row) & (decided == column)).sum() for column in (0, 1)] for row in (0, 1)])
    shares = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    drawn = figure(3.3, title, predictions.counts(), stamp)
    found = axes(drawn, (0.72, 0.62, 2.5, 2.12))
    found.grid(visible=False)
    shades = LinearSegmentedColormap.from_list("shades", ["#F4F8FB", BLUE])
    edges = [-0.5, 0.5, 1.5]
    found.pcolormesh(edges, edges, shares, cmap=shades, vmin=0.0, vmax=1.0)
    found.invert_yaxis()
    for row in (0, 1):
        for column in (0, 1):
            ink = "white" if shares[row, column] > 0.55 else DARK
            found.text(column, row - 0.07, f"{cells[row, column]}", ha="center", va="center", size=13, color=ink)
            found.text(column, row + 0.17, f"{shares[row, column]:.0%}", ha="center", va="center", size=TEXT, color=ink)
    names = [predictions.classes[0], predictions.classes[-1]]
    found.set(xticks=[0, 1], yticks=[0, 1], xticklabels=names)
    found.set_yticklabels(names, rotation=90, va="center")
    found.tick_params(length=0, labelsize=TEXT)
    found.axhline(0.5, color="white", linewidth=2)
    found.axvline(0.5, color="white", linewidth=2)
    for spine in found.spines.values():
        spine.set_visible(False)
    found.set_xlabel("Called", size=TEXT, labelpad=3)
    found.set_ylabel("Label", size=TEXT, labelpad=3)
    tpr, fpr = (f"{share:.2f}" if cells[row].sum() else "none" for row, share in ((1, shares[1, 1]), (0, shares[0, 1])))
    correct = np.trace(cells) / max(cells.sum(), 1)
    drawn.text(0.58, 0.035, f"TPR {tpr} · FPR {fpr} · accuracy {correct:.2f}", ha="center", size=TEXT, color=DARK)
    return drawn
