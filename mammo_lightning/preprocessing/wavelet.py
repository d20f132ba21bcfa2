"""The wavelet filter: what is left of an image without its smooth background and its faint details."""

from __future__ import annotations

from typing import Any

import numpy as np
import pywt
from numpy.typing import NDArray

from mammo_lightning.errors import SettingsError, one_of

WAVELETS = ("sym3", "haar")
_AXES = (-2, -1)
_MODE = "symmetric"


def wavelet_filter(
    images: NDArray[np.floating[Any]],
    *,
    wavelet: str = "sym3",
    threshold: float = 1.5,
    level: int = 3,
    keep_approximation: bool = False,
    drop_level1: bool = False,
) -> NDArray[np.floating[Any]]:
    """Decompose, drop the approximation and every detail below a multiple of its level's spread, and rebuild.

    Args:
        images: ... x height x width; every plane is filtered by itself.
        wavelet: sym3 or haar.
        threshold: A detail c of level l is zeroed where abs(c) < threshold * sigma_l; sigma_l is the standard
            deviation (ddof=1) of the horizontal, vertical and diagonal details of that level together.
        level: Number of levels.
        keep_approximation: Keep the coarsest approximation instead of zeroing it.
        drop_level1: Zero the finest details altogether, where film grain and noise live.

    Returns:
        The filtered images, of the same shape, with a mean near zero unless the approximation is kept.
    """
    if wavelet not in WAVELETS:
        raise SettingsError(f"no wavelet {wavelet!r}; {one_of(WAVELETS)}")
    if not threshold >= 0:
        raise SettingsError(f"wavelet_threshold is {threshold}; it must be 0 or more (1.5 is usual)")
    details, sizes = [], []
    approximation = images
    # one level at a time: wavedec2 warns about small images, where only the boundary is less exact
    for _ in range(level):
        sizes.append(approximation.shape[-2:])
        approximation, detail = pywt.dwt2(approximation, wavelet, mode=_MODE, axes=_AXES)
        details.append(detail)
    if not keep_approximation:
        approximation = np.zeros_like(approximation)
    for number in reversed(range(level)):
        kept = _threshold(details[number], np.inf if drop_level1 and number == 0 else threshold)
        height, width = sizes[number]
        approximation = pywt.idwt2((approximation, kept), wavelet, mode=_MODE, axes=_AXES)[..., :height, :width]
    return np.ascontiguousarray(approximation)


def _threshold(bands: tuple[Any, ...], factor: float) -> tuple[Any, ...]:
    """The bands of one level with what lies below factor * (their common standard deviation) set to zero."""
    if np.isinf(factor):
        return tuple(np.zeros_like(band) for band in bands)
    stacked = np.stack(bands, axis=-3)
    sigma = stacked.std(axis=(-3, -2, -1), ddof=1, keepdims=True)
    return tuple(np.moveaxis(np.where(np.abs(stacked) < factor * sigma, 0, stacked), -3, 0))


def eight_bit(images: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Each image (N x C x H x W) stretched from its minimum to its maximum in 256 steps of [0, 1]; a flat one is 0."""
    low = images.min(axis=(1, 2, 3), keepdims=True)
    spread = images.max(axis=(1, 2, 3), keepdims=True) - low
    steps = np.rint((images - low) * (255 / np.where(spread > 0, spread, np.inf)))
    return np.asarray(steps / 255, np.float32)
