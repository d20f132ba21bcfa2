"""A patch of normal tissue beside a lesion."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from mammo_lightning.preprocessing.patches import Box

#: part of a patch that must be breast
TISSUE = 0.9
#: places are tried at steps of this part of a patch's side
STEP = 1 / 24


def nearest_tissue(breast: NDArray[np.bool_], near: Box, lesions: Sequence[Box]) -> Box | None:
    """The square of the size of `near` in the breast that lies nearest to it and on no lesion; none if there is none.

    Args:
        breast: Where the breast is.
        near: The square of the lesion, which the found one does not touch either.
        lesions: All that is marked in the image.
    """
    height, width = breast.shape
    side = near.width
    if side > min(height, width):
        return None
    step = max(1, int(side * STEP))
    xs, ys = np.arange(0, width - side + 1, step), np.arange(0, height - side + 1, step)
    sums = cv2.integral(breast.astype(np.uint8))
    corners = [sums[np.ix_(ys + down, xs + right)] for down, right in ((0, 0), (0, side), (side, 0), (side, side))]
    inside = (corners[3] - corners[2] - corners[1] + corners[0]) >= TISSUE * side * side
    for box in (near, *lesions):
        across = (xs < box.x + box.width) & (xs + side > box.x)
        along = (ys < box.y + box.height) & (ys + side > box.y)
        inside &= ~(along[:, None] & across[None, :])
    if not inside.any():
        return None
    far = (ys[:, None] - near.y) ** 2 + (xs[None, :] - near.x) ** 2
    row, column = np.unravel_index(np.where(inside, far, np.iinfo(np.int64).max).argmin(), far.shape)
    return Box(int(xs[column]), int(ys[row]), side, side)
