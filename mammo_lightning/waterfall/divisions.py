"""Less strict divisions of the same images: by image, and by patient without merging who shares one."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mammo_lightning.datamodules.folds import TRAIN_ONLY, Splits
from mammo_lightning.errors import DataError
from mammo_lightning.types import seed_from

ATTEMPTS = 20


def by_image(splits: Splits) -> Splits:
    """The same folds with as many images of each class, dealt without regard to patients; the rest stays hidden."""
    frame, code = splits.frame, splits.fold.copy()
    rng = np.random.default_rng(seed_from(splits.digest, "by image"))
    for label in (0, 1):
        rows = np.flatnonzero((splits.fold >= TRAIN_ONLY) & (frame["label"] == label).to_numpy())
        code[rows] = rng.permutation(code[rows])
    return Splits(frame.assign(group=frame["image"], fold=code), splits.dataset_digest, "image")


def by_patient(splits: Splits, patients: pd.Series) -> Splits | None:
    """The same folds, but patients who share an image are dealt one by one; None where no two do."""
    frame = splits.frame.drop(columns="pixels", errors="ignore").assign(group=patients.to_numpy())
    inside = np.flatnonzero(splits.fold >= TRAIN_ONLY)
    several = frame["group"].iloc[inside].groupby(splits.frame["group"].iloc[inside]).transform("nunique") > 1
    torn = sorted(set(frame["group"].iloc[inside[several.to_numpy()]]))
    if not torn:
        return None
    rng = np.random.default_rng(seed_from(splits.digest, "by patient"))
    for _ in range(ATTEMPTS):
        dealt = dict(zip(torn, rng.choice(splits.fold[inside], len(torn)).tolist(), strict=True))
        code = splits.fold.copy()
        code[inside] = frame["group"].iloc[inside].map(dealt).fillna(pd.Series(code)).astype(int)
        if all(set(frame["label"][code == fold]) == {0, 1} for fold in splits.folds):
            return Splits(frame.assign(fold=code), splits.dataset_digest, "patient")
    raise DataError("patients who share an image cannot be dealt into folds that hold both classes; pass fewer --folds")
