"""Images of one's own that a spreadsheet lists."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel

from mammo_lightning.datamodules.base import HOLD_OUT, KNOWN, MADE, Domain, MammoDataModule, Origin
from mammo_lightning.datamodules.files import plain, read_table, shown
from mammo_lightning.datamodules.naming import two_classes
from mammo_lightning.errors import DataError, SettingsError, one_of
from mammo_lightning.preprocessing.breast import standing
from mammo_lightning.preprocessing.dicom import read_dicom, read_header
from mammo_lightning.preprocessing.header import Header
from mammo_lightning.preprocessing.images import SUFFIXES, read_image
from mammo_lightning.preprocessing.patches import Box
from mammo_lightning.registry import DATASETS

NEEDED = ("path", "patient", "label")
#: what `experiments.extract` writes beside its table
ABOUT = "dataset.json"


SIDES = {"": "", "L": "L", "R": "R", "LEFT": "L", "RIGHT": "R"}


class About(BaseModel):
    """What is known of the images of a table beyond its lines."""

    table: str = ""
    classes: tuple[str, str] | None = None
    targets: tuple[str, ...] = ()
    sides: tuple[int, ...] = ()
    dataset: str = ""
    source: str = ""
    licence: str = ""
    citation: str = ""
    synthetic: bool = False
    holdout_share: float = HOLD_OUT
    sampling: Literal["exhaustive", "selected"] = "selected"
    spacing_mm: float | None = None
    answers: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    official: bool = False
    domain: Domain = "mammography"


@DATASETS.register("table")
class Table(MammoDataModule):
    """Any images that a csv lists, one line an image: `path,patient,label` and whatever else is known.

    Layout: `table`, a csv whose `path` is below the root (default: the folder of the table) or absolute. Understood are
    `image` (a name), `view, exam, laterality, lesion, label_basis, target, split` (train or test), `fold, spacing_mm,
    box` (x,y,w,h: the part of the file that is meant) and `pair`; all further columns become subgroups, those of
    numbers as numbers.
    A DICOM file without a box is taken as a whole mammogram: windowed inside the breast, right breasts flipped, cut
    to the breast and padded to a square; what its tags say fills in laterality, view, exam and spacing where the table
    has no such column. Spot, magnification, implant and tomosynthesis views are counted. Images FOR PROCESSING and FOR
    PRESENTATION are not mixed.
    Classes: two; `positive` names the positive one (default: the last in the alphabet), and with more than two
    classes it stands against all others.
    """

    name = "table"
    origin = Origin("a csv with path,patient,label")

    def __init__(
        self,
        *,
        table: Path | None = None,
        positive: str | None = None,
        sampling: Literal["exhaustive", "selected"] | None = None,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        if table is None:
            raise SettingsError("which images are meant must be known: pass --table images.csv (path,patient,label)")
        self.table, self.positive = Path(table), positive
        self.root = self.root or self.table.parent
        about = self._about()
        self._classes = about.classes
        if about.table != self.table.name:  # a choice from what was extracted: its classes are known, no more
            about = About()
        self.sampling = sampling or about.sampling
        self.spacing_mm, self.targets, self._words = about.spacing_mm, about.targets, set(about.words)
        self.sides, self.holdout_share = about.sides, about.holdout_share
        self.extracted_name, self.extracted_from = about.dataset, about.source
        self.synthetic = about.synthetic  # type: ignore[misc]
        if about.citation:
            told = Origin("a csv with path,patient,label", licence=about.licence, citation=about.citation)
            self.origin = told  # type: ignore[misc]
        self.answers = about.answers  # type: ignore[misc]
        self.official = about.official  # type: ignore[misc]
        self.domain = about.domain  # type: ignore[misc]

    def index(self) -> pd.DataFrame:
        """The lines of the table."""
        frame = read_table(self.table, filled=NEEDED)
        root = self.root or Path()
        paths = [_found(root, path) for path in frame["path"]]
        absent = [name for name, path in zip(frame["path"], paths, strict=True) if path is None]
        if absent:
            raise DataError(
                f"--table names '{absent[0]}' ({len(absent)} such), which is not under '{root}'; check --root"
            )
        names = pd.Series([_name(root, str(path)) for path in paths], frame.index, object)
        names = frame["image"].where(frame["image"] != "", names) if "image" in frame else names
        frame = frame.assign(image=names, path=[plain(path) for path in paths if path])
        if "laterality" in frame:
            frame["laterality"] = [self._side(side) for side in frame["laterality"]]
        if "box" in frame:
            told = frame["box"].where(frame["box"] != "", None)
            frame["image"] = frame["image"].where(told.isna(), frame["image"] + "#" + frame["box"])
            _ = [Box.parse(box) for box in told.dropna()]
        return self._with_tags(self._labelled(_numbers(frame, self._words)))

    def read(self, row: Mapping[str, Any]) -> NDArray[Any]:
        """One image: as it is, a part of it, or of a whole DICOM mammogram the breast."""
        content = self.opened(row["path"])
        if box := row.get("box"):
            part = Box.parse(str(box))
            if not part.inside(content.shape):
                raise DataError(f"box '{box}' leaves '{row['path']}' of {content.shape[1]}x{content.shape[0]} pixels")
            return part.of(content)  # type: ignore[no-any-return]
        if not _dicom(row["path"]):
            return content  # type: ignore[no-any-return]
        stood = standing(content, str(row.get("laterality", "")))
        if stood.agreed is False:
            self.notice("breasts whose chest wall is not on the side that is said; what is said was believed")
        return stood.image

    def open(self, path: str) -> NDArray[Any]:
        """The pixels of a file."""
        return read_dicom(Path(path)) if _dicom(path) else read_image(Path(path))

    def _about(self) -> About:
        """What the writer of the table said of its images; nothing where a person wrote it."""
        path = self.table.parent / ABOUT
        try:
            return About.model_validate_json(path.read_bytes())
        except OSError:
            return About()
        except ValueError:
            raise DataError(
                f"'{path}' says of the table's images what cannot be understood; extract them again, or remove the file"
            ) from None

    def _side(self, text: str) -> str:
        side = SIDES.get(text.upper())
        if side is None:
            raise DataError(f"--table '{self.table}' has a laterality '{text}'; {one_of(('L', 'R'))}, or empty")
        return side

    def _labelled(self, frame: pd.DataFrame) -> pd.DataFrame:
        known: tuple[str, ...] = ()
        if self._classes and self.positive in (None, self._classes[-1]):
            if strange := set(frame["label"]) - set(self._classes):
                raise DataError(
                    f"--table '{self.table}' has a label '{min(strange)}', and its images were extracted as "
                    f"{' and '.join(self._classes)}; pass --positive NAME if other classes are meant"
                )
            known = self._classes
        self.classes = two_classes(frame["label"], self.positive, f"in '{self.table}'", known)
        return frame.assign(label=(frame["label"] == self.classes[1]).astype(int))

    def _with_tags(self, frame: pd.DataFrame) -> pd.DataFrame:
        """What DICOM files say themselves, where the table has no column for it."""
        files = [path for path in dict.fromkeys(frame["path"]) if _dicom(path)]
        if not files:
            return frame
        headers: dict[str, Header] = {}
        for path in self.progress(files, "tags", len(files)):
            try:
                headers[path] = read_header(Path(path))
            except DataError as error:
                if not self.lenient:
                    raise
                broken = frame["path"] == path
                self.unreadable += [(image, str(error)) for image in frame["image"][broken]]
                frame = frame[~broken]
        frame = frame.reset_index(drop=True)
        for flag in ("spot", "magnification", "implant", "tomosynthesis"):
            self.counted[f"images that are {flag} views by their tags"] += sum(
                getattr(header, flag) for header in headers.values()
            )
        kinds = {header.presentation: path for path, header in headers.items()}
        if {"processing", "presentation"} <= set(kinds):
            raise DataError(
                f"'{kinds['processing']}' is FOR PROCESSING and '{kinds['presentation']}' FOR PRESENTATION: their grey "
                "values mean different things. List one kind"
            )
        if processing := sum(header.presentation == "processing" for header in headers.values()):
            self.counted["images FOR PROCESSING, not as they are looked at"] += processing
        owners: dict[str, set[str]] = {}
        for path, patient in zip(frame["path"], frame["patient"], strict=True):
            if path in headers and headers[path].patient:
                owners.setdefault(headers[path].patient, set()).add(patient)
        if len(owners) > 1:  # one id for all is what some anonymisers write
            shared = sum(len(patients) for patients in owners.values() if len(patients) > 1)
            self.counted["patients of the table who share a PatientID with another: are they one?"] += shared
        for column in ("laterality", "view", "exam", "spacing_mm"):
            told = [getattr(headers[path], column) if path in headers else None for path in frame["path"]]
            if column not in frame and any(told):
                frame[column] = told
            elif column == "laterality" and column in frame:
                pairs = zip(frame[column], told, strict=True)
                self.counted["rows whose tag names the other side; the table was believed"] += sum(
                    bool(side and tag and side != tag) for side, tag in pairs
                )
        self.counted = +self.counted
        return frame


def _found(root: Path, name: str) -> Path | None:
    """The file of that name, which may have been written on Windows; None where there is none."""
    for path in (root / name, root / name.replace("\\", "/")):
        if os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises for a name that is too long
            return path
    return None


def _name(root: Path, path: str) -> str:
    """How an image is called: where it lies below the root, or the end of its path where it lies elsewhere."""
    inside = Path(os.path.relpath(path, root))
    return shown((Path(*Path(path).parts[-3:]) if ".." in inside.parts else inside).as_posix())


def _dicom(path: str) -> bool:
    suffix = Path(path).suffix.lower()
    return suffix == ".dcm" or suffix not in SUFFIXES


def _numbers(frame: pd.DataFrame, words: set[str]) -> pd.DataFrame:
    """Further columns that hold nothing but numbers, as numbers, unless they are known to be words."""
    words = words | set(KNOWN) - set(MADE) - {"spacing_mm"}
    for column in frame.columns.difference(list(words)):
        filled = frame[column].replace("", None)
        numbers = pd.to_numeric(filled, errors="coerce")
        if filled.notna().any() and np.isfinite(numbers).eq(filled.notna()).all():
            frame = frame.assign(**{column: numbers})
        elif column == "spacing_mm" and not filled.notna().any():
            frame = frame.drop(columns=column)
        elif column == "spacing_mm":
            raise DataError(
                f"spacing_mm '{filled[~np.isfinite(numbers) & filled.notna()].iloc[0]}' is no number of millimetres"
            )
    if "spacing_mm" in frame and (bad := frame["spacing_mm"].le(0)).any():
        raise DataError(f"spacing_mm {frame['spacing_mm'][bad].iloc[0]:g} is not above 0; write millimetres a pixel")
    return frame
