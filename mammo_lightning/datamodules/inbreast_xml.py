"""The outlines that radiologists drew in INbreast: property lists as OsiriX writes them."""

from __future__ import annotations

import plistlib
import re
from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path
from typing import Any

from mammo_lightning.errors import DataError
from mammo_lightning.preprocessing.breast import Standing
from mammo_lightning.preprocessing.patches import Box

_NUMBER = r"\s*(-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)\s*"
_POINT = re.compile(rf"\({_NUMBER},{_NUMBER}(?:,{_NUMBER})?\)")
#: what names are spelled as: `Assymetry`, `Espiculated Region` and single calcifications without a name stand there
SPELLED = {
    "assymetry": "asymmetry",
    "espiculated region": "spiculated region",
    "calcifications": "calcification",
    "unnamed": "",
    "point 1": "",
    "point 3": "",
}


@dataclass(frozen=True)
class Roi:
    """One outline in pixels of the mammogram as it is stored, before it is cut or flipped; or a single point."""

    name: str  # mass, calcification, cluster, spiculated region, asymmetry, distortion, pectoral muscle; or empty
    points: tuple[tuple[float, float], ...]

    @property
    def box(self) -> Box:
        """The smallest box of whole pixels that holds every point."""
        xs, ys = zip(*self.points, strict=True)
        x, y = floor(min(xs)), floor(min(ys))
        return Box(x, y, max(1, ceil(max(xs)) - x), max(1, ceil(max(ys)) - y))


def rois(path: Path) -> list[Roi]:
    """Every outline of one file, in order.

    Args:
        path: An XML property list, `AllXML/<number>.xml`.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"'{path}' cannot be opened ({error.strerror}). Check the file and its permissions.") from None
    try:
        content = plistlib.loads(data, fmt=plistlib.FMT_XML)  # refuses entities, hence cannot be blown up
    except Exception as error:  # it raises what a broken element happens to provoke
        raise DataError(f"'{path}' is cut short or no property list ({_line(error)}). Copy it again.") from None
    images = content.get("Images") if isinstance(content, dict) else None
    if not isinstance(images, list):
        raise DataError(f"'{path}' holds no list 'Images'; expected outlines as OsiriX writes them. Copy it again.")
    found: list[Any] = []
    for image in images:
        entries = image.get("ROIs", []) if isinstance(image, dict) else None
        if not isinstance(entries, list):
            raise DataError(f"'{path}' holds an image without a list 'ROIs'. Copy it again.")
        found += entries
    return [_roi(path, entry, number) for number, entry in enumerate(found, start=1)]


def placed(box: Box, seen: Standing, size: int) -> Box | None:
    """Where something in a stored mammogram lies once `standing` has cut and flipped it and it is resized.

    Args:
        box: Its place in pixels of the file.
        seen: What `standing` made of the file.
        size: Side of the image.

    Returns:
        The smallest box of whole pixels that holds it; none where all of it was cut away.
    """
    cut, scale = seen.box, size / max(seen.box.width, seen.box.height)
    moved = Box(box.x - cut.x, box.y - cut.y, box.width, box.height)
    if seen.flipped:
        moved = moved.mirrored(cut.width)
    left, top = max(moved.x, 0), max(moved.y, 0)
    right, bottom = min(moved.x + moved.width, cut.width), min(moved.y + moved.height, cut.height)
    if right <= left or bottom <= top:
        return None
    x, y = floor(left * scale), floor(top * scale)
    return Box(x, y, ceil(right * scale) - x, ceil(bottom * scale) - y)


def _roi(path: Path, entry: Any, number: int) -> Roi:
    points = entry.get("Point_px") if isinstance(entry, dict) else None
    if not isinstance(points, list) or not points:
        raise DataError(f"'{path}' outline {number} has no points 'Point_px'. Copy it again, or remove the outline.")
    name = " ".join(str(entry.get("Name") or "").lower().split())
    return Roi(SPELLED.get(name, name), tuple(_point(path, number, point) for point in points))


def _point(path: Path, number: int, text: Any) -> tuple[float, float]:
    match = _POINT.fullmatch(str(text).strip())
    if match is None:
        raise DataError(
            f"'{path}' outline {number} has a point '{str(text)[:40]}'; expected '(x, y)'. Mend or remove it."
        )
    return float(match[1]), float(match[2])


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:80]
