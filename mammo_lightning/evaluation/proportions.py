"""Intervals of shares and of their differences, where rows come in groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import beta, binomtest, norm, t

from mammo_lightning.errors import DataError
from mammo_lightning.evaluation.resampling import Estimate, codes_of

__all__ = ["clopper_pearson", "effective_groups", "share_of_groups", "tango"]


def clopper_pearson(found: int, of: int) -> Estimate:
    """A share of independent things with its exact 95 % interval."""
    if not 0 <= found <= of or of < 1:
        raise DataError(f"{found} found of {of}; a share needs 0 <= found <= of, and at least 1 to look at")
    interval = binomtest(int(found), int(of)).proportion_ci(0.95, method="exact")
    return Estimate(found / of, float(interval.low), float(interval.high))


def effective_groups(sizes: ArrayLike) -> float:
    """How many groups of one size would tell as much about a variance as these: one large group tells little."""
    squares = np.asarray(sizes, float) ** 2
    return float(squares.sum() ** 2 / (squares**2).sum())


def share_of_groups(decisions: ArrayLike, groups: ArrayLike) -> Estimate:
    """A sensitivity (or 1 - specificity) with its 95 % interval, where rows of a group are alike.

    Clopper and Pearson's interval for as many independent rows as would give the variance between groups (Korn and
    Graubard 1998), never more than there are rows; with one row a group that is Clopper and Pearson's own. At 0 and 1
    the groups show no variance, and the interval is that of the number of groups.

    Args:
        decisions: called positive, one a row, rows of one class.
        groups: the group of each row.
    """
    called = np.asarray(decisions, bool)
    codes = codes_of(groups)
    if not called.size or called.shape != codes.shape:
        raise DataError(f"{called.size} decisions of {codes.size} rows; expected one a row, and at least one")
    sizes = np.bincount(codes)
    rows, found, share = len(called), int(called.sum()), float(called.mean())
    if len(sizes) == rows or found in (0, rows):
        return clopper_pearson(round(share * len(sizes)), len(sizes))
    if len(sizes) == 1:
        return Estimate(share, 0.0, 1.0)
    beyond = np.bincount(codes, called) - sizes * share
    variance = len(sizes) / (len(sizes) - 1) * float(beyond @ beyond) / rows**2
    effective = min(float(rows), share * (1 - share) / variance) if variance > 0 else float(rows)
    freedom = max(1.0, effective_groups(sizes) - 1)
    effective *= float(norm.ppf(0.975) / t.ppf(0.975, freedom)) ** 2
    positive = share * effective
    lo = beta.ppf(0.025, positive, effective - positive + 1)
    hi = beta.ppf(0.975, positive + 1, effective - positive)
    return Estimate(share, float(lo), float(hi))


def tango(first_only: float, second_only: float, of: float, quantile: float = 1.959963984540054) -> Estimate:
    """The difference of two shares of the same rows, first less second, by Tango's score interval (1998).

    It keeps its level with few rows on which the two differ, and does not shrink to a point where there are none.

    Args:
        first_only: rows that only the first calls positive; need not be whole.
        second_only: rows that only the second calls positive.
        of: all rows.
        quantile: of the reference distribution; the interval is two-sided 95 % with the normal one.
    """
    difference = (first_only - second_only) / of

    def distance(supposed: float) -> float:
        """Squared deviations from a supposed difference, less what the interval lets pass."""
        linear = (2 * of - first_only + second_only) * supposed - first_only - second_only
        constant = -second_only * supposed * (1 - supposed)
        root = np.sqrt(max(linear**2 - 8 * of * constant, 0.0))
        only = (root - linear) / (4 * of)
        variance = max(of * (2 * only + supposed * (1 - supposed)), 0.0)
        return float((first_only - second_only - of * supposed) ** 2 - quantile**2 * variance)

    if not np.isfinite(quantile):
        return Estimate(difference, -1.0, 1.0)
    # The difference itself solves it where no row differs, and -1 and 1 where all do: look beside them.
    inner, edge = 1e-9, 1.0 - 1e-12
    lo, hi = difference - inner, difference + inner
    lo = float(brentq(distance, -edge, lo)) if lo > -edge and distance(lo) <= 0 else max(lo, -1.0)
    hi = float(brentq(distance, hi, edge)) if hi < edge and distance(hi) <= 0 else min(hi, 1.0)
    return Estimate(difference, lo, hi)
