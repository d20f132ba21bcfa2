"""mini-MIAS: patches around lesions, and of normal tissue where lesions lie in others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo_lightning.datamodules.base import MammoDataModule, Origin
from mammo_lightning.datamodules.files import shown, walk
from mammo_lightning.errors import DataError, SettingsError, one_of
from mammo_lightning.preprocessing.breast import Mask, breast_mask, wall_side
from mammo_lightning.preprocessing.images import read_image
from mammo_lightning.preprocessing.patches import Box, field_side
from mammo_lightning.preprocessing.places import Place, beside_wall, normal_boxes, without_narrow
from mammo_lightning.registry import DATASETS
from mammo_lightning.types import seed_from

SIDE, SPACING_MM = 1024, 0.2
#: widest radius of all but a few lesions is 20 mm; in 40 mm there is tissue about them as well
FIELD_MM, SMALLEST, LARGEST = 40.0, 5.0, 100.0
DENSITIES = ("F", "G", "D")
LESIONS = ("CALC", "CIRC", "SPIC", "MISC", "ARCH", "ASYM")
CLASSES = {"normal_abnormal": ("normal", "abnormal"), "benign_malignant": ("severity B", "severity M")}
#: patches of a film without lesion: as many as most films with one have, or their number would give the class away
PER_FILM = 1
#: pixels across one in which the breast is looked for: every start looks at every film
COARSE = 4


@dataclass(frozen=True)
class Line:
    """What Info.txt says in one line: a film without lesion, or one of its lesions."""

    film: str
    density: str
    kind: str  # NORM or a kind of lesion
    severity: str  # B, M; empty where normal
    centre: tuple[float, float] | None = None  # counted from the upper left corner
    radius: float = 0.0


@DATASETS.register("mias")
class Mias(MammoDataModule):
    """Patches of 40 mm from 322 digitised screening films: about each lesion, and of films without any.

    Paper: Suckling et al. 1994, The Mammographic Image Analysis Society digital mammogram database.
    Licence: for research only; cite the source.
    Layout: `Info.txt` and `mdb001.pgm` ... in one folder. Films are 1024 x 1024, 8 bit, 0.2 mm a pixel, MLO; by
    Info.txt an odd number is the right and the next, even one the left breast of one patient. Grey values are kept.
    Classes, by `task`: `normal_abnormal`, or `benign_malignant` of lesions only. Severity is from the truth-data of two
    readers; whether pathology was known to them the files do not say: it is an assessment, called by their letters.
    A normal patch lies where in some other film a lesion lies, relative to the breast, and holds about as much tissue.
    Right breasts are flipped: the chest wall is to the left.
    """

    name = "mias"
    classes = CLASSES["normal_abnormal"]
    answers: ClassVar[tuple[str, ...]] = ("lesion_type", "severity")
    origin = Origin(
        layout="Info.txt and mdb001.pgm ... mdb322.pgm",
        home="http://peipa.essex.ac.uk/info/mias.html",
        licence="research only, cite the source",
        citation="Suckling et al., The Mammographic Image Analysis Society Digital Mammogram Database, "
        "Excerpta Medica 1069, 1994.",
    )

    def __init__(self, *, task: str = "normal_abnormal", field_mm: float = FIELD_MM, **base: Any) -> None:
        super().__init__(**base)
        if task not in CLASSES:
            raise SettingsError(f"--task {task!r} is not known to mias; {one_of(tuple(CLASSES))}")
        if not SMALLEST <= float(field_mm) <= LARGEST:
            raise SettingsError(
                f"--field-mm {field_mm} cannot be cut from a film of 205 mm; pass {SMALLEST:g} to {LARGEST:g}"
            )
        self.task, self.field = task, field_side(float(field_mm), SPACING_MM)
        self.classes = CLASSES[task]
        self.spacing_mm = self.field * SPACING_MM / (self.size or self.field)

    def index(self) -> pd.DataFrame:
        """A row for each lesion whose place is known, and for normal tissue."""
        films, lines = self._files()
        unlisted = len(set(films) - {line.film for line in lines})
        absent = len({line.film for line in lines} - set(films))
        self.counted["films without a line in Info.txt left out"] += unlisted
        self.counted["films listed in Info.txt that are not there"] += absent
        here = [line for line in lines if line.film in films]
        if not here:
            raise DataError(f"none of the films listed in Info.txt is under '{self.root}'; {self.origin.cure}")
        masks = {film: self._mask(film, films[film]) for film in sorted({line.film for line in here})}
        rows, places = self._lesions(here, films, masks)
        if self.task == "normal_abnormal":
            rows += self._normal(here, films, masks, places)
        self.counted = +self.counted
        return pd.DataFrame(rows)

    def read(self, row: Mapping[str, Any]) -> NDArray[Any]:
        """One patch, 8 bit, chest wall to the left."""
        patch = Box.parse(row["box"]).of(self.opened(row["path"]))
        return np.ascontiguousarray(patch[:, ::-1]) if row["laterality"] == "R" else patch

    def open(self, path: str) -> NDArray[Any]:
        """A whole film."""
        return _film(Path(path))

    def _files(self) -> tuple[dict[str, Path], list[Line]]:
        """The films that are there, by name, and all that Info.txt says."""
        films: dict[str, Path] = {}
        table: Path | None = None
        for path in sorted(walk(self.needed()), key=lambda path: len(path.parts)):
            name = path.stem.lower()
            if path.name.lower() == "info.txt":
                table = table or path
            elif re.fullmatch(r"mdb\d{3}", name) and path.suffix.lower() in (".pgm", ".png"):
                self.counted["second copies of a film left out"] += name in films
                films.setdefault(name, path)
        if table is None or not films:
            raise DataError(
                f"no {'Info.txt' if table is None else 'film mdb*.pgm'} under '{self.root}'; {self.origin.cure}"
            )
        if strange := [path for path in films.values() if shown(path) != str(path)]:
            raise DataError(f"'{shown(strange[0])}' lies in a folder whose name is not UTF-8; rename the folder")
        return films, read_lines(table)

    def _mask(self, film: str, path: Path) -> Mask:
        """Where the breast is; a film that cannot be read is left for the reader to refuse."""
        try:
            coarse = cv2.resize(_film(path), (SIDE // COARSE, SIDE // COARSE), interpolation=cv2.INTER_AREA)
            mask = without_narrow(breast_mask(coarse)).repeat(COARSE, 0).repeat(COARSE, 1)
        except DataError:
            return np.zeros((SIDE, SIDE), bool)
        seen = wall_side(mask)
        self.counted["films whose chest wall is not on the side that the number says; the number was believed"] += bool(
            seen and seen != _laterality(film)
        )
        return mask

    def _lesions(
        self, lines: Sequence[Line], films: Mapping[str, Path], masks: Mapping[str, Mask]
    ) -> tuple[list[dict[str, Any]], list[Place]]:
        rows: dict[str, dict[str, Any]] = {}
        places = []
        for line in lines:
            if line.kind == "NORM":
                continue
            if line.centre is None:
                self.counted["lesions without coordinates left out"] += 1
                continue
            mask, side = masks[line.film], _laterality(line.film)
            wished = Box.centred(*line.centre, self.field)
            box = beside_wall(wished, mask, side) if mask.any() else wished.shifted_into((SIDE, SIDE))
            row = self._row(line, films, box, 1 if self.task == "normal_abnormal" else int(line.severity == "M"))
            if (known := rows.setdefault(row["image"], row)) is not row:
                if known["label"] != row["label"]:
                    raise DataError(
                        f"film {line.film} has two lesions of different severity at one place; correct Info.txt"
                    )
                self.counted["lesions at the place of another left out"] += 1
                continue
            self.counted["patches of lesions at the edge of a film shifted into it"] += box != wished
            self.counted["lesions wider than their patch"] += 2 * line.radius > self.field
            if mask.any():
                places.append(Place.of(line.centre, box, mask, side))
        return list(rows.values()), places

    def _normal(
        self, lines: Sequence[Line], films: Mapping[str, Path], masks: Mapping[str, Mask], places: Sequence[Place]
    ) -> list[dict[str, Any]]:
        rows = []
        for line in lines:
            if line.kind != "NORM":
                continue
            mask, rng = masks[line.film], np.random.default_rng(seed_from("mias", line.film))
            boxes = [Box.centred(SIDE / 2, SIDE / 2, self.field)]  # of a film that the reader will refuse
            if mask.any():
                side = _laterality(line.film)
                boxes = normal_boxes(mask, side, places, side=self.field, count=PER_FILM, rng=rng)
                self.counted["films in which no normal patch fits"] += len(boxes) < PER_FILM
            rows += [self._row(line, films, box, 0) for box in boxes]
        return rows

    def _row(self, line: Line, films: Mapping[str, Path], box: Box, label: int) -> dict[str, Any]:
        image = f"{line.film}_{box.x}_{box.y}"  # a running number would tell the classes apart
        return {
            "image": image,
            "path": str(films[line.film]),
            "label": label,
            "patient": f"p{(int(line.film[3:]) + 1) // 2:03d}",
            "laterality": _laterality(line.film),
            "view": "MLO",
            "lesion": "" if line.kind == "NORM" else image,
            "box": str(box),
            "spacing_mm": SPACING_MM,  # of the film, before a patch of it is resized
            "label_basis": "annotation" if self.task == "normal_abnormal" else "assessment",
            "density": line.density,
            "lesion_type": line.kind,
            "severity": line.severity,
        }


def read_lines(path: Path) -> list[Line]:
    """Every film and lesion that Info.txt lists; the same line twice counts once.

    Args:
        path: The file; what does not begin with the name of a film is prose.
    """
    try:
        text = path.read_bytes().decode("latin-1")
    except OSError as error:
        raise DataError(f"'{path}' cannot be opened ({error.strerror}). Check the file and its permissions.") from None
    found: dict[Line, None] = {}
    for number, written in enumerate(text.splitlines(), start=1):
        words = written.split()
        if words and re.fullmatch(r"mdb\d+", words[0].lower()):
            found[_line(words, f"'{path}' line {number}")] = None
    if not found:
        raise DataError(f"'{path}' lists no film; expected lines such as 'mdb001 G CIRC B 535 425 197'. Copy it again.")
    kinds: dict[str, set[bool]] = {}
    for line in found:
        kinds.setdefault(line.film, set()).add(line.kind == "NORM")
    if both := [film for film, normal in kinds.items() if len(normal) > 1]:
        raise DataError(f"'{path}' calls film {both[0]} normal and lists a lesion in it; keep the line that is right")
    return list(found)


def _line(words: list[str], where: str) -> Line:
    film = words[0].lower()
    if len(film) != 6 or len(words) < 3 or words[1] not in DENSITIES or words[2] not in ("NORM", *LESIONS):
        raise DataError(
            f"{where} is '{' '.join(words)[:60]}'; expected such as 'mdb001 G CIRC B 535 425 197'. Copy it again."
        )
    if words[2] == "NORM":
        return Line(film, words[1], "NORM", "")
    if len(words) < 4 or words[3] not in ("B", "M"):
        raise DataError(f"{where} gives no severity for {film}; expected B or M after {words[2]}. Copy the file again.")
    try:
        numbers = [float(word) for word in words[4:]]
    except ValueError:
        numbers = []  # `*NOTE 3*` stands there: it is everywhere
    if not any(numbers):
        return Line(film, words[1], words[2], words[3])
    if len(numbers) != 3 or not all(0 <= number <= SIDE for number in numbers):
        raise DataError(
            f"{where} has a lesion at '{' '.join(words[4:])[:60]}'; expected x, y and radius within {SIDE} pixels. "
            "Correct it"
        )
    centre = numbers[0], SIDE - numbers[1]  # y is counted from below
    return Line(film, words[1], words[2], words[3], centre, numbers[2])


def _laterality(film: str) -> str:
    return "R" if int(film[3:]) % 2 else "L"


def _film(path: Path) -> NDArray[Any]:
    image = read_image(path)
    if image.shape != (SIDE, SIDE) or image.dtype != np.uint8:
        raise DataError(
            f"'{shown(path)}' is {'x'.join(map(str, image.shape))} {image.dtype}; films of mini-MIAS are 1024x1024 "
            "8-bit grey. Use --dataset table for others"
        )
    return image
