"""Calibration: Platt scaling, and the reliability curve it is judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mammo_lightning.errors import DataError
from mammo_lightning.evaluation.logistic import intercept_alone, logit, sigmoid, slope_and_intercept
from mammo_lightning.evaluation.metrics import BINS, equal_mass_bins

Floats = NDArray[np.float64]

RIDGE = 0.01  # one hundredth of a row: felt only where the classes are separable
LEAST_SLOPE = 0.01


@dataclass(frozen=True)
class Platt:
    """Platt scaling: calibrated = sigmoid(slope * logit(score) + intercept). It never changes the order of scores."""

    slope: float = 1.0
    intercept: float = 0.0

    @classmethod
    def fit(cls, labels: ArrayLike, scores: ArrayLike) -> Platt:
        """Fit on validation rows.

        A light ridge towards the identity keeps separable classes finite. The slope is at least 0.01: a fold whose
        scores rank the wrong way round gets nearly flat ones, not the ranking reversed.
        """
        truth, values = np.asarray(labels, float), np.asarray(scores, float)
        if truth.shape != values.shape or not truth.size:
            raise DataError(f"{truth.size} labels and {values.size} scores; calibration needs one of each a row")
        feature = logit(values)
        ones = np.ones((1, truth.size))
        slope, intercept = slope_and_intercept(feature, truth[None], ones, ridge=RIDGE)
        if slope[0] < LEAST_SLOPE:
            # Half a row of each class: with one class alone there would be no finite intercept.
            flat = np.r_[LEAST_SLOPE * feature, 0.0]
            weights = np.ones((1, flat.size))
            return cls(LEAST_SLOPE, float(intercept_alone(flat, np.r_[truth, 0.5][None], weights)[0]))
        return cls(float(slope[0]), float(intercept[0]))

    @classmethod
    def fit_each(cls, labels: ArrayLike, scores: ArrayLike, subsets: NDArray[np.bool_]) -> list[Platt]:
        """One fit for each subset of the rows (subsets x rows), all at once."""
        truth, weights = np.asarray(labels, float), np.asarray(subsets, float)
        feature = logit(np.asarray(scores, float))
        slopes, intercepts = slope_and_intercept(feature, truth * weights, weights, ridge=RIDGE)
        return [
            cls(float(slope), float(intercept))
            if slope >= LEAST_SLOPE
            else cls.fit(truth[rows], np.asarray(scores)[rows])
            for slope, intercept, rows in zip(slopes, intercepts, np.asarray(subsets, bool), strict=True)
        ]

    def __call__(self, scores: ArrayLike) -> Floats:
        """Calibrated scores."""
        return sigmoid(self.slope * logit(np.asarray(scores, float)) + self.intercept)

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, float]) -> Platt:
        """What `as_dict` gave."""
        try:
            return cls(float(values["slope"]), float(values["intercept"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"calibrator {dict(values)!r} cannot be read; expected numbers slope and intercept"
            ) from error


def reliability(labels: ArrayLike, scores: ArrayLike, bins: int = BINS) -> pd.DataFrame:
    """The reliability curve in bins of equal mass (tied scores stay together, so there may be fewer).

    Returns:
        One row a bin: mean `score`, `observed` share of positives, its Wilson interval `lo` `hi` (of independent rows),
        `count`.
    """
    truth, values = np.asarray(labels, float), np.asarray(scores, float)
    if truth.shape != values.shape or not truth.size:
        raise DataError(f"{truth.size} labels and {values.size} scores; a reliability curve needs one of each a row")
    _, inverse, sizes = np.unique(-values, return_inverse=True, return_counts=True)
    bin_of = equal_mass_bins(sizes[None].astype(float), bins)[0][inverse]
    frame = pd.DataFrame({"bin": bin_of, "score": values, "observed": truth, "count": 1})
    table = frame.groupby("bin", sort=True).agg({"score": "mean", "observed": "mean", "count": "sum"})
    share, size, square = table["observed"], table["count"], 1.959964**2
    half = np.sqrt(square * share * (1 - share) / size + square**2 / (4 * size**2))
    table["lo"] = (share + square / (2 * size) - half) / (1 + square / size)
    table["hi"] = (share + square / (2 * size) + half) / (1 + square / size)
    return table.reset_index(drop=True)[["score", "observed", "lo", "hi", "count"]]
