"""A folder of images of one's own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from numpy.typing import NDArray

from mammo_lightning.datamodules.base import MammoDataModule
from mammo_lightning.errors import DataError, SettingsError, one_of
from mammo_lightning.preprocessing.images import read_image
from mammo_lightning.registry import DATASETS

SUFFIXES = (".png", ".pgm", ".tif", ".tiff", ".jpg", ".jpeg", ".dcm", ".npy")
TEXT = ("path", "patient", "label", "view", "split")  # columns of a table that are read as words
LAYOUT = "DIR/<class>/*.{png,pgm,tif,jpg,dcm,npy}"


@DATASETS.register("folder")
class Folder(MammoDataModule):
    """Images in one folder a class, whose patients come from their names or from a table.

    Layout: `DIR/<class>/*.{png,pgm,tif,jpg,dcm,npy}` with `patient_from`, a regular expression whose first group
    (or whole match) in the path below DIR is the patient; or `table`, a csv of path (below DIR), patient, label and
    any further column: `view`, `split` (train or test), `fold` are understood, all others become subgroups.
    Classes: two; `positive` names the positive one (default: the last in the alphabet), and with more than two
    classes it stands against all others.
    """

    name = "folder"

    def __init__(
        self,
        *,
        patient_from: str | None = None,
        table: Path | None = None,
        positive: str | None = None,
        sampling: Literal["exhaustive", "selected"] = "selected",
        **base: Any,
    ) -> None:
        super().__init__(**base)
        if (patient_from is None) == (table is None):
            raise SettingsError(
                "whose the images are must be known: pass either --patient-from 'REGEX' (first group = patient) "
                "or --table images.csv (path,patient,label)"
            )
        self.table, self.positive, self.sampling = table, positive, sampling
        try:
            self.pattern = re.compile(patient_from) if patient_from else None
        except re.error as error:
            raise SettingsError(f"--patient-from {patient_from!r} is not a regular expression: {error}") from error
        if self.pattern and not self.pattern.groups:
            raise SettingsError(
                f"--patient-from '{patient_from}' has no group, and the first group is the patient; pass "
                f"'({patient_from})', or put brackets around a part of it"
            )

    def index(self) -> pd.DataFrame:
        """The rows of the table, or every image below the class folders."""
        if self.root is None or not self.root.is_dir():
            raise DataError(f"no such folder '{self.root}'; expected {LAYOUT}. Pass --root, or try --dataset synthetic")
        frame = self._from_table(self.root, self.table) if self.table else self._from_names(self.root)
        labels = sorted(set(frame["label"].astype(str)))
        if len(labels) < 2:
            raise DataError(f"one class under '{self.root}': {', '.join(labels)}; two are needed, expected {LAYOUT}")
        positive = self.positive or labels[-1]
        if positive not in labels:
            raise SettingsError(f"--positive {positive!r} is not a class; {one_of(labels)}")
        others = [label for label in labels if label != positive]
        if len(others) > 1 and self.positive is None:
            raise SettingsError(
                f"{len(labels)} classes ({', '.join(labels)}); pass --positive NAME to set one against the rest"
            )
        self.classes = (others[0] if len(others) == 1 else "rest", positive)
        return frame.assign(label=(frame["label"].astype(str) == positive).astype(int))

    def read(self, row: pd.Series) -> NDArray[Any]:
        """One image, in the depth it has."""
        return read_image(Path(row["path"]))

    def _from_names(self, root: Path) -> pd.DataFrame:
        rows = []
        for path in sorted(path for path in root.glob("*/**/*") if path.suffix.lower() in SUFFIXES and path.is_file()):
            name = path.relative_to(root).as_posix()
            found = self.pattern.search(name) if self.pattern else None
            if not found or not (found.group(1 if found.lastindex else 0) or "").strip():
                raise DataError(
                    f"--patient-from {self.pattern.pattern if self.pattern else ''!r} finds no patient in '{name}'; "
                    "the first group must match in every path. Try the audit, or --table"
                )
            label, patient = name.split("/")[0].strip(), found.group(1 if found.lastindex else 0).strip()
            rows.append({"image": name, "path": str(path), "label": label, "patient": patient})
        if not rows:
            raise DataError(f"no image under '{root}'; expected {LAYOUT}. Pass --root, or try --dataset synthetic")
        return pd.DataFrame(rows)

    def _from_table(self, root: Path, table: Path) -> pd.DataFrame:
        try:
            heads = pd.read_csv(table, nrows=0).columns
            frame = pd.read_csv(table, dtype={head: str for head in heads if head.strip() in TEXT})
        except (OSError, ValueError, UnicodeDecodeError) as error:
            raise DataError(
                f"--table '{table}' cannot be read ({error}); expected a csv with path,patient,label"
            ) from error
        frame.columns = frame.columns.str.strip()
        for column in frame.columns.intersection(list(TEXT)):
            frame[column] = frame[column].str.strip().replace("", None)
        if missing := {"path", "patient", "label"} - set(frame.columns):
            raise DataError(f"--table '{table}' lacks {', '.join(sorted(missing))}; expected path,patient,label")
        if (empty := frame[["path", "patient", "label"]].isna().any(axis=1)).any():
            raise DataError(
                f"--table '{table}' line {int(empty.to_numpy().argmax()) + 2} has an empty cell; fill it in"
            )
        frame = frame.assign(image=frame["path"], path=[str(root / path) for path in frame["path"]])
        absent = [image for image, path in zip(frame["image"], frame["path"], strict=True) if not Path(path).is_file()]
        if absent:
            raise DataError(
                f"--table names '{absent[0]}' ({len(absent)} such), which is not under '{root}'; check --root"
            )
        return frame.fillna({"split": "train", "view": ""})
