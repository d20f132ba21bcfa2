"""CBIS-DDSM as it is downloaded: what its csv files say of each abnormality, and which files below a folder show it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mammo_lightning.datamodules.files import read_table
from mammo_lightning.errors import DataError, one_of
from mammo_lightning.preprocessing.dicom import read_header

CSV = re.compile(r"(mass|calc)_case_description_(train|test)_set\.csv", re.I)
LAYOUT = (
    "the csv files mass_case_description_train_set.csv ... and below it the images as downloaded: "
    "CBIS-DDSM/Calc-Test_P_00038_LEFT_CC_1/.../1-1.dcm (or PNG), or folders named by series UID"
)
UID = re.compile(r"\d+(\.\d+){5,}")
NAME = re.compile(r"((?:Calc|Mass)-(?:Test|Training)_P_\d+_(?:LEFT|RIGHT)_(?:CC|MLO)(?:_\d+)?)(?:[ _-][A-Za-z]\w*)?")
#: `Calc_Test_ROI_07570_1-2`, `1.000000-ROI mask images-18515`: the end of a series UID, all that some copies keep
TAIL = re.compile(r"(?:^|[-_])(\d{5})(?:_[\d-]+)?$")
SET = re.compile(r"(calc|mass)[-_](test|train)", re.I)
PATHS = ("image file path", "cropped image file path", "roi mask file path")
HEADS = ("patient id", "left or right breast", "image view", "abnormality id", "abnormality type", "pathology", *PATHS)
PATHOLOGY = {"BENIGN": "benign", "BENIGN_WITHOUT_CALLBACK": "benign without callback", "MALIGNANT": "malignant"}
#: columns that are carried along as they are
TOLD = ("assessment", "mass shape", "mass margins", "calc type", "calc distribution")
SUFFIXES = (".dcm", ".dicom", ".png", "")


@dataclass(frozen=True)
class Lesion:
    """One abnormality in one film, as the csv has it."""

    patient: str
    laterality: str
    view: str
    number: str
    abnormality: str  # mass, calc
    pathology: str
    split: str
    told: tuple[tuple[str, str], ...]  # density, subtlety ...
    film: tuple[str, ...]  # series and names under which it may be found
    marks: tuple[str, ...]  # those of its crop and mask

    @property
    def image(self) -> str:
        """A name of its own; the end of the series tells a mass from a calcification of the same number."""
        side = {"L": "LEFT", "R": "RIGHT"}[self.laterality]
        return f"{self.patient}_{side}_{self.view}_{self.number}-{self.marks[0][-5:]}"


def lesions_of(tables: Iterable[Path]) -> list[Lesion]:
    """All abnormalities of the csv files, of which one that stands there twice is read once."""
    kinds: dict[str, Path] = {}
    for path in tables:
        first = kinds.setdefault(path.name.lower(), path)
        if first != path and not read_table(first).equals(read_table(path)):
            raise DataError(f"'{first}' and '{path}' differ; keep one of them")
    lesions = {}
    for lesion in (each for path in kinds.values() for each in _table(path)):
        if lesion.image in lesions:
            raise DataError(f"'{lesion.image}' stands twice in the csv files; keep one row for each abnormality")
        lesions[lesion.image] = lesion
    return list(lesions.values())


class Library:
    """Image files below a folder, by the series and the names that their paths, a manifest or their tags tell."""

    def __init__(self, root: Path, files: list[Path], lesions: list[Lesion]) -> None:
        self._known: dict[str, list[Path]] = defaultdict(list)
        self._tails = _tails(lesions)
        folders = {path.parent: path for path in files if path.name.lower() == "metadata.csv"}
        manifest = {place: uid for folder, path in folders.items() for place, uid in _manifest(folder, path)}
        self._wanted = {key for lesion in lesions for key in (*lesion.film, *lesion.marks)}
        #: files that no row of a csv names
        self.strangers = 0
        for path in files:
            if path.suffix.lower() in SUFFIXES:
                keys = self._keys(path.relative_to(root), manifest.get(str(path.parent), ""))
                if not keys and path.suffix.lower() != ".png":
                    keys = _tagged(path) & self._wanted
                self.strangers += not keys and path.suffix != ""
                for key in keys:
                    self._known[key].append(path)

    def find(self, keys: Iterable[str]) -> list[Path]:
        """The files known under any of the keys, DICOM first."""
        found = {path for key in keys for path in self._known.get(key, ())}
        return sorted(found, key=lambda path: (path.suffix.lower() == ".png", str(path)))

    def _keys(self, path: Path, series: str) -> set[str]:
        parts = [*path.parts[:-1], path.stem]
        named = {match[1] for part in parts if (match := NAME.fullmatch(part))}
        if keys := (named | {series, *parts}) & self._wanted:
            return keys
        text = path.as_posix().lower()
        kind, what = SET.search(text), "film" if "full" in text else "marks"
        tails = [tail[1] for part in parts[-2:] if (tail := TAIL.search(part))]
        return {key for tail in tails if kind for key in self._tails.get((kind[1], kind[2], what, tail), ())}


def _table(path: Path) -> list[Lesion]:
    kind, *_, split, _ = path.name.lower().split("_")
    table = read_table(path)
    table.columns = [head.lower().replace("_", " ") for head in table.columns]
    if missing := [head for head in HEADS if head not in table]:
        raise DataError(f"table '{path}' lacks {', '.join(missing)}; expected the csv as it is downloaded")
    rows = table.to_dict("records")
    return [_lesion(row, kind, split, f"table '{path}' row {number}") for number, row in enumerate(rows, 1)]


def _lesion(row: dict[Any, str], kind: str, split: str, where: str) -> Lesion:
    """One row, every word of which that matters is one of those known."""
    known: dict[str, tuple[str, ...]] = {"left or right breast": ("LEFT", "RIGHT"), "image view": ("CC", "MLO")}
    known |= {"pathology": tuple(PATHOLOGY), "abnormality type": ({"mass": "mass", "calc": "calcification"}[kind],)}
    for head, words in known.items():
        if row[head] not in words:
            raise DataError(f"{where} has {head} '{row[head]}'; {one_of(words)}. Download the csv again")
    for head, pattern in (("patient id", r"P_\d+"), ("abnormality id", r"\d+")):
        if not re.fullmatch(pattern, row[head]):
            raise DataError(
                f"{where} has {head} '{row[head]}'; expected such as P_00038, and 1. Download the csv again"
            )
    part = {"train": "Training", "test": "Test"}[split]
    name = f"{kind.title()}-{part}_{row['patient id']}_{row['left or right breast']}_{row['image view']}"
    film = _path_keys(row[PATHS[0]], name, where)
    crop, mask = (_path_keys(row[head], f"{name}_{row['abnormality id']}", where) for head in PATHS[1:])
    scales = {"density": ("breast density", "1234"), "subtlety": ("subtlety", "12345")}
    rated = {
        name: row.get(head, "") if row.get(head, "") in set(words) else "" for name, (head, words) in scales.items()
    }
    said = {head.replace(" ", "_"): row.get(head, "") for head in TOLD}
    return Lesion(
        patient=row["patient id"],
        laterality=row["left or right breast"][0],
        view=row["image view"],
        number=row["abnormality id"],
        abnormality=kind,
        pathology=PATHOLOGY[row["pathology"]],
        split=split,
        told=tuple((rated | said).items()),
        film=film,
        marks=tuple(dict.fromkeys(mask + crop)),
    )


def _path_keys(path: str, name: str, where: str) -> tuple[str, str]:
    """Series UID and name in a path of a csv, where the name has to say the same as the row."""
    parts = path.replace("\\", "/").split("/")
    if len(parts) != 4 or parts[0] != name or not UID.fullmatch(parts[2]):
        raise DataError(
            f"{where} has path '{path}'; expected {name}/<study UID>/<series UID>/<file>. Download it again"
        )
    return parts[2], name


def _tails(lesions: list[Lesion]) -> dict[tuple[str, str, str, str], set[str]]:
    """The series that end in five digits, where only one of a csv does."""
    found: dict[tuple[str, str, str, str], set[str]] = defaultdict(set)
    for lesion in lesions:
        for what, keys in (("film", lesion.film), ("marks", lesion.marks)):
            for key in keys:
                if UID.fullmatch(key):
                    found[lesion.abnormality, lesion.split, what, key[-5:]].add(key)
    return {tail: keys for tail, keys in found.items() if len(keys) == 1}


def _manifest(folder: Path, path: Path) -> list[tuple[str, str]]:
    """From a folder to its series, as the download has written them down."""
    table = read_table(path)
    if not {"Series UID", "File Location"} <= set(table.columns):
        return []
    places = [str(folder / place.replace("\\", "/")) for place in table["File Location"]]
    return list(zip(places, table["Series UID"], strict=True))


def _tagged(path: Path) -> set[str]:
    """What the tags of a file say whose path says nothing; nothing of a file that is no DICOM."""
    try:
        header = read_header(path)
    except DataError:
        return set()
    return {header.series, header.patient} - {""}
