"""An ensemble on disk, ready to score images: members as weights and configuration, the rest as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammo_lightning.errors import DataError
from mammo_lightning.evaluation.calibration import Platt
from mammo_lightning.evaluation.calibrators import Calibrator, calibrator_from
from mammo_lightning.evaluation.combining import Combiner
from mammo_lightning.tracking.manifest import MANIFEST, TRAINED_ON, Manifest, read_manifest

#: images that a network is given at a time: more leave the caches of a core, and a GPU is idle with fewer
BATCH, GPU_BATCH = 64, 512
#: pixels that it is given at a time, whatever their number
PIXELS = 2**22


@dataclass(frozen=True)
class Loaded:
    """One member, ready: its score is the mean of the calibrated probabilities of its fits."""

    name: str
    fits: Sequence[Any]
    calibrators: Sequence[Calibrator]


@dataclass(frozen=True)
class Servable:
    """Scores images in native depth: each member, and all of them combined by the rule of the ensemble."""

    members: Sequence[Loaded]
    combiner: Combiner
    about: Manifest
    device: Any
    #: digests of the pixels of every image that was seen while the ensemble was made; empty where that is not known
    trained_on: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))

    @property
    def manifest(self) -> dict[str, Any]:
        """All that was written down of it."""
        return self.about.model_dump(mode="json")

    @property
    def classes(self) -> tuple[str, str]:
        """Class names, the positive one last."""
        return self.about.classes

    @property
    def threshold(self) -> float:
        """A score that reaches it is called positive."""
        return self.about.threshold

    def __call__(self, images: NDArray[Any], names: Sequence[str] = ()) -> NDArray[np.float64]:
        """Probability of the positive class of images: N x C x H x W, or N x H x W where there is one channel.

        Args:
            images: In native depth; one that is constant or not finite is refused.
            names: What they are called where one is.
        """
        scores = self.member_scores(images, names)
        return self.combiner(scores) if scores.shape[1] else np.empty(0)

    def member_scores(self, images: NDArray[Any], names: Sequence[str] = ()) -> NDArray[np.float64]:
        """What each member says: members x images."""
        channels, height, width = self.about.shape
        given = images[:, None] if images.ndim == 3 and channels == 1 else images
        if given.shape[1:] != (channels, height, width):
            taken = f"N x {channels} x {height} x {width}"
            raise DataError(f"images have shape {images.shape}; the model takes {taken}. Crop or resize them")
        _check_pixels(given, names)
        step = self.batch
        parts = [self._scores(given[start : start + step]) for start in range(0, len(given), step)]
        return np.concatenate(parts, axis=1) if parts else np.empty((len(self.members), 0))

    @property
    def batch(self) -> int:
        """How many images are best passed at a time."""
        most = BATCH if self.device.type == "cpu" else GPU_BATCH
        return max(1, min(most, PIXELS // int(np.prod(self.about.shape))))

    def _scores(self, images: NDArray[Any]) -> NDArray[np.float64]:
        import torch

        from mammo_lightning.preprocessing.prepare import DEFAULTS, prepare

        prepared: dict[str, torch.Tensor] = {}
        scores = np.zeros((len(self.members), len(images)))
        # what a GPU rounds to make haste would make its scores others than those that were reported
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
            for row, member in enumerate(self.members):
                for fit, calibrator in zip(member.fits, member.calibrators, strict=True):
                    key = str([fit.settings.get(name, default) for name, default in DEFAULTS.items()])
                    if key not in prepared:
                        floats = torch.from_numpy(prepare(images, self.about.scale, fit.settings)).to(self.device)
                        prepared[key] = floats.contiguous(memory_format=torch.channels_last)
                    odds = fit(prepared[key]).cpu().double()
                    scores[row] += calibrator(torch.sigmoid(odds).numpy())
                scores[row] /= len(member.fits)
        return scores


def _check_pixels(images: NDArray[Any], names: Sequence[str]) -> None:
    """Refuse images that say nothing: a network makes a probability of them all the same."""
    least, most = images.min(axis=(1, 2, 3)), images.max(axis=(1, 2, 3))
    finite = np.isfinite(least) & np.isfinite(most)
    for bad in np.flatnonzero(~finite | (least == most))[:1]:
        name = f"'{names[bad]}'" if len(names) else f"image {bad + 1} of {len(images)}"
        if not finite[bad]:
            raise DataError(f"{name} has a pixel that is no finite number. Mend it, or leave it out")
        raise DataError(f"{name} is constant ({least[bad]}); an image needs contrast. Leave it out")


def load_servable(folder: Path) -> Servable:
    """Read what `save_servable` wrote (or the folder inside that holds the weights); nothing is unpickled."""
    import torch

    inside = folder / "artifacts" / "servable"
    folder = inside if inside.is_dir() else folder
    about = read_manifest(folder)
    combiner = Combiner.from_dict(about.combiner)
    if len(combiner.weights) != len(about.members):
        raise DataError(
            f"'{folder / MANIFEST}' weighs {len(combiner.weights)} members and names {len(about.members)}; copy the "
            "model again"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    members = [
        Loaded(
            member.name,
            [_fit(folder / "members" / str(number), about.shape).to(device) for number in member.fits],
            [calibrator_from(each) if "name" in each else Platt.from_dict(each) for each in member.calibrators],
        )
        for member in about.members
    ]
    return Servable(members, combiner, about, device, _trained_on(folder / TRAINED_ON))


def _fit(folder: Path, shape: tuple[int, int, int]) -> Any:
    import torch

    from mammo_lightning.classifiers import weights

    try:
        fit = weights.load(folder)
    except DataError:
        raise
    except Exception as error:  # a damaged file provokes whatever its content happens to
        line = next(iter(str(error).splitlines()), "")[:120]
        raise DataError(
            f"the weights in '{folder}' are damaged or of another version ({type(error).__name__}: {line}); copy the "
            "model again"
        ) from None
    if tuple(fit.shape) != shape:
        raise DataError(
            f"the weights in '{folder}' take {fit.shape}, and {MANIFEST} says {shape}; copy the model again"
        )
    return fit.to(memory_format=torch.channels_last)


def _trained_on(path: Path) -> NDArray[np.uint64]:
    if not path.is_file():
        return np.empty(0, np.uint64)
    try:
        kept = np.load(path, allow_pickle=False)
    except Exception:  # its head is Python source, and numpy passes on what reading that provokes
        kept = None
    if not isinstance(kept, np.ndarray) or kept.dtype != np.uint64 or kept.ndim != 1:
        raise DataError(f"'{path}' is no list of digests; copy the model again")
    return kept
