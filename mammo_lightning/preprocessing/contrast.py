"""Contrast transforms of single images; nothing is fitted across images."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammo_lightning.errors import SettingsError


def gcn(
    images: NDArray[Any], *, regularisation: float = 10.0, scale: float = 1.0, epsilon: float = 1e-9
) -> NDArray[np.float32]:
    """Global contrast normalisation: x - mean(x), divided by max(sqrt(regularisation + mean(x^2)), epsilon).

    The regularisation keeps a flat image from being blown up and is a number of squared gray levels of the 16-bit
    scale 0..65535, for which 10 is next to nothing. Images of another depth are therefore brought to that scale
    first, so that a film digitised at 8 bit and its 16-bit copy give the same result.

    Args:
        images: N x C x H x W.
        regularisation: Squared gray levels of the 16-bit scale.
        scale: The value that stands for white: 65535 for 16-bit images, 255 for 8-bit ones, 1 for floats.
        epsilon: The least divisor.
    """
    levels = images.astype(np.float32) * np.float32(65535 / scale)
    levels -= levels.mean(axis=(1, 2, 3), keepdims=True, dtype=np.float64).astype(np.float32)
    power = np.square(levels).mean(axis=(1, 2, 3), keepdims=True, dtype=np.float64)
    divisor = np.maximum(np.sqrt(regularisation + power), epsilon)
    return np.asarray(levels / divisor, np.float32)


def background(images: NDArray[np.float32], *, size: int = 15) -> NDArray[np.float32]:
    """Each image minus its local mean over a box of `size` pixels (reflected border): small bright things stay."""
    if not isinstance(size, int | np.integer) or size < 2:
        raise SettingsError(
            f"background_size is {size!r}; it must be a whole number of pixels, 2 or more (15 is usual)"
        )
    flat = np.ascontiguousarray(images, np.float32).reshape(-1, *images.shape[-2:])
    result = np.empty_like(flat)
    for source, target in zip(flat, result, strict=True):
        np.subtract(source, cv2.blur(source, (int(size), int(size)), borderType=cv2.BORDER_REFLECT), out=target)
    return result.reshape(images.shape)
