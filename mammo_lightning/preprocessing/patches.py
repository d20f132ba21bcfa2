"""Patches of a larger image: boxes, squares of a physical size, tiles."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mammo_lightning.errors import DataError


class Box(NamedTuple):
    """A rectangle of pixels, from its upper left corner; as text `x,y,width,height`."""

    x: int
    y: int
    width: int
    height: int

    def __str__(self) -> str:
        return ",".join(map(str, self))

    @classmethod
    def parse(cls, text: str) -> Box:
        """What `str` gave."""
        try:
            x, y, width, height = (int(part) for part in str(text).split(","))
        except ValueError:
            raise DataError(f"box '{text}' is not understood; write x,y,width,height in whole pixels") from None
        if width < 1 or height < 1:
            raise DataError(f"box '{text}' is empty; width and height must be 1 or more")
        return cls(x, y, width, height)

    @classmethod
    def centred(cls, x: float, y: float, side: int) -> Box:
        """The square of a side about a point."""
        return cls(round(x - side / 2), round(y - side / 2), side, side)

    def inside(self, shape: tuple[int, ...]) -> bool:
        """Whether all of it lies in an image of that height and width."""
        return self.x >= 0 and self.y >= 0 and self.x + self.width <= shape[1] and self.y + self.height <= shape[0]

    def overlaps(self, other: Box) -> bool:
        """Whether the two share a pixel."""
        across = self.x < other.x + other.width and other.x < self.x + self.width
        return across and self.y < other.y + other.height and other.y < self.y + self.height

    def shifted_into(self, shape: tuple[int, ...]) -> Box:
        """Moved as little as it takes to lie in an image of that height and width, if it fits."""
        x = min(max(self.x, 0), max(shape[1] - self.width, 0))
        return Box(x, min(max(self.y, 0), max(shape[0] - self.height, 0)), self.width, self.height)

    def mirrored(self, width: int) -> Box:
        """The same place in the image flipped left to right."""
        return Box(width - self.x - self.width, self.y, self.width, self.height)

    def of(self, image: NDArray[Any]) -> NDArray[Any]:
        """The pixels in it; what lies outside of the image is zero."""
        if self.inside(image.shape):
            return image[self.y : self.y + self.height, self.x : self.x + self.width]
        found = np.zeros((self.height, self.width, *image.shape[2:]), image.dtype)
        top, left = max(self.y, 0), max(self.x, 0)
        part = image[top : max(self.y + self.height, 0), left : max(self.x + self.width, 0)]
        found[top - self.y : top - self.y + part.shape[0], left - self.x : left - self.x + part.shape[1]] = part
        return found


def squared(image: NDArray[Any]) -> NDArray[Any]:
    """Padded with zeros to a square: the upper left corner stays, so that the chest wall does."""
    height, width = image.shape[:2]
    side = max(height, width)
    return image if height == width else Box(0, 0, side, side).of(image)


def field_side(field_mm: float, spacing_mm: float) -> int:
    """How many pixels a field of so many millimetres is across."""
    if not 0 < spacing_mm < math.inf:
        raise DataError(
            f"a pixel of {spacing_mm:g} mm is none; the spacing must be above 0 mm. Correct it, or leave it out"
        )
    return max(1, round(field_mm / spacing_mm))


def tiles(shape: tuple[int, ...], side: int) -> list[Box]:
    """Squares that cover an image row by row; those at the lower and right edge may reach beyond it."""
    return [Box(x, y, side, side) for y in range(0, shape[0], side) for x in range(0, shape[1], side)]
