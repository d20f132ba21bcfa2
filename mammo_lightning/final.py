"""The predictor a study ends in: the mean of its calibrated fold models, with a threshold of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mammo_lightning.classifiers import weights
from mammo_lightning.datamodules.folds import RESERVE, reserve_folds
from mammo_lightning.evaluation.calibration import Platt
from mammo_lightning.evaluation.metrics import measure
from mammo_lightning.evaluation.thresholds import apply, choose, cross_fitted, decided_on
from mammo_lightning.preprocessing.prepare import DEFAULTS, prepare
from mammo_lightning.training import Fit, Task, outputs
from mammo_lightning.types import Level, OperatingPoint, Predictions, Split

Decide = Callable[[Predictions, Level], tuple[NDArray[np.bool_], float]]


@dataclass(frozen=True)
class Predictor:
    """Fold models, each with the calibrator fitted on the fold it did not see; their mean is the score."""

    task: Task
    folders: list[Path]
    calibrators: list[Platt]
    #: development rows scored by the model that did not see them, calibrated by what other folds say
    held_out: Predictions
    #: with one fold: the inner slice, calibrated alike
    inner: Predictions | None = None

    def scores(self, images: NDArray[Any]) -> NDArray[np.float64]:
        """Mean calibrated probability of images in native depth."""
        return self._read(images)[0]

    def _read(self, images: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Mean calibrated probability, and the mean shares of finer classes where there are any."""
        prepared: dict[str, NDArray[np.float32]] = {}
        scores, shares = [], []
        for folder, platt in zip(self.folders, self.calibrators, strict=True):
            member = weights.load(folder)
            key = str([member.settings[name] for name in DEFAULTS])
            if key not in prepared:
                prepared[key] = prepare(images, self.task.data.scale, member.settings)
            raw = outputs(member, prepared[key])
            scores.append(platt(torch.sigmoid(member.positive(raw)).numpy()))
            if member.sides:
                shares.append(torch.softmax(raw, 1).numpy())
        return np.mean(scores, axis=0), np.mean(shares, axis=0) if shares else None

    def predictions(self, rows: NDArray[np.int64], split: Split) -> Predictions:
        """Predictions of rows no fold model was trained on."""
        scores, shares = self._read(np.asarray(self.task.data.images[rows]))
        return self.task.predictions(scores, rows, -1, split, shares)

    def reserved(self) -> Predictions | None:
        """The reserved rows, which no fold model saw, in folds of their own; None where nothing was reserved."""
        rows = np.flatnonzero(self.task.splits.fold == RESERVE)
        if not len(rows):
            return None
        return Predictions(self.predictions(rows, Split.val).frame.assign(fold=reserve_folds(self.task.splits)))

    def points(self, rule: str) -> tuple[dict[Level, OperatingPoint], str]:
        """An operating point for each level, and where it comes from: the reserve, or carried from the folds."""
        reserved = self.reserved()
        fitted_on = reserved if reserved is not None else self.held_out
        points = {level: choose(fitted_on, rule, level) for level in self.task.data.levels}
        return points, "carried" if reserved is None else "reserve"


def make_predictor(task: Task, fits: list[Fit]) -> Predictor:
    """Calibrate each fold model on its own held-out fold.

    What is reported of the held-out rows themselves is calibrated on other rows: those of the other folds, or with one
    fold the inner slice. A calibrator knows the prevalence of the rows it was fitted on, which is a figure about them.
    """
    folders = [fit.folder for fit in fits]
    calibrators = [Platt.fit(fit.predictions.labels, fit.predictions.scores) for fit in fits]
    if len(fits) == 1:
        inner = fits[0].inner
        platt = Platt.fit(inner.labels, inner.scores) if inner is not None else calibrators[0]
        held_out = fits[0].predictions.with_scores(platt(fits[0].predictions.scores))
        beside = inner.with_scores(platt(inner.scores)) if inner is not None else None
        return Predictor(task, folders, calibrators, held_out, beside)
    return Predictor(task, folders, calibrators, crosswise(pooled([fit.predictions for fit in fits])))


def crosswise(predictions: Predictions) -> Predictions:
    """Scores of each fold, calibrated on the rows of the other folds alone."""
    folds, scores = predictions.folds, predictions.scores.copy()
    for fold in np.unique(folds):
        others = predictions.where(folds != fold)
        scores[folds == fold] = Platt.fit(others.labels, others.scores)(scores[folds == fold])
    return predictions.with_scores(scores)


def recalibrated(
    settings: Mapping[str, Any], predictions: Predictions, inner: Predictions | None = None
) -> Predictions | None:
    """The probabilities to judge where training rows were balanced, calibrated on other rows; None elsewhere.

    A network trained on classes in other shares than they occur in says other probabilities than occur.
    """
    if settings["imbalance"] == "none":
        return None
    if len(np.unique(predictions.folds)) > 1:
        return crosswise(predictions)
    return predictions.with_scores(Platt.fit(inner.labels, inner.scores)(predictions.scores)) if inner else None


def pooled(parts: list[Predictions]) -> Predictions:
    """Predictions of several folds as one table, in the order of the images."""
    frame = pd.concat([part.frame for part in parts], ignore_index=True)
    return Predictions(frame.sort_values("image", kind="stable").reset_index(drop=True))


def at_points(
    points: Mapping[Level, OperatingPoint],
) -> Decide:
    """Decisions at frozen thresholds."""
    return lambda predictions, level: (apply(predictions, points[level]), points[level].threshold)


def decide_by(rule: str, fitted_on: Predictions | None = None, calibrated: Predictions | None = None) -> Decide:
    """Decisions with thresholds from the other folds; with one fold, from the inner slice it was stopped by."""

    def decide(predictions: Predictions, level: Level) -> tuple[Any, float]:
        judged = decided_on(rule, predictions, calibrated)
        decisions, points = cross_fitted(judged, rule, level, fitted_on=fitted_on)
        return decisions, float(np.mean([point.threshold for point in points.values()]))

    return decide


def true_auc(predictor: Predictor, patients: int, say: Callable[[str], None]) -> float | None:
    """The AUC on freshly generated patients, where the dataset can generate them."""
    fresh = getattr(predictor.task.data, "fresh", None)
    if fresh is None or not patients:
        return None
    say(f"truth: scoring {patients:,} fresh patients")
    scores, labels = [], []
    for images, truth, _ in fresh(patients=patients):
        scores.append(predictor.scores(_planes(images)))
        labels.append(truth)
    score, label = np.concatenate(scores), np.concatenate(labels)
    return float(measure(label, score, score >= 0.5)["auc"][0])


def _planes(images: NDArray[Any]) -> NDArray[Any]:
    return images[:, None] if images.ndim == 3 else images
