"""What the fits of a study share, and the table that their scores become."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mammo_lightning.classifiers.base import Classifier
from mammo_lightning.datamodules.base import MammoDataModule
from mammo_lightning.datamodules.cache import kept_once
from mammo_lightning.datamodules.folds import Splits
from mammo_lightning.hardware import Hardware
from mammo_lightning.preprocessing.prepare import DEFAULTS, prepare
from mammo_lightning.types import PLACE_COLUMNS, Predictions, Split, digest

SHARED_BYTES = 2**28  # prepared images larger than this are not held by every process for itself
_KEPT = 2  # preprocessed copies of all images


@dataclass
class Task:
    """What the fits of a study share: a dataset, its frozen division, a classifier's name, and what they run on."""

    data: MammoDataModule
    splits: Splits
    classifier: str
    hardware: Hardware = field(default_factory=Hardware)
    _prepared: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)
    _features: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)

    def prepared(self, settings: Mapping[str, Any]) -> NDArray[np.float32]:
        """All images as a network takes them: per-image transforms only, so nothing crosses a fold."""
        key = _key(settings, DEFAULTS)
        if key not in self._prepared:
            while len(self._prepared) >= _KEPT:
                self._prepared.pop(next(iter(self._prepared)))
            self._prepared[key] = self._prepare(key, settings)
        return self._prepared[key]

    def _prepare(self, key: str, settings: Mapping[str, Any]) -> NDArray[np.float32]:
        images, file = self.data.images, getattr(self.data.images, "filename", None)
        if file is None or images.size * 4 < SHARED_BYTES:
            return prepare(np.asarray(images), self.data.scale, settings)
        return kept_once(
            Path(file).parent, digest(key), images.shape, lambda out: prepare(images, self.data.scale, settings, out)
        )

    def features(self, classifier: Classifier) -> torch.Tensor:
        """What a classifier that is solved works on, of all images: the same for every fold, hence computed once."""
        key = _key(classifier.settings, [*DEFAULTS, *classifier.feature_settings])
        if key not in self._features:
            self._features[key] = classifier.features(torch.from_numpy(self.prepared(classifier.settings)))
        return self._features[key]

    @property
    def targets(self) -> NDArray[np.float32]:
        """What is learned of every row: its label, or the number of its finer class."""
        frame, names = self.data.frame, self.data.targets
        return (frame["target"].map(names.index) if names else frame["label"]).to_numpy(np.float32)

    def predictions(
        self,
        scores: NDArray[np.float64],
        rows: NDArray[np.int64],
        fold: int,
        split: Split,
        shares: NDArray[np.float64] | None = None,
    ) -> Predictions:
        """Scores of rows, and shares of finer classes, as the table everything after training reads."""
        frame = self.data.frame.iloc[rows].reset_index(drop=True)
        kept = frame[["image", "patient", "view", "label"]].assign(
            group=self.splits.frame["group"].to_numpy()[rows], fold=fold, split=str(split)
        )
        negative, positive = self.data.classes
        kept = kept[["image", "patient", "group", "view", "fold", "split", "label"]]
        kept = kept.assign(**{f"p_{negative}": 1.0 - scores, f"p_{positive}": scores})
        if shares is not None:
            kept = kept.assign(**{f"q_{name}": shares[:, place] for place, name in enumerate(self.data.targets)})
        carried = [*(name for name in PLACE_COLUMNS if name in frame), *self.data.subgroups]
        return Predictions(kept.assign(**{name: frame[name] for name in carried}))


def _key(settings: Mapping[str, Any], names: Iterable[str]) -> str:
    return json.dumps({name: settings[name] for name in names}, sort_keys=True)
