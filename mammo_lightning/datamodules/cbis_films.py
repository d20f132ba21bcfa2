"""Where in each film of CBIS-DDSM a lesion lies, found once from its mask and remembered."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from mammo_lightning.errors import DataError, TrackingError
from mammo_lightning.hardware import cores
from mammo_lightning.preprocessing.breast import COARSE, bounds, breast_mask, wall_side
from mammo_lightning.preprocessing.dicom import read_dicom, read_header
from mammo_lightning.preprocessing.header import Header
from mammo_lightning.preprocessing.images import read_image
from mammo_lightning.preprocessing.patches import Box, field_side
from mammo_lightning.preprocessing.tissue import nearest_tissue
from mammo_lightning.types import digest

#: films that are open at a time: each takes some 400 MB
AT_ONCE = 4
#: sides of a mask and its film may differ by this much
ALIKE = 0.02
#: a crop has far fewer pixels that are as dark or as bright as its extremes
NEARLY = 0.9
MARGIN, LEAST = 1.2, 150
ALONE = "lesions of which only the cropped file can be used, as it is"


class Shown(NamedTuple):
    """A lesion with the files that show it: its film, if it is there, and a mask and a crop in either order."""

    name: str
    film: Path | None
    marks: tuple[Path, ...]


@dataclass(frozen=True)
class Cut:
    """What is read for a lesion: a box of a film, or without one a whole crop; or why it cannot be."""

    path: str = ""
    box: str = ""
    baseline: str = ""
    spacing_mm: float = 0.0
    instance: str = ""
    notes: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Cutter:
    """How patches are cut."""

    crop: str
    field_mm: float
    spacing_mm: float  # where a film does not tell its own
    baseline: bool

    def view(self, shown: Sequence[Shown]) -> dict[str, Cut]:
        """The cut of every lesion of a view, by name."""
        marks = {each.name: _Marks.of(each.marks) for each in shown}
        films = {each.film: _Film(each.film) for each in shown if each.film}
        there = [each for each in shown if each.marks]
        return {each.name: self._cut(each, marks, films[each.film] if each.film else None) for each in there}

    def _cut(self, each: Shown, marks: dict[str, _Marks], film: _Film | None) -> Cut:
        mine = marks[each.name]
        try:
            if mine.why:
                raise DataError(mine.why)
            if film and (box := mine.on(film.shape)):
                return self._from_film(film, box, mine, [one.on(film.shape) for one in marks.values()])
            if mine.crop is None:
                raise DataError(f"'{each.marks[0]}' has neither a usable mask with a film nor a crop beside it")
            crop, notes = _Film(mine.crop), [ALONE]
            return Cut(str(crop.path), "", "", self._spacing(crop, notes), crop.instance, tuple(notes))
        except DataError as error:
            return Cut(why=str(error))

    def _from_film(self, film: _Film, lesion: Box, mine: _Marks, lesions: list[Box | None]) -> Cut:
        notes: list[str] = []
        spacing, longest = self._spacing(film, notes), max(lesion.width, lesion.height)
        side = max(LEAST, math.ceil(MARGIN * longest))
        if self.crop == "field":
            side = field_side(self.field_mm, spacing)
            if longest > side:
                notes.append(f"lesions that reach beyond the field of {self.field_mm:g} mm")
        if mine.shape != film.shape:
            notes.append("masks of another size than their film, scaled to it")
        middle = lesion.x + lesion.width / 2, lesion.y + lesion.height / 2
        box = Box.centred(*middle, side).shifted_into(film.shape)
        placed = [other for other in lesions if other is not None]
        sure = len(placed) == len(lesions)  # tissue may hide a lesion whose place is not known
        beside = nearest_tissue(film.breast, box, placed) if self.baseline and sure else None
        return Cut(str(film.path), str(box), str(beside or ""), spacing, film.instance, tuple(notes))

    def _spacing(self, film: _Film, notes: list[str]) -> float:
        if film.spacing_mm is None:
            notes.append(f"films that do not tell their spacing, taken as {self.spacing_mm:g} mm (DDSM: 0.042 to 0.05)")
        return film.spacing_mm or self.spacing_mm


def surveyed(
    views: list[list[Shown]],
    cutter: Cutter,
    memory: Path,
    progress: Callable[[Iterable[Any], str, int], Iterable[Any]],
) -> dict[str, Cut]:
    """The cuts of all views by name; what was found before is remembered in the file `memory`, a line a view."""
    keys = [_key(view, cutter) for view in views]
    pool = ThreadPoolExecutor(min(cores(), AT_ONCE))
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{memory}.lock"):
            known = _recalled(memory)
            new = [(key, view) for key, view in zip(keys, views, strict=True) if key not in known]
            with memory.open("a") as log:
                results = pool.map(cutter.view, [view for _, view in new])
                for (key, _), cuts in progress(zip(new, results, strict=True), "masks", len(new)):
                    known[key] = cuts
                    if not any(cut.why for cut in cuts.values()):  # what was wrong may be mended until the next start
                        log.write(json.dumps([key, {name: asdict(cut) for name, cut in cuts.items()}]) + "\n")
    except OSError as error:
        raise TrackingError(f"cannot write '{memory}': {error.strerror}. Pass --mlruns DIR") from error
    finally:
        pool.shutdown(cancel_futures=True)
    return {name: cut for key in keys for name, cut in known[key].items()}


def is_dicom(path: Path) -> bool:
    """Whether a file is read as DICOM: also one without a suffix."""
    return path.suffix.lower() in ("", ".dcm", ".dicom")


def read_film(path: Path) -> NDArray[Any]:
    """The pixels of a film, crop or mask."""
    return read_dicom(path) if is_dicom(path) else read_image(path)


def wall_of(film: NDArray[Any]) -> str:
    """The side on which the chest wall is seen in a whole film, `L` or `R`; empty where it is not clear."""
    step = max(1, min(film.shape) // COARSE)
    try:
        return wall_side(breast_mask(film[::step, ::step]))
    except DataError:  # a film in which no breast is seen says nothing
        return ""


class _Film:
    """One film, or crop: opened as far as it is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _header(self) -> Header | None:
        return read_header(self.path) if is_dicom(self.path) else None

    @cached_property
    def _image(self) -> NDArray[Any]:
        return read_film(self.path)

    @cached_property
    def shape(self) -> tuple[int, int]:
        if self._header is not None and self._header.rows and self._header.columns:
            return self._header.rows, self._header.columns
        return self._image.shape[0], self._image.shape[1]

    @property
    def spacing_mm(self) -> float | None:
        return self._header.spacing_mm if self._header is not None else None

    @cached_property
    def instance(self) -> str:
        told = self._header.instance if self._header is not None else ""
        return told or digest(self.path.read_bytes())

    @cached_property
    def breast(self) -> NDArray[np.bool_]:
        return breast_mask(self._image)


@dataclass(frozen=True)
class _Marks:
    """The mask and the crop of an abnormality, told apart by what they hold: the csv files swap some."""

    lesion: Box | None = None
    shape: tuple[int, ...] = ()
    crop: Path | None = None
    why: str = ""

    @classmethod
    def of(cls, paths: Sequence[Path]) -> _Marks:
        lesion, shape, crop = None, (), None
        for path in paths:
            try:
                image = read_film(path)
            except DataError as error:
                return cls(why=str(error))
            low, high = image.min(), image.max()
            if low == high:  # a mask in which nothing is marked
                continue
            two = float(((image == low) | (image == high)).mean())
            if two < NEARLY:
                crop = crop or path
            elif two < 1:
                return cls(
                    why=f"'{path}' is a mask with other values than two: it is damaged. Copy or convert it again"
                )
            elif lesion is None and image.ndim == 2:
                lesion, shape = bounds(image == high), image.shape
        return cls(lesion, shape, crop)

    def on(self, shape: tuple[int, ...]) -> Box | None:
        """The lesion in a film of that shape; none where the mask is not of such a film."""
        if self.lesion is None:
            return None
        down, across = (film / mask for film, mask in zip(shape, self.shape, strict=True))
        if abs(down / across - 1) > ALIKE:
            return None
        x, y, width, height = self.lesion
        return Box(round(x * across), round(y * down), max(1, round(width * across)), max(1, round(height * down)))


def _key(view: list[Shown], cutter: Cutter) -> str:
    files = dict.fromkeys(path for each in view for path in (each.film, *each.marks) if path)
    about = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return digest("films 1", cutter, *(each.name for each in view), *about)


def _recalled(memory: Path) -> dict[str, dict[str, Cut]]:
    found: dict[str, dict[str, Cut]] = {}
    try:
        lines = memory.read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        try:
            key, cuts = json.loads(line)
            found[key] = {name: Cut(**{**about, "notes": tuple(about["notes"])}) for name, about in cuts.items()}
        except (ValueError, TypeError, KeyError):  # cut short when the machine went down
            continue
    return found
