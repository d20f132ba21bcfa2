"""Where the breast is in a mammogram, its grey values stretched to what they are inside it, all facing one way."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mammo_lightning.errors import DataError
from mammo_lightning.preprocessing.patches import Box, squared

Image = NDArray[np.uint16]
Mask = NDArray[np.bool_]
#: side at which the outline is found; more shows nothing but noise
COARSE = 512
#: what is narrower than this part of the image and bright (letters, tape, scratches, a film's edge) is no breast
NARROW = 40
#: how much larger than the first threshold finds it a breast must be for the second to be believed
LARGER = 2.0
PERCENTILES = (0.5, 99.5)
#: the chest wall is on the side where the outline is this much longer, in the last part of the breast's width
CLEARLY, EDGE = 1.2, 50


class Standing(NamedTuple):
    """A breast as every network sees it: cut out, chest wall to the left, padded to a square."""

    image: Image
    flipped: bool
    #: whether the tag and the pixels agree on the side; None where one of them says nothing
    agreed: bool | None
    #: what was cut out, in pixels of the image that was passed
    box: Box


def breast_mask(image: NDArray[Any]) -> Mask:
    """The largest bright region, without holes and without what is narrow and touches it.

    Otsu's threshold of the square root of the grey values finds it. Where gland is so bright that it stands out of
    the fat and the fat is dark, a second threshold among what is below the first finds the whole breast; it is believed
    where that is much larger and as smooth and convex as a breast, which the grey of a film is not.
    """
    height, width = image.shape
    factor = min(1.0, COARSE / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = np.sqrt(cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32))
    top = float(np.percentile(small, 99.9)) or 1.0
    grey = cv2.GaussianBlur(np.clip(small / top * 255, 0, 255).astype(np.uint8), (5, 5), 0)
    if grey.min() == grey.max():
        raise DataError("no breast is seen in an image: it holds no bright region. Look at it, or leave it out.")
    threshold = _otsu(grey)
    outline = _outline(grey, threshold)
    below = grey[grey <= threshold]
    if below.min() < below.max():
        wider = _outline(grey, _otsu(below.reshape(1, -1)))
        if cv2.contourArea(wider) > LARGER * cv2.contourArea(outline) and _breast_like(wider):
            outline = wider
    filled = np.zeros(size[::-1], np.uint8)
    cv2.drawContours(filled, [outline], -1, 255, cv2.FILLED)
    return np.asarray(cv2.resize(filled, (width, height), interpolation=cv2.INTER_LINEAR) > 127)


def _otsu(grey: NDArray[np.uint8]) -> float:
    return float(cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[0])


def _outline(grey: NDArray[np.uint8], threshold: float) -> NDArray[np.int32]:
    """The contour of the largest region above a threshold.

    What is narrow is taken off its core; as far as narrow reaches, the core is then grown to half of the threshold,
    which brings skin and nipple back and does not flood a grey film.
    """
    bright = (grey > threshold).astype(np.uint8)
    narrow = max(3, max(grey.shape) // NARROW | 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (narrow, narrow))
    opened = cv2.morphologyEx(bright, cv2.MORPH_OPEN, disc)
    _, names, about, _ = cv2.connectedComponentsWithStats(opened if opened.any() else bright)
    core = (names == 1 + int(about[1:, cv2.CC_STAT_AREA].argmax())).astype(np.uint8)
    faint = (threshold + grey[bright == 0].mean()) / 2
    contours, _ = cv2.findContours(cv2.dilate(core, disc) * (grey > faint), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return max(contours, key=cv2.contourArea)


def _breast_like(outline: NDArray[np.int32]) -> bool:
    """Convex, smooth, and no rectangle of film."""
    hull, area = cv2.convexHull(outline), cv2.contourArea(outline)
    _, _, width, height = cv2.boundingRect(outline)
    smooth = cv2.arcLength(outline, True) < 1.06 * cv2.arcLength(hull, True)
    return bool(smooth and area > 0.95 * cv2.contourArea(hull) and area < 0.92 * width * height)


def stretched(image: NDArray[Any], mask: Mask) -> Image:
    """Grey values between two percentiles inside the mask brought to the whole range; beside it, black.

    Zero is padding, or darker than any tissue, and counts in no percentile.
    """
    inside = image[mask]
    inside = inside[inside > 0]
    inside = inside[:: max(1, inside.size // 2**20)]
    low, high = np.percentile(inside, PERCENTILES) if inside.size else (0.0, 0.0)
    if not high > low:
        raise DataError("a breast without contrast: all its pixels are alike. Look at the image, or leave it out.")
    if image.dtype in (np.uint8, np.uint16):  # each value once, and not each pixel
        seen: Image = _stretched(np.arange(2 ** (8 * image.dtype.itemsize)), low, high)[image]
    else:
        seen = _stretched(image, low, high)
    seen *= mask
    return seen


def _stretched(values: NDArray[Any], low: float, high: float) -> Image:
    unit = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
    shades: Image = np.rint(unit * 65535).astype(np.uint16)
    return shades


def bounds(mask: Mask) -> Box:
    """The smallest box that holds the mask."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return Box(x, y, width, height)


def wall_side(mask: Mask) -> Literal["L", "R", ""]:
    """The side on which the breast is cut off straight, that of the chest wall; empty where it is not clear."""
    box = bounds(mask)
    edge = max(1, box.width // EDGE)
    breast = box.of(mask)
    left, right = int(breast[:, :edge].sum()), int(breast[:, -edge:].sum())
    if max(left, right) < CLEARLY * max(1, min(left, right)):
        return ""
    return "L" if left > right else "R"


def standing(image: NDArray[Any], laterality: str) -> Standing:
    """A whole mammogram, 16 bit and square: stretched, cut to the breast, right breasts flipped by what the tag says.

    Args:
        image: Height x width, bright tissue on a dark ground.
        laterality: `L` or `R`; where it is empty, the side of the chest wall in the pixels decides.
    """
    mask = breast_mask(image)
    seen = wall_side(mask)
    flip = (laterality or seen) == "R"
    box = bounds(mask)
    breast = stretched(box.of(image), box.of(mask))
    breast = np.ascontiguousarray(breast[:, ::-1]) if flip else breast
    return Standing(squared(breast), flip, laterality == seen if laterality and seen else None, box)
