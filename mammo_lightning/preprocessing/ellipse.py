"""Lesions by the white ellipse that a radiologist drew around them, and patches that hold none of its ink."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mammo_lightning.preprocessing.patches import Box, tiles

Grey = NDArray[np.uint8]


@dataclass(frozen=True)
class EllipseRules:
    """What counts as a drawn ellipse, and which patches are taken. Lengths are pixels, grey values 8 bit.

    `median` to `nested` are the published steps. They alone also accept what is no ellipse: a box of up to about 120
    pixels, a filled disc, the O of MLO. `short_axis`, `deviation` and `filled` refuse those, and letters are told by
    their neighbours on one line. A stroke of less than 3 pixels does not outlive a median of 5.
    """

    median: int = 5
    white: int = 250
    close: int = 5
    dilate_radius: int = 5
    dilate_times: int = 2
    contour_area: float = 1000.0
    ellipse_area: float = 1000.0
    #: share of the fitted outline that lies on dilated ink
    overlap: float = 0.999
    #: centres closer than this are the two edges of one stroke
    nested: float = 16.0
    #: least length of the shorter axis
    short_axis: float = 36.0
    #: nine tenths of a contour lie so near to its ellipse, as a share of the shorter axis
    deviation: float = 0.05
    #: greatest share of ink in the middle of an ellipse
    filled: float = 0.5
    side: int = 128
    #: greatest share of white pixels in a patch; those of dilated ink are always refused
    white_share: float = 0.0
    black: int = 10
    black_share: float = 0.5
    #: least distance of a patch to the film's edge: that of the smallest circle taken (210 across), drawn at the edge
    edge: int = 41

    @property
    def reach(self) -> int:
        """How far the dilated ink reaches beyond the ink: more than a blurred edge (3) or a JPEG block (7) does."""
        return self.dilate_radius * self.dilate_times


RULES = EllipseRules()


class Ellipse(NamedTuple):
    """The outer edge of a drawn ellipse: its centre, the lengths of its axes, degrees."""

    x: float
    y: float
    width: float
    height: float
    angle: float

    @property
    def area(self) -> float:
        """What it encloses."""
        return float(np.pi * self.width * self.height / 4)

    @property
    def halves(self) -> tuple[float, float]:
        """Half the width and height of the upright rectangle around it."""
        turn, first, second = np.deg2rad(self.angle), self.width / 2, self.height / 2
        across = np.hypot(first * np.cos(turn), second * np.sin(turn))
        return float(across), float(np.hypot(first * np.sin(turn), second * np.cos(turn)))


def grey8(image: NDArray[np.uint16]) -> Grey:
    """16 bit to 8."""
    return (image >> 8).astype(np.uint8)


def find_ellipses(image8: Grey, rules: EllipseRules = RULES) -> list[Ellipse]:
    """The ellipses drawn into a mammogram, largest first; the two edges of a stroke are one ellipse.

    Args:
        image8: Height x width, 8 bit.
        rules: What counts as an ellipse.
    """
    ink = _ink(image8, rules)
    contours, _ = cv2.findContours(ink, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    edges = [edge for contour in contours if (edge := _edge(contour, ink, rules)) is not None]
    found: list[Ellipse] = []
    for edge in sorted(edges, key=lambda each: -each.area):
        if all(np.hypot(each.x - edge.x, each.y - edge.y) >= rules.nested for each in found):
            found.append(edge)
    around = [cv2.boundingRect(contour) for contour in contours] if found else []
    return [ellipse for ellipse in found if not _letter(ellipse, around)]


def lesion_boxes(
    image8: Grey, ellipses: Iterable[Ellipse], rules: EllipseRules = RULES
) -> tuple[list[Box], Counter[str]]:
    """The patch about the centre of each ellipse, and how many were refused for what.

    A patch that any ink comes near to is refused, be it the stroke of a small ellipse, text or a line.

    Args:
        image8: What the ellipses were found in.
        ellipses: What was found.
        rules: Side of a patch, and what it may hold.
    """
    boxes = [Box.centred(ellipse.x, ellipse.y, rules.side) for ellipse in ellipses]
    pad = rules.reach + rules.close + rules.median  # as far as a pixel of ink can tell on the patch
    inked = []
    for box in boxes:
        around = Box(box.x - pad, box.y - pad, box.width + 2 * pad, box.height + 2 * pad)
        near = _near(_ink(np.ascontiguousarray(around.of(image8)), rules), rules)
        inked.append(bool(near[pad:-pad, pad:-pad].any()))
    return _taken(image8, boxes, inked, rules)


def normal_boxes(image8: Grey, offset: tuple[int, int], rules: EllipseRules = RULES) -> tuple[list[Box], Counter[str]]:
    """Blocks side by side, and how many were refused for what: by the very limits that hold for lesions.

    Padded blocks are left out, and whatever is as white as ink is refused here, too: what no lesion patch can hold
    would say normal.

    Args:
        image8: A film in which nothing is drawn.
        offset: Where a corner of the blocks lies, across and down. To be drawn anew for each film: blocks that all
            start at multiples of 8 show the grid of JPEG at one place, and patches about lesions do not.
        rules: Side of a patch, and what it may hold.
    """
    left, top = (-shift % rules.side for shift in offset)
    covered = (image8.shape[0] + top, image8.shape[1] + left)
    boxes = [box._replace(x=box.x - left, y=box.y - top) for box in tiles(covered, rules.side)]
    near = _near(_ink(image8, rules), rules)
    return _taken(image8, boxes, [bool(box.of(near).any()) for box in boxes], rules)


def _taken(
    image8: Grey, boxes: Sequence[Box], inked: Sequence[bool], rules: EllipseRules
) -> tuple[list[Box], Counter[str]]:
    taken, refused = [], Counter[str]()
    height, width = image8.shape
    for box, ink in zip(boxes, inked, strict=True):
        patch = box.of(image8)
        if not box.inside(image8.shape):
            refused["reach beyond the film"] += 1
        elif min(box.x, box.y, width - box.x - box.width, height - box.y - box.height) < rules.edge:
            refused["lie near to the film's edge"] += 1
        elif (patch <= rules.black).mean() > rules.black_share:
            refused["are mostly black"] += 1
        elif ink or (patch >= rules.white).mean() > rules.white_share:
            refused["hold ink, or tissue as white"] += 1
        elif patch.min() == patch.max():
            refused["are of one grey value"] += 1
        else:
            taken.append(box)
    return taken, refused


def _ink(image8: Grey, rules: EllipseRules) -> Grey:
    """What is as white as ink: without specks, its small gaps closed."""
    smooth = cv2.medianBlur(image8, rules.median)
    _, white = cv2.threshold(smooth, rules.white - 1, 255, cv2.THRESH_BINARY)
    return np.asarray(cv2.morphologyEx(white, cv2.MORPH_CLOSE, _disc(rules.close)), np.uint8)


def _near(ink: Grey, rules: EllipseRules) -> Grey:
    """Ink and what is near to it."""
    near = cv2.dilate(ink, _disc(2 * rules.dilate_radius + 1), iterations=rules.dilate_times)
    return np.asarray(near, np.uint8)


def _disc(side: int) -> Grey:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)


def _edge(contour: NDArray[Any], ink: Grey, rules: EllipseRules) -> Ellipse | None:
    """The ellipse that a contour is, if it is one."""
    if len(contour) < 5 or cv2.contourArea(contour) < rules.contour_area:
        return None
    (x, y), (width, height), angle = cv2.fitEllipse(contour)
    fitted = Ellipse(x, y, width, height, angle)
    if not np.isfinite(fitted).all() or max(width, height) > 2 * max(ink.shape):
        return None
    if min(width, height) < rules.short_axis or fitted.area < rules.ellipse_area:
        return None
    off = np.quantile(_distances(fitted, contour.reshape(-1, 2)), 0.9)
    return fitted if off <= rules.deviation * min(width, height) and _drawn(fitted, ink, rules) else None


def _distances(ellipse: Ellipse, points: NDArray[Any]) -> NDArray[np.float64]:
    """How far points lie off the outline, along the ray from the centre."""
    turn = np.deg2rad(ellipse.angle)
    across, down = points[:, 0] - ellipse.x, points[:, 1] - ellipse.y
    first = (across * np.cos(turn) + down * np.sin(turn)) / (ellipse.width / 2)
    second = (down * np.cos(turn) - across * np.sin(turn)) / (ellipse.height / 2)
    times = np.maximum(np.hypot(first, second), 1e-9)
    return np.asarray(np.abs(1 - 1 / times) * np.hypot(across, down))


def _drawn(ellipse: Ellipse, ink: Grey, rules: EllipseRules) -> bool:
    """Whether the outline runs on dilated ink, around a middle that is none.

    The ink is dilated where the ellipse is, and not everywhere: it costs most of all steps.
    """
    side = int(np.ceil(max(ellipse.width, ellipse.height))) + 2 * (rules.reach + 2)
    box = Box.centred(ellipse.x, ellipse.y, side)
    here, centre = np.ascontiguousarray(box.of(ink)), (ellipse.x - box.x, ellipse.y - box.y)
    axes = (ellipse.width, ellipse.height)
    outline = cv2.ellipse(np.zeros_like(here), (centre, axes, ellipse.angle), 1, 1)
    if (_near(here, rules)[outline > 0] > 0).mean() <= rules.overlap:
        return False
    half = (ellipse.width / 2, ellipse.height / 2)
    middle = cv2.ellipse(np.zeros_like(here), (centre, half, ellipse.angle), 1, cv2.FILLED)
    return bool((here[middle > 0] > 0).mean() <= rules.filled)


def _letter(ellipse: Ellipse, around: Iterable[Sequence[int]]) -> bool:
    """Whether something stands beside it on one line and as high, as beside an O."""
    across, down = ellipse.halves
    for left, top, width, height in around:
        gap = max(left - (ellipse.x + across), ellipse.x - across - (left + width))
        level = max(abs(top - (ellipse.y - down)), abs(top + height - (ellipse.y + down)))
        if 0 <= gap < down and level < 0.2 * down and width < 3 * down:
            return True
    return False
