"""Calibrators by name: from scores to probabilities, fitted on rows of other folds."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mammo_lightning.errors import DataError, SettingsError, one_of
from mammo_lightning.evaluation.calibration import Platt
from mammo_lightning.evaluation.logistic import logit, sigmoid
from mammo_lightning.types import Predictions

Floats = NDArray[np.float64]

CALIBRATORS = ("platt", "temperature", "isotonic")


class Calibrator(Protocol):
    """Anything that turns scores into probabilities and can be written down."""

    def __call__(self, scores: ArrayLike) -> Floats:
        """Calibrated scores."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""


@dataclass(frozen=True)
class Temperature:
    """Log-odds divided by one number (Guo et al. 2017): 0.5 stays 0.5, and the order of scores stays."""

    temperature: float = 1.0

    @classmethod
    def fit(cls, labels: ArrayLike, scores: ArrayLike) -> Temperature:
        """The temperature of the highest likelihood."""
        from scipy.optimize import minimize_scalar

        truth, odds = np.asarray(labels, float), logit(np.asarray(scores, float))

        def loss(log_temperature: float) -> float:
            scaled = odds / np.exp(log_temperature)
            return float(np.mean(np.logaddexp(0.0, scaled) - truth * scaled))

        found = minimize_scalar(loss, bounds=(-4.0, 4.0), method="bounded", options={"xatol": 1e-6})
        return cls(float(np.exp(found.x)))

    def __call__(self, scores: ArrayLike) -> Floats:
        """Calibrated scores."""
        return sigmoid(logit(np.asarray(scores, float)) / self.temperature)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": "temperature", "temperature": self.temperature}


@dataclass(frozen=True)
class Isotonic:
    """A rising staircase, straight between its corners; it may tie scores that differed, and so move the AUC."""

    scores: tuple[float, ...]
    values: tuple[float, ...]

    @classmethod
    def fit(cls, labels: ArrayLike, scores: ArrayLike) -> Isotonic:
        """By pooling adjacent violators."""
        from sklearn.isotonic import IsotonicRegression

        fitted = IsotonicRegression(y_min=0.0, y_max=1.0).fit(np.asarray(scores, float), np.asarray(labels, float))
        return cls(tuple(map(float, fitted.X_thresholds_)), tuple(map(float, fitted.y_thresholds_)))

    def __call__(self, scores: ArrayLike) -> Floats:
        """Calibrated scores; beyond the corners the last value holds."""
        return np.asarray(np.interp(np.asarray(scores, float), self.scores, self.values), float)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": "isotonic", "scores": list(self.scores), "values": list(self.values)}


@dataclass(frozen=True)
class _NamedPlatt:
    """Platt scaling that says its name when it is written down."""

    platt: Platt

    def __call__(self, scores: ArrayLike) -> Floats:
        """Calibrated scores."""
        return self.platt(scores)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": "platt", **self.platt.as_dict()}


def fit_calibrator(name: str, labels: ArrayLike, scores: ArrayLike) -> Calibrator:
    """Fit a calibrator on rows that what made the scores was not trained on."""
    truth, values = np.asarray(labels), np.asarray(scores)
    if not truth.size or truth.shape != values.shape:
        raise DataError(f"{truth.size} labels and {values.size} scores; calibration needs one of each a row")
    match name:
        case "platt":
            return _NamedPlatt(Platt.fit(labels, scores))
        case "temperature":
            return Temperature.fit(labels, scores)
        case "isotonic":
            return Isotonic.fit(labels, scores)
    raise SettingsError(f"no calibration {name!r}; {one_of(CALIBRATORS)}")


def calibrator_from(values: Mapping[str, Any]) -> Calibrator:
    """What `as_dict` gave."""
    with suppress(KeyError, TypeError, ValueError):
        match values["name"]:
            case "platt":
                return _NamedPlatt(Platt.from_dict(values))
            case "temperature" if float(values["temperature"]) > 0:
                return Temperature(float(values["temperature"]))
            case "isotonic":
                corners = [tuple(map(float, values[key])) for key in ("scores", "values")]
                if len(corners[0]) == len(corners[1]) > 0 and np.isfinite(corners).all():
                    return Isotonic(corners[0], corners[1])
    raise DataError(f"calibrator {dict(values)!r} cannot be read; expected one of {', '.join(CALIBRATORS)}")


def calibrated_across(name: str, predictions: Predictions) -> Predictions:
    """Scores of each fold, calibrated on the rows of the other folds alone."""
    folds, scores = predictions.folds, predictions.scores.copy()
    if len(np.unique(folds)) < 2:
        raise DataError("predictions of one fold cannot be calibrated on other rows; use 2 folds or more")
    for fold in np.unique(folds):
        mine = folds == fold
        scores[mine] = fit_calibrator(name, predictions.labels[~mine], predictions.scores[~mine])(scores[mine])
    return predictions.with_scores(scores)
