"""Albumentations transforms of grey levels and hue that know no range: relative to the image, and nothing is clipped.

The transforms that come with albumentations clip floats to [0, 1]; prepared images may lie about zero.
"""

from __future__ import annotations

import math
from typing import Any

import albumentations as A  # four seconds: import this file where it is needed
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


class Levels(A.ImageOnlyTransform):  # type: ignore[misc]
    """Contrast, brightness and noise in units of the image's own range, so that its scale and zero do not matter.

    Args:
        contrast: Factors between which contrast about the image's mean is multiplied.
        brightness: The most that is added or taken away, as a share of the range from darkest to brightest pixel.
        noise: Standard deviation of Gaussian noise, independent in each pixel, as a share of that range.
        p: How often.
    """

    def __init__(
        self, *, contrast: tuple[float, float] = (1.0, 1.0), brightness: float = 0.0, noise: float = 0.0, p: float = 1.0
    ) -> None:
        super().__init__(p=p)
        self.contrast, self.brightness, self.noise = contrast, brightness, noise

    def apply(self, img: Floats, **params: Any) -> Floats:
        """One draw for all channels of a H x W x C image."""
        span, mean = float(img.max() - img.min()), float(img.mean(dtype=np.float64))
        factor = self.py_random.uniform(*self.contrast)
        shift = span * self.py_random.uniform(-self.brightness, self.brightness)
        result = img * np.float32(factor)
        result += np.float32(mean * (1 - factor) + shift)
        if self.noise:
            grain = self.random_generator.standard_normal(img.shape, np.float32)
            grain *= np.float32(self.noise * span)
            result += grain
        return result


class Hue(A.ImageOnlyTransform):  # type: ignore[misc]
    """Colours turned about the grey axis, brightness (luma) kept; images without three channels stay as they are.

    Args:
        degrees: The most they are turned, to either side.
        p: How often.
    """

    def __init__(self, *, degrees: float, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.degrees = degrees

    def apply(self, img: Floats, **params: Any) -> Floats:
        """Every pixel of a H x W x C image turned by one angle."""
        angle = math.radians(self.py_random.uniform(-self.degrees, self.degrees))
        if img.shape[-1] != 3:
            return img
        turn = np.eye(3)
        turn[1:, 1:] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        return img @ np.linalg.solve(_YIQ, turn @ _YIQ).T.astype(np.float32)
