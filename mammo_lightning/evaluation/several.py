"""Figures of more than two classes: each against the rest, and which is taken for which."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mammo_lightning.errors import DataError
from mammo_lightning.evaluation.canvas import BLUE, DARK, TEXT, axes, figure
from mammo_lightning.evaluation.metrics import auc_of
from mammo_lightning.evaluation.resampling import (
    Estimate,
    codes_of,
    multiplicities,
    shares_interval,
)
from mammo_lightning.types import Predictions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]


def targets_of(predictions: Predictions) -> tuple[str, ...]:
    """Names of the finer classes, in order; empty where there are just the two."""
    names = tuple(column[2:] for column in predictions.frame.columns if column.startswith("q_"))
    return names if len(names) > 1 and "target" in predictions.frame else ()


def each_against_the_rest(predictions: Predictions, weights: NDArray[np.generic] | None = None) -> dict[str, Floats]:
    """The AUC of each finer class against all others by its own share; NaN for one that has no row or every row.

    Args:
        predictions: Rows with a column `target` and a share `q_<target>` for each.
        weights: Multiplicities, (weightings, rows); None is one weighting with 1 everywhere.
    """
    names = targets_of(predictions)
    if not names:
        raise DataError("predictions have no finer classes; expected the columns target and q_<target>")
    truth = predictions.frame["target"].to_numpy(object)
    ones = np.ones((1, len(truth))) if weights is None else weights
    scores = {name: predictions.frame[f"q_{name}"].to_numpy(float) for name in names}
    return {name: auc_of((truth == name).astype(np.int64), scores[name], ones) for name in names}


def macro_auc(predictions: Predictions) -> float:
    """The plain mean of `each_against_the_rest` over classes that can be told, averaged over folds."""
    return float(np.mean([_macro(part)[0] for part in _by_fold(predictions)]))


def macro_auc_interval(predictions: Predictions, replicates: int = 400, seed: int = 0) -> Estimate:
    """`macro_auc` with its 95 % interval from a bootstrap over groups within folds."""
    rng, draws, scarcest = np.random.default_rng(seed), [], 0
    parts = _by_fold(predictions)
    for part in parts:
        codes = codes_of(part.groups)
        drawn = multiplicities(codes, part.labels, replicates, rng)[:, codes]
        draws.append(_macro(part, drawn))
        truth = part.frame["target"].to_numpy(object)
        scarcest += min(len(np.unique(codes[truth == name])) for name in set(truth))
    return shares_interval(macro_auc(predictions), np.mean(draws, axis=0), scarcest, blocks=len(parts))


def _by_fold(predictions: Predictions) -> list[Predictions]:
    folds = predictions.folds
    return [predictions.where(folds == fold) for fold in np.unique(folds)]


def _macro(predictions: Predictions, weights: NDArray[np.generic] | None = None) -> Floats:
    found = np.stack(list(each_against_the_rest(predictions, weights).values()))
    told = np.isfinite(found)
    if not told.any(axis=0).all():
        raise DataError("no finer class can be told from the others here: all rows are of one")
    return np.asarray(np.where(told, found, 0).sum(axis=0) / told.sum(axis=0), float)


def targets_figure(predictions: Predictions, title: str = "", stamp: str = "") -> Figure:
    """What each finer class is taken for: the class with the greatest share; counts, shaded by their share of a row."""
    from matplotlib.colors import LinearSegmentedColormap

    names = targets_of(predictions)
    taken = predictions.frame[[f"q_{name}" for name in names]].to_numpy(float).argmax(axis=1)
    truth = predictions.frame["target"].map(names.index).to_numpy(np.int64)
    cells = np.zeros((len(names), len(names)), int)
    np.add.at(cells, (truth, taken), 1)
    shares = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    drawn = figure(3.6, title, predictions.counts(), stamp)
    found = axes(drawn, (0.95, 0.85, 2.3, 2.3))
    found.grid(visible=False)
    edges = np.arange(len(names) + 1) - 0.5
    shades = LinearSegmentedColormap.from_list("shades", ["#F4F8FB", BLUE])
    found.pcolormesh(edges, edges, shares, cmap=shades, vmin=0.0, vmax=1.0, edgecolors="white", linewidth=2)
    found.invert_yaxis()
    for (row, column), count in np.ndenumerate(cells):
        ink = "white" if shares[row, column] > 0.55 else DARK
        found.text(column, row, f"{count}", ha="center", va="center", size=9, color=ink)
    words = [name.replace("_", " ") for name in names]
    found.set(xticks=range(len(names)), yticks=range(len(names)))
    found.set_xticklabels(words, rotation=35, ha="right", rotation_mode="anchor")
    found.set_yticklabels(words)
    found.tick_params(length=0, labelsize=TEXT)
    for spine in found.spines.values():
        spine.set_visible(False)
    found.set_xlabel("Taken for", size=TEXT, labelpad=2)
    found.set_ylabel("Is", size=TEXT, labelpad=2)
    return drawn
