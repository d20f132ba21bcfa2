"""A folder of images of one's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from numpy.typing import NDArray

from mammo_lightning.datamodules.base import MammoDataModule, Origin
from mammo_lightning.datamodules.files import plain, shown, walk
from mammo_lightning.datamodules.naming import two_classes
from mammo_lightning.errors import DataError, SettingsError
from mammo_lightning.preprocessing.images import read_image
from mammo_lightning.registry import DATASETS

SUFFIXES = (".png", ".pgm", ".tif", ".tiff", ".jpg", ".jpeg", ".dcm", ".npy")
LAYOUT = "DIR/<class>/*.{png,pgm,tif,jpg,dcm,npy}"


@DATASETS.register("folder")
class Folder(MammoDataModule):
    """Images in one folder a class, whose patients stand in their names; for a csv of images see `table`.

    Layout: `DIR/<class>/*.{png,pgm,tif,jpg,dcm,npy}` with `patient_from`, a regular expression whose first group in
    the path below DIR is the patient.
    Classes: two; `positive` names the positive one (default: the last in the alphabet), and with more than two
    classes it stands against all others.
    """

    name = "folder"
    origin = Origin(LAYOUT)

    def __init__(
        self,
        *,
        patient_from: str | None = None,
        positive: str | None = None,
        sampling: Literal["exhaustive", "selected"] = "selected",
        **base: Any,
    ) -> None:
        super().__init__(**base)
        if patient_from is None:
            raise SettingsError(
                "whose the images are must be known: pass --patient-from 'REGEX' (first group = patient), "
                "or --dataset table --table images.csv (path,patient,label)"
            )
        self.positive, self.sampling = positive, sampling
        try:
            self.pattern = re.compile(patient_from)
        except re.error as error:
            raise SettingsError(f"--patient-from {patient_from!r} is not a regular expression: {error}") from error
        if not self.pattern.groups:
            raise SettingsError(
                f"--patient-from '{patient_from}' has no group, and the first group is the patient; pass "
                f"'({patient_from})', or put brackets around a part of it"
            )

    def index(self) -> pd.DataFrame:
        """Every image below the class folders."""
        frame = self._from_names(self.needed())
        self.classes = two_classes(frame["label"], self.positive, f"under '{self.root}' ({LAYOUT})")
        return frame.assign(label=(frame["label"] == self.classes[1]).astype(int))

    def read(self, row: Mapping[str, Any]) -> NDArray[Any]:
        """One image, in the depth it has."""
        return read_image(Path(row["path"]))

    def _from_names(self, root: Path) -> pd.DataFrame:
        rows = []
        for path in walk(root):
            name = shown(path.relative_to(root).as_posix())
            if path.suffix.lower() not in SUFFIXES or "/" not in name:
                continue
            found = self.pattern.search(name)
            if not found or not (found.group(1) or "").strip():
                raise DataError(
                    f"--patient-from '{self.pattern.pattern}' finds no patient in '{name}'; the first group must match "
                    "in every path. Mend the expression, or use --dataset table"
                )
            label, patient = name.split("/")[0].strip(), found.group(1).strip()
            rows.append({"image": name, "path": plain(path), "label": label, "patient": patient})
        if not rows:
            raise DataError(f"no image under '{root}'; expected {LAYOUT}. Pass --root, or try --dataset synthetic")
        return pd.DataFrame(rows)
