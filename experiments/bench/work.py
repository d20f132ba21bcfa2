"""The work that all peers do: generated patches, their folds, and the settings of a small network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammo_lightning.datamodules.folds import make_splits
from mammo_lightning.registry import CLASSIFIERS, DATASETS
from mammo_lightning.space import make_space
from mammo_lightning.training import Task

CLASSIFIER = "hyper"


@dataclass(frozen=True)
class Work:
    """Prepared images as one array, labels, folds and settings; `task` is the same as our fits take it."""

    task: Task
    settings: dict[str, Any]

    @property
    def images(self) -> NDArray[np.float32]:
        """Images as networks take them."""
        return self.task.prepared(self.settings)

    @property
    def labels(self) -> NDArray[np.float32]:
        """0 or 1."""
        return self.task.data.frame["label"].to_numpy(np.float32)

    def rows(self, fold: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Training and scored rows of a fold."""
        rows = self.task.splits.rows(fold, inner=False)
        return rows.train, rows.score


def make_work(patients: int, mlruns: Path, folds: int) -> Work:
    """Generated patches of so many patients, a quarter of them in the test split."""
    data = DATASETS.get("synthetic")(patients=patients, mlruns=mlruns)
    data.prepare_data()
    task = Task(data, make_splits(data, folds=folds), CLASSIFIER)
    return Work(task, make_space(CLASSIFIERS.get(CLASSIFIER), chosen={}).fixed)
