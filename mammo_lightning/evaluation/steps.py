"""The same network judged more and more strictly: an AUC a step, and what the next step takes away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mammo_lightning.errors import DataError
from mammo_lightning.evaluation.concordance import fold_pairs
from mammo_lightning.evaluation.resampling import (
    Estimate,
    Floats,
    codes_of,
    groups_by_class,
    multiplicities,
    multiplicities_within,
    plain_interval,
    shares_interval,
)
from mammo_lightning.evaluation.statistics import aligned
from mammo_lightning.types import Predictions

REPLICATES = 2000


@dataclass(frozen=True)
class Drawn:
    """The AUC of one step, and what it is on each resampling of the groups."""

    value: float
    draws: Floats
    groups: int  # of the scarcer class
    pairs: int  # of a positive and a negative that are compared

    @property
    def estimate(self) -> Estimate:
        """With its 95 % interval (`resampling.shares_interval`)."""
        return shares_interval(self.value, self.draws[np.isfinite(self.draws)], self.groups)

    def minus(self, before: Drawn) -> Estimate:
        """What this step says less what the one before said: both are seen on the same resampled groups."""
        apart = self.draws - before.draws
        groups = min(self.groups, before.groups)
        found = plain_interval(self.value - before.value, apart[np.isfinite(apart)], groups)
        return Estimate(found.value, max(found.lo, -1.0), min(found.hi, 1.0))


@dataclass(frozen=True)
class Step:
    """One bar: the AUC under one more condition, and what that took away; without an AUC, why there is none."""

    key: str
    title: str
    auc: Estimate | None = None
    counts: str = ""
    #: this step less the one before; ends that are not finite where the two cannot be resampled together
    difference: Estimate | None = None
    taken: str = ""  # what the difference is
    note: str = ""

    @property
    def lost(self) -> bool:
        """Whether it took away more than chance does."""
        return self.difference is not None and self.difference.hi < 0

    @property
    def gained(self) -> bool:
        """Whether the figure rose by more than chance does."""
        return self.difference is not None and self.difference.lo > 0

    @property
    def change(self) -> str:
        """The difference as it is printed."""
        if self.difference is None:
            return ""
        value, lo, hi = self.difference.value, self.difference.lo, self.difference.hi
        ends = f" ({lo:+.3f} to {hi:+.3f})" if np.isfinite([lo, hi]).all() else ""
        return f"{value:+.3f}{ends}"


class Resampled:
    """One bootstrap over groups for tables that hold the same groups in other folds.

    The AUC of a table is the mean of its folds' AUCs, the figure that searches go by: scores of two networks are
    never compared. Groups are drawn as a whole and not within folds, as each step has folds of its own. The intervals
    hold the luck of which patients were seen, not that of how they were dealt into folds.

    Args:
        groups: the group of each row of any of the tables.
        labels: 0 or 1, one a row.
        replicates: of the bootstrap.
        seed: of the bootstrap.
    """

    def __init__(self, groups: ArrayLike, labels: ArrayLike, replicates: int = REPLICATES, seed: int = 0) -> None:
        self.names, codes = np.unique(np.asarray(groups, str), return_inverse=True)
        rng = np.random.default_rng(seed)
        self.drawn = multiplicities(codes, np.asarray(labels, np.int64), replicates, rng)

    def auc(self, predictions: Predictions, column: str | None = None) -> Drawn:
        """Of pairs of one fold, and of one value of a column where one is named."""
        blocked = blocks(predictions, column)
        codes = self.names.searchsorted(predictions.groups.astype(str))
        ones = np.ones((1, len(self.names)), np.int16)
        drawn: dict[int, tuple[Floats, Floats]] = {}
        seen: dict[int, tuple[Floats, Floats]] = {}
        used = np.zeros(len(blocked), bool)
        for block, each in fold_pairs(blocked, codes).items():
            rows = blocked.folds == block
            fold, used = int(predictions.folds[rows][0]), used | rows
            for kept, weights in ((drawn, self.drawn), (seen, ones)):
                won, total = each.count(weights)
                before = kept.get(fold, (0.0, 0.0))
                kept[fold] = (before[0] + won, before[1] + total)
        if not seen:
            where = f"one fold and one value of {column}" if column else "one fold"
            raise DataError(f"no pair of a positive and a negative stands in {where}; nothing can be compared")
        groups = min(groups_by_class(codes[used], predictions.labels[used]))
        pairs = round(sum(float(total[0]) for _, total in seen.values()))
        value = float(_mean_of_folds(list(seen.values()))[0])
        return Drawn(value, _mean_of_folds(list(drawn.values())), groups, pairs)


def blocks(predictions: Predictions, column: str | None) -> Predictions:
    """Each value of a column within a fold as a fold of its own."""
    if column is None:
        return predictions
    values = predictions.frame[column].astype(str).to_numpy()
    return Predictions(predictions.frame.assign(fold=codes_of(predictions.folds, values)))


def unpaired(now: Estimate, before: Estimate) -> Estimate:
    """The difference of two AUCs on other patients, from their intervals (Zou and Donner 2008, square-and-add)."""
    value = now.value - before.value
    down = np.hypot(now.value - now.lo, before.hi - before.value)
    up = np.hypot(now.hi - now.value, before.value - before.lo)
    return Estimate(value, value - float(down), value + float(up))


def tenths(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which tenth of all values each one is in; equal values are in the same."""
    edges = np.unique(np.quantile(values, np.linspace(0.1, 0.9, 9)))
    return np.searchsorted(edges, values, "right")


def optimism_within(trials: Sequence[Predictions], column: str, replicates: int = 500, seed: int = 0) -> float:
    """What the first trial owes to having been chosen, on pairs of one fold and of one value of a column.

    As `statistics.selection_corrected`, groups are resampled within folds and the trial with the best mean fold AUC
    in-bag is chosen. Out of bag it is compared with the first trial, on the same few pairs: these are no fair sample of
    all, so that what the chosen one reaches there is not by itself an estimate.

    Args:
        trials: out-of-fold predictions of all completed trials, on the same images and folds; the chosen one first,
            with the column.
        column: within whose values pairs are compared.
        replicates: of the bootstrap.
        seed: of the bootstrap.
    """
    own = trials[0]
    tables = [own, *(aligned(own, trial, folds=True) for trial in trials[1:])]
    codes = codes_of(own.folds, own.groups)
    rng = np.random.default_rng(seed)
    drawn = multiplicities_within(own.folds, codes, own.labels, replicates, rng)
    inside, outside = np.empty((len(tables), replicates)), np.empty((len(tables), replicates))
    for number, table in enumerate(tables):
        inside[number] = _mean_of_folds([each.count(drawn) for each in fold_pairs(table, codes).values()])
        strata = blocks(Predictions(table.frame.assign(**{column: own.frame[column].to_numpy()})), column)
        parts = [each.count(drawn == 0) for each in fold_pairs(strata, codes).values()]
        won, total = np.sum(parts, axis=0)
        outside[number] = np.divide(won, total, out=np.full(replicates, np.nan), where=total > 0)
    lost = outside[inside.argmax(axis=0), np.arange(replicates)] - outside[0]
    return float(np.nanmean(lost)) if np.isfinite(lost).any() else 0.0


def _mean_of_folds(parts: Sequence[tuple[Floats, Floats]]) -> Floats:
    """The mean over folds of the share of pairs won; folds that a replicate leaves without pairs are left out."""
    shares, known = np.zeros_like(parts[0][0]), np.zeros_like(parts[0][0])
    for won, total in parts:
        shares += np.divide(won, total, out=np.zeros_like(won), where=total > 0)
        known += total > 0
    return np.divide(shares, known, out=np.full_like(shares, np.nan), where=known > 0)
