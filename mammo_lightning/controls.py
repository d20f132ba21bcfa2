"""Controls: what a fixed reference still reaches where it should find nothing, or only what lies around a lesion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mammo_lightning.datamodules.shortcuts import judged, sure
from mammo_lightning.errors import DataError
from mammo_lightning.evaluation.resampling import Estimate
from mammo_lightning.evaluation.statistics import mean_fold_auc
from mammo_lightning.registry import CLASSIFIERS
from mammo_lightning.types import Predictions

CLASSIFIER = "linear"
PERMUTATIONS = 10
#: images are averaged down to this side, and so many pixels are looked at in all (groups are left out beyond)
SIDE = 128
PIXELS = 2**27
#: half the height and width is blanked; a ring of a sixth is kept
CENTRE = 1 / 2
RING = 1 / 6

Floats = NDArray[np.float32]
Picture = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Control:
    """The mean fold AUC of one control, with its interval."""

    name: str
    auc: Estimate
    counts: str
    line: str

    @property
    def key(self) -> str:
        """As its metric is named."""
        return self.name.replace(" ", "_")


def centre_blanked(images: Floats) -> Floats:
    """The central half of height and width at the mean of what lies around it (N, C, H, W)."""
    return _blanked(images, (1 - CENTRE) / 2)


def border_only(images: Floats) -> Floats:
    """Only the outer sixth of each side left, the rest at its mean (N, C, H, W)."""
    return _blanked(images, RING)


def permuted(labels: NDArray[np.int64], groups: NDArray[Any], rng: np.random.Generator) -> NDArray[np.int64]:
    """Labels exchanged between whole groups, so that the images of a group stay alike: its majority's label moves."""
    codes, names = pd.factorize(groups)
    share = np.bincount(codes, labels, len(names)) / np.bincount(codes, minlength=len(names))
    return (rng.permutation(share) >= 0.5).astype(np.int64)[codes]


def controls(
    frame: pd.DataFrame, images: NDArray[Any], folds: NDArray[np.int64], *, scale: float, seed: int = 0
) -> list[Control]:
    """The reference on the images as they are, and the three controls, all through the same folds.

    Args:
        frame: One row an image.
        images: The decoded images (N, C, H, W), in the order of the rows.
        folds: A fold for every row, -1 for rows that stay unread.
        scale: The value of white.
        seed: Of the permutations.
    """
    rng = np.random.default_rng(seed)
    rows = _chosen(frame, folds, int(np.prod(_small(images[:1], 1.0).shape)), rng)
    part, fold = frame.iloc[rows].reset_index(drop=True), folds[rows]
    labels = part["label"].to_numpy(np.int64)
    small = np.concatenate([_small(images[block], scale) for block in np.array_split(rows, max(1, len(rows) // 512))])
    counts = f"{labels.sum()}+/{len(labels) - labels.sum()}- · {part['patient'].nunique()} patients"

    features = _features(small)
    plain = judged(part, _scores(features, labels, fold, small.shape), fold)
    chance = _at_chance(features, part, fold, small.shape, rng)
    blanked, border = (
        judged(part, _scores(_features(picture(small)), labels, fold, small.shape), fold)
        for picture in (centre_blanked, border_only)
    )
    return [
        Control("as it is", plain, counts, f"control: {CLASSIFIER} on the images as they are reaches AUC {plain}"),
        Control("permuted labels", chance, counts, _chance_line(chance)),
        Control("centre blanked", blanked, counts, _line("with the centre of every image blanked", blanked, plain)),
        Control("border only", border, counts, _line("from the border alone", border, plain)),
    ]


def _line(what: str, auc: Estimate, plain: Estimate) -> str:
    if sure(auc):
        found = "the label shows there too: lesions reach so far, or images of the two classes were made differently"
    else:
        found = "chance is in the interval" if auc.lo <= 0.5 else "little of the label shows there"
    return f"control: {what}, {CLASSIFIER} reaches AUC {auc} of {plain.value:.2f}: {found}"


def _chance_line(auc: Estimate) -> str:
    found = "at chance, as it must be" if auc.lo <= 0.5 else "not at chance: something leaks, trust no figure"
    return f"control: with labels permuted between groups, {CLASSIFIER} reaches AUC {auc}: {found}"


def _blanked(images: Floats, margin: float) -> Floats:
    """The middle replaced by the mean of what stays: the mean of the whole would tell what was there."""
    height, width = images.shape[2:]
    top, left = max(1, round(height * margin)), max(1, round(width * margin))
    stays = np.ones((height, width), bool)
    stays[top : height - top, left : width - left] = False
    mean = images[:, :, stays].mean(axis=2)[:, :, None, None]
    return np.where(stays, images, mean).astype(np.float32)


def _chosen(frame: pd.DataFrame, folds: NDArray[np.int64], pixels: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of the folds, of as many whole groups as may be looked at."""
    rows = np.flatnonzero(folds >= 0)
    if len(rows) * pixels <= PIXELS:
        return rows
    groups = frame["group"].iloc[rows]
    sizes = groups.value_counts(sort=False)
    order = sizes.iloc[rng.permutation(len(sizes))]
    kept = order.index[order.cumsum() * pixels <= PIXELS]
    return rows[groups.isin(kept).to_numpy()]


def _small(images: NDArray[Any], scale: float) -> Floats:
    """Images in units of white, averaged down to `SIDE` at most."""
    values = np.asarray(images, np.float32) / scale
    height, width = values.shape[2:]
    shrink = SIDE / max(height, width)
    if shrink >= 1:
        return values
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    shrunk = [[cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in image] for image in values]
    return np.asarray(shrunk, np.float32)


def _features(images: Floats) -> torch.Tensor:
    model: Any = CLASSIFIERS.get(CLASSIFIER)(shape=images.shape[1:], settings={})
    features: torch.Tensor = model.features(torch.from_numpy(images))
    return features


def _scores(
    features: torch.Tensor, labels: NDArray[np.int64], folds: NDArray[np.int64], shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Out-of-fold probabilities."""
    scores = np.empty(len(labels))
    for train, held in _divided(folds):
        if len(set(labels[train])) < 2:
            raise DataError(f"all {int(train.sum())} training labels are alike; use more groups")
        model: Any = CLASSIFIERS.get(CLASSIFIER)(shape=shape[1:], settings={})
        targets = torch.from_numpy(labels[train]).float()
        model.solve_features(features[train], targets, torch.ones_like(targets))
        scores[held] = torch.sigmoid(model.positive(model.logits(features[held])).double()).numpy()
    return scores


def _divided(folds: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    for fold in np.unique(folds):
        yield folds != fold, folds == fold


def _at_chance(
    features: torch.Tensor,
    part: pd.DataFrame,
    folds: NDArray[np.int64],
    shape: tuple[int, ...],
    rng: np.random.Generator,
) -> Estimate:
    """Mean and range of the AUC over permutations of the labels."""
    labels, groups = part["label"].to_numpy(np.int64), part["group"].to_numpy()
    found = []
    for _ in range(PERMUTATIONS):
        mixed = permuted(labels, groups, rng)
        scores = _scores(features, mixed, folds, shape)
        core = part[["image", "patient", "group", "view"]].assign(label=mixed, fold=folds, split="val")
        found.append(mean_fold_auc(Predictions(core.assign(p_negative=1 - scores, p_positive=scores))))
    middle, reach = float(np.mean(found)), 1.96 * float(np.std(found, ddof=1))
    return Estimate(middle, max(0.0, middle - reach), min(1.0, middle + reach))
