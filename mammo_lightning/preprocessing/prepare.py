"""From images as they are stored to what a classifier is given: float32, one image at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammo_lightning.errors import DataError, SettingsError, one_of
from mammo_lightning.preprocessing.contrast import background, gcn
from mammo_lightning.preprocessing.wavelet import eight_bit, wavelet_filter

NAMES = ("none", "wavelet", "gcn", "background")
DEFAULTS: dict[str, Any] = {"preprocessing": "none", "wavelet": "sym3", "wavelet_threshold": 1.5, "background_size": 15}
_CHUNK_PIXELS = 2**22  # the wavelet filter holds several copies of what it works on


def prepare(
    images: NDArray[Any], scale: float, settings: Mapping[str, Any], out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """All images of a dataset, transformed each by itself: no statistic is shared between images.

    Args:
        images: N x C x H x W in native depth.
        scale: The value that stands for white: 255, 65535, or 1 for floats.
        settings: Values for the keys of `DEFAULTS`; others are ignored.
        out: Where to put them; a new array otherwise.

    Returns:
        An N x C x H x W array: `none` in [0, 1]; `wavelet` in [0, 1] in 256 steps; `gcn` and `background` about zero.
    """
    chosen = {key: settings.get(key, value) for key, value in DEFAULTS.items()}
    name = chosen["preprocessing"]
    if name not in NAMES:
        raise SettingsError(f"no preprocessing {name!r}; {one_of(NAMES)}")
    if images.ndim != 4:
        raise DataError(f"images have shape {images.shape}; expected number x channels x height x width")
    result = np.empty(images.shape, np.float32) if out is None else out
    step = max(1, _CHUNK_PIXELS // max(1, int(np.prod(images.shape[1:]))))
    for start in range(0, len(images), step):
        result[start : start + step] = _transformed(np.asarray(images[start : start + step]), scale, chosen)
    return result


def _transformed(part: NDArray[Any], scale: float, chosen: Mapping[str, Any]) -> NDArray[np.float32]:
    match chosen["preprocessing"]:
        case "gcn":
            return gcn(part, scale=scale)
        case "background":
            return background(_unit(part, scale), size=chosen["background_size"])
        case "wavelet":
            filtered = wavelet_filter(
                _unit(part, scale), wavelet=chosen["wavelet"], threshold=chosen["wavelet_threshold"]
            )
            return eight_bit(filtered)
        case _:
            return _unit(part, scale)


def _unit(images: NDArray[Any], scale: float) -> NDArray[np.float32]:
    return np.asarray(np.divide(images, np.float32(scale), dtype=np.float32))
