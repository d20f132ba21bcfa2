"""INbreast: whole digital mammograms with BI-RADS and outlines."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import pandas as pd
from numpy.typing import NDArray

from mammo_lightning.datamodules.base import MammoDataModule, Origin
from mammo_lightning.datamodules.contents import file_digests, state_of
from mammo_lightning.datamodules.files import read_table, shown, walk
from mammo_lightning.datamodules.inbreast_xml import rois
from mammo_lightning.errors import DataError, SettingsError, one_of
from mammo_lightning.preprocessing.breast import standing
from mammo_lightning.preprocessing.dicom import read_dicom, read_header
from mammo_lightning.registry import DATASETS
from mammo_lightning.types import digest

NAME = re.compile(r"(?P<number>\d+)_(?P<patient>[0-9a-z]+)_mg_(?P<side>[lr])_(?P<view>[a-z]+)_anon\.dcm", re.IGNORECASE)
COLUMNS = ("Laterality", "View", "Acquisition date", "File Name", "ACR", "Bi-Rads")
#: millimetres a pixel of the Siemens MammoNovation detector on which all of it was taken
SPACING_MM = 0.07
SAVE = "Open it in a spreadsheet and save it as INbreast.csv"
BIRADS = ("1", "2", "3", "4", "4a", "4b", "4c", "5", "6")
#: task: classes, and the first digits of BI-RADS that are negative and positive
ASSESSED = {
    "birads 1-2 vs 4-6": (("birads 1-2", "birads 4-6"), "12", "456"),
    "birads>=4": (("birads 1-3", "birads 4-6"), "123", "456"),
}
MASS = "mass"
#: outlined in most MLO views, and no finding
MUSCLE = "pectoral muscle"
TASKS = (*ASSESSED, MASS)
XLS, XLSX = b"\xd0\xcf\x11\xe0", b"PK\x03\x04"


@DATASETS.register("inbreast")
class INbreast(MammoDataModule):
    """Whole digital mammograms of Porto: 410 views of 115 exams, with BI-RADS, density and outlines of findings.

    Paper: Moreira et al. 2012, INbreast: toward a full-field digital mammographic database.
    Licence: for research, on request to the authors.
    Layout: `INbreast.csv` (`;`) or the workbook `INbreast.xls`, `AllXML/<number>.xml` and
    `AllDICOMs/<number>_<patient>_MG_<side>_<view>_ANON.dcm`, at any depth below the root. The table has patients
    blanked: they are read from the file names. An exam is what one patient had on one date (it tells year and month).
    Classes, by `task`: `birads 1-2 vs 4-6` (3 is left out) or `birads>=4`, both as radiologists assessed and not by
    pathology; or `mass`: whether a mass was outlined. A view without a file of outlines has no finding.
    A row is a whole view, cut to the breast, chest wall to the left, padded to a square and resized: what a pixel of it
    measures differs from breast to breast. `findings_boxes` are the boxes of what was outlined but for the pectoral
    muscle, `x,y,w,h;x,y,w,h` in pixels of the file; `inbreast_xml.placed` says where one lies in the image.
    """

    name = "inbreast"
    classes = ASSESSED["birads 1-2 vs 4-6"][0]
    sampling: Literal["exhaustive", "selected"] = "exhaustive"
    side: ClassVar[int | None] = 299
    answers: ClassVar[tuple[str, ...]] = ("birads", "findings", "findings_boxes")
    origin = Origin(
        layout="INbreast.csv (or .xls), AllDICOMs/*_MG_*_ANON.dcm, AllXML/*.xml",
        home="the authors (Breast Research Group, INESC Porto), who give it on request",
        licence="for research, on request",
        citation="Moreira et al., INbreast: Toward a Full-field Digital Mammographic Database, "
        "Academic Radiology 19(2), 2012.",
    )

    def __init__(self, *, task: str = "birads 1-2 vs 4-6", **base: Any) -> None:
        super().__init__(**base)
        if task not in TASKS:
            raise SettingsError(f"--task {task!r} is not known to inbreast; {one_of(TASKS)}")
        self.task = task
        self.classes = ("no mass", "mass") if task == MASS else ASSESSED[task][0]

    def index(self) -> pd.DataFrame:
        """Every view that stands in the table and has a file."""
        files = list(walk(self.needed()))
        images = self._images(files)
        table = self._table(files)
        outlines = {path.stem: path for path in files if path.suffix.lower() == ".xml" and path.stem.isdigit()}
        if self.task == MASS and not outlines:
            raise DataError(
                f"no AllXML/<number>.xml under '{self.root}', where masses are outlined; expected {self.origin.layout}"
            )
        rows = []
        for row in table.to_dict("records"):
            if (found := images.pop(row["File Name"], None)) is None:
                self.counted["rows of the table without a DICOM file left out"] += 1
            elif (made := self._row(row, *found, outlines.get(row["File Name"]))) is not None:
                rows.append(made)
        if images:
            self.counted["DICOM files without a row in the table left out"] += len(images)
        if not rows:
            raise DataError(
                f"none of {len(table)} rows of the table under '{self.root}' has a DICOM file and a label; "
                f"expected {self.origin.layout}"
            )
        return pd.DataFrame(rows)

    def read(self, row: Mapping[str, Any]) -> NDArray[Any]:
        """One breast, 16 bit."""
        seen = standing(read_dicom(Path(row["path"])), row["laterality"])
        if seen.agreed is False:
            self.notice("views whose chest wall is seen on the other side than the table says; the table was believed")
        return seen.image

    def contents(self, frame: pd.DataFrame) -> list[str]:
        """The instance a file says it is: files of 25 MB are not read through."""
        instances = [read_header(Path(path)).instance for path in frame["path"]]
        # an anonymiser may have blanked them, or made all alike
        if "" in instances or len(set(instances)) < len(instances):
            return file_digests(frame["path"], self.mlruns / "cache" / "contents", self.progress)
        return [digest(instance) for instance in instances]

    def versions(self, frame: pd.DataFrame) -> list[str]:
        """Size and time of change of each file: one that was mended has the instance that it had."""
        return [state_of(path) for path in frame["path"]]

    def _images(self, files: list[Path]) -> dict[str, tuple[Path, re.Match[str]]]:
        """Path and name of the file of each number."""
        found: dict[str, tuple[Path, re.Match[str]]] = {}
        for path in files:
            if path.suffix.lower() != ".dcm" or path.name.startswith("."):
                continue
            if (match := NAME.fullmatch(path.name)) is None:
                self.counted["DICOM files not named <number>_<patient>_MG_<side>_<view>_ANON.dcm left out"] += 1
                continue
            if shown(path) != str(path):
                raise DataError(f"'{shown(path)}' lies in a folder whose name is not UTF-8; rename the folder")
            number = match["number"]
            if number not in found:
                found[number] = path, match
            elif found[number][0].name.lower() == path.name.lower():
                self.counted["second copies of a DICOM file left out"] += 1
            else:
                raise DataError(
                    f"'{path}' and '{found[number][0]}' have one number and different names; keep the one that is right"
                )
        if not found:
            raise DataError(f"no DICOM file of INbreast under '{self.root}'; {self.origin.cure}")
        return found

    def _table(self, files: list[Path]) -> pd.DataFrame:
        """The rows of the table, one a number."""
        named = sorted((path for path in files if path.stem.lower() == "inbreast"), key=lambda path: len(path.parts))
        path = next((path for path in named if path.suffix.lower() in (".csv", ".txt", ".tsv")), None)
        if path is None:
            path = next((path for path in named if path.suffix.lower() in (".xls", ".xlsx")), None)
            if path is None:
                raise DataError(f"no INbreast.csv under '{self.root}'; {self.origin.cure}")
        start = _start(path)  # some workbooks are tables in disguise
        if start == XLSX:
            raise DataError(f"'{path}' is a workbook of the newer kind; expected .xls or csv. {SAVE}")
        table = _sheet(path) if start == XLS else read_table(path, COLUMNS)
        table["File Name"] = table["File Name"].str.removesuffix(".0")
        nameless = table["File Name"] == ""
        if nameless.any():
            self.counted["rows of the table without a file name left out"] += int(nameless.sum())
        table = table.loc[~nameless, list(COLUMNS)].drop_duplicates()
        if len(odd := table["File Name"][~table["File Name"].str.fullmatch(r"\d+")]):
            raise DataError(
                f"table '{path}' has File Name '{odd.iloc[0]}'; expected the number in front of a DICOM file's name"
            )
        if len(doubled := table["File Name"][table["File Name"].duplicated()]):
            raise DataError(f"table '{path}' tells two things of file {doubled.iloc[0]}; keep the row that is right")
        return table

    def _row(
        self, row: Mapping[Any, Any], path: Path, name: re.Match[str], outlines: Path | None
    ) -> dict[str, Any] | None:
        birads, number = row["Bi-Rads"].lower(), row["File Name"]
        found = [roi for roi in rois(outlines) if roi.name != MUSCLE] if outlines else []
        label = self._mass(found) if self.task == MASS else self._assessed(number, birads)
        if label is None:
            return None
        side, view = row["Laterality"].upper(), row["View"].upper()
        if side not in ("L", "R"):
            raise DataError(f"Laterality '{row['Laterality']}' of file {number} is not known; known: L, R")
        if side != name["side"].upper():
            self.counted["views whose side is another in the file name than in the table; the table was believed"] += 1
        if view not in ("CC", "MLO"):
            self.counted[f"views called {view or 'nothing'}, neither CC nor MLO, kept"] += 1
        if view != name["view"].upper():
            self.counted[
                f"views called {name['view'].upper()} in the file name, {view} in the table; the table was believed"
            ] += 1
        return {
            "image": number,
            "path": str(path),
            "label": label,
            "patient": name["patient"].lower(),
            "exam": row["Acquisition date"],
            "laterality": side,
            "view": view,
            "spacing_mm": SPACING_MM,  # of the file, before it is cut and resized
            "label_basis": "annotation" if self.task == MASS else "assessment",
            "birads": birads,
            "density": row["ACR"],
            "findings": len(found),
            "findings_boxes": ";".join(str(roi.box) for roi in found),
        }

    def _assessed(self, number: str, birads: str) -> int | None:
        """What BI-RADS makes of a view; None where it is to be left out."""
        if birads in ("", "0"):
            what = "of BI-RADS 0, a recall" if birads else "without BI-RADS"
            self.counted[f"views {what}, left out"] += 1
            return None
        if birads not in BIRADS:
            raise DataError(f"Bi-Rads '{birads}' of file {number} is not known; {one_of(BIRADS)}")
        _, negative, positive = ASSESSED[self.task]
        if birads[0] not in negative + positive:
            self.counted[f"views of BI-RADS {birads[0]} left out by the task"] += 1
            return None
        return int(birads[0] in positive)

    def _mass(self, found: list[Any]) -> int:
        names = {roi.name for roi in found}
        if "mass" not in names and "spiculated region" in names:
            self.counted["views with a spiculated region and no mass outlined, called no mass"] += 1
        return int("mass" in names)


def _sheet(path: Path) -> pd.DataFrame:
    """The first sheet of an `.xls`, as words."""
    try:
        import xlrd  # type: ignore[import-untyped]
    except ImportError:
        raise DataError(f"'{path}' is a workbook, read with xlrd. Run `pip install xlrd`, or: {SAVE}") from None
    try:
        sheet = xlrd.open_workbook(path, logfile=io.StringIO()).sheet_by_index(0)
        heads, *rows = [[_word(value) for value in sheet.row_values(number)] for number in range(sheet.nrows)]
    except Exception as error:  # it raises what a broken record happens to provoke
        why = (str(error).splitlines() or [type(error).__name__])[0][:80]
        raise DataError(f"'{path}' is cut short or no workbook ({why}). Copy it again. {SAVE}") from None
    if missing := [name for name in COLUMNS if name not in heads]:
        raise DataError(f"table '{path}' lacks {', '.join(missing)}; expected {','.join(COLUMNS)} in its first sheet")
    places = [heads.index(name) for name in COLUMNS]
    return pd.DataFrame([[row[place] for place in places] for row in rows if any(row)], columns=list(COLUMNS))


def _word(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(4)
    except OSError as error:
        raise DataError(f"'{shown(path)}' cannot be opened ({error.strerror}); expected a table") from None
