"""An ensemble on disk, ready to score images: members as weights and configuration, the rest as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammo_lightning.errors import DataError

MANIFEST = "servable.json"
BATCH = 256


@dataclass(frozen=True)
class Servable:
    """Scores images in native depth: the mean over members of the calibrated probability of the positive class."""

    members: list[Any]
    manifest: dict[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, the positive one last."""
        return tuple(self.manifest["classes"])

    @property
    def threshold(self) -> float:
        """A score that reaches it is called positive."""
        return float(self.manifest["threshold"])

    def __call__(self, images: NDArray[Any]) -> NDArray[np.float64]:
        """Probability of the positive class of images: N x C x H x W, or N x H x W where there is one channel."""
        channels, height, width = self.manifest["shape"]
        given = images[:, None] if images.ndim == 3 and channels == 1 else images
        if given.shape[1:] != (channels, height, width):
            taken = f"N x {channels} x {height} x {width}"
            raise DataError(f"images have shape {images.shape}; the model takes {taken}. Crop or resize them")
        parts = [self._score(given[start : start + BATCH]) for start in range(0, len(given), BATCH)]
        return np.concatenate(parts) if parts else np.empty(0)

    def _score(self, images: NDArray[Any]) -> NDArray[np.float64]:
        import torch

        from mammo_lightning.evaluation.calibration import Platt
        from mammo_lightning.preprocessing.prepare import DEFAULTS, prepare

        prepared: dict[str, torch.Tensor] = {}
        total = np.zeros(len(images))
        for member, platt in zip(self.members, self.manifest["calibrators"], strict=True):
            key = str([member.settings.get(name) for name in DEFAULTS])
            if key not in prepared:
                prepared[key] = torch.from_numpy(prepare(images, self.manifest["scale"], member.settings))
            with torch.inference_mode():
                scores = torch.sigmoid(member(prepared[key]).double()).numpy()
            total += Platt.from_dict(platt)(scores)
        return total / len(self.members)


def load_servable(folder: Path) -> Servable:
    """Read what `save_servable` wrote (or the folder inside that holds the weights); nothing is unpickled."""
    from mammo_lightning.classifiers import weights

    inside = folder / "artifacts" / "servable"
    folder = inside if inside.is_dir() else folder
    if not (folder / MANIFEST).is_file():
        raise DataError(f"no {MANIFEST} in '{folder}'; expected the folder of a served model")
    manifest = json.loads((folder / MANIFEST).read_text())
    members = [weights.load(folder / "members" / str(number)) for number in range(len(manifest["calibrators"]))]
    return Servable(members, manifest)
