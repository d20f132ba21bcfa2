"""Breast histopathology patches: invasive ductal carcinoma or not."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo_lightning.datamodules.base import Domain, MammoDataModule, Origin
from mammo_lightning.datamodules.files import is_kind, shown
from mammo_lightning.errors import DataError, SettingsError, one_of
from mammo_lightning.preprocessing.images import png_size, read_image
from mammo_lightning.registry import DATASETS

NAME = re.compile(r"(?P<patient>\d+)(?:_idx\d+)?_x(?P<x>\d+)_y(?P<y>\d+)_class(?P<label>[01])\.png")
NESTED = "IDC_regular_ps50_idx5"
SIDE = 50
BORDERS = ("pad", "drop")
#: mean difference between the colours of a pixel, of 255, below which there is glass or a bad scan, not stained tissue
COLOURLESS = 6.0


@DATASETS.register("idc")
class Idc(MammoDataModule):
    """Patches of 50 x 50 pixels (RGB, 40x) of 279 breast cancer slides, without (0) and with (1) invasive carcinoma.

    Paper: Cruz-Roa et al. 2014 (SPIE 9041:904103); Janowczyk and Madabhushi 2016 (J Pathol Inform 7:29).
    Licence: CC0, as stated where it is distributed.
    Layout: `<patient>/{0,1}/<patient>_idx5_x<X>_y<Y>_class<c>.png`, and in the archive the same a second time below
    `IDC_regular_ps50_idx5/`: a file that stands in both is taken once and counted. The patient is read from the name.
    Classes: `IDC-`, `IDC+`; a pathologist outlined the carcinoma. The patches tile each slide, but all patients have
    both kinds, so that there is nothing to tell above the patch.

    Args:
        borders: Patches cut off at the border of a slide are filled up by repeating their edge (`pad`) or left out
            (`drop`); either is counted.
        base: What every dataset takes.
    """

    name: ClassVar[str] = "idc"
    classes = ("IDC-", "IDC+")
    domain: ClassVar[Domain] = "histology"
    origin = Origin(
        layout="<patient>/{0,1}/<patient>_idx5_x<X>_y<Y>_class<c>.png",
        home="kaggle.com/datasets/paultimothymooney/breast-histopathology-images",
        licence="CC0",
        citation="Cruz-Roa A et al. Automatic detection of invasive ductal carcinoma in whole slide images with "
        "convolutional neural networks. Proc SPIE 9041:904103, 2014.",
    )

    def __init__(self, *, borders: str = "pad", **base: Any) -> None:
        super().__init__(**base)
        if borders not in BORDERS:
            raise SettingsError(f"no borders {borders!r}; {one_of(BORDERS)}")
        self.borders = borders

    def index(self) -> pd.DataFrame:
        """Every patch, once; its patient and label stand in its name, and must be those of its folders."""
        root = self.needed()
        rows: dict[str, tuple[str, str, int]] = {}
        for patient, label, path in _patches(root):
            name = os.path.basename(path)  # noqa: PTH119 - a Path for each of 300,000 files costs seconds
            match = NAME.fullmatch(name)
            if match is None:
                if not name.lower().endswith(".png"):
                    self.counted["files that are no PNG left out"] += 1
                    continue
                raise DataError(f"'{shown(path)}' is not named like <patient>_idx5_x1_y51_class0.png; remove it")
            if match["label"] != label or match["patient"] != patient:
                raise DataError(
                    f"'{shown(path)}' is of patient {match['patient']} and class {match['label']} by its name, of "
                    f"patient {patient} and class {label} by its folder; which is right? Mend or remove it"
                )
            if name in rows:
                self.counted[f"files that stand a second time below {NESTED} taken once"] += 1
            rows.setdefault(name, (path, patient, int(label)))
        if not rows:
            raise DataError(f"no patch under '{root}'; {self.origin.cure}")
        if self.borders == "drop":
            for name in [name for name, (path, *_) in rows.items() if png_size(Path(path)) not in (None, (SIDE, SIDE))]:
                del rows[name]
                self.counted["patches cut off at a border left out"] += 1
        frame = pd.DataFrame(rows.values(), columns=["path", "patient", "label"])
        return frame.assign(image=list(rows), label_basis="annotation")

    def read(self, row: Mapping[str, Any]) -> NDArray[Any]:
        """One patch, 50 x 50 x 3."""
        patch = read_image(Path(row["path"]))
        if patch.ndim != 3 or patch.shape[2] != 3 or patch.dtype != np.uint8:
            raise DataError(f"'{row['path']}' is not 8-bit RGB; the patches of this set are. Use --dataset folder")
        height, width = patch.shape[:2]
        if height > SIDE or width > SIDE:
            raise DataError(f"'{row['path']}' is {height}x{width}; the patches of this set are {SIDE}x{SIDE}")
        if float((patch.max(2) - patch.min(2)).mean()) < COLOURLESS:
            self.notice("patches almost without colour (glass, bad scans) kept and flagged")
        if (height, width) != (SIDE, SIDE):
            self.notice("patches cut off at a border filled up by repeating their edge")
            patch = cv2.copyMakeBorder(patch, 0, SIDE - height, 0, SIDE - width, cv2.BORDER_REPLICATE)
        return np.asarray(patch)


def _patches(root: Path) -> Iterator[tuple[str, str, str]]:
    """Patient and label by the folders, and path, of every file; the outer of two copies first."""
    for base in (str(root), str(root / NESTED)):
        for patient in _folders(base):
            for label in _folders(patient.path):
                if label.name in ("0", "1"):
                    with _scanned(label.path) as entries:
                        for path in sorted(entry.path for entry in entries if is_kind(entry.is_file)):
                            yield patient.name, label.name, path


def _folders(path: str) -> list[os.DirEntry[str]]:
    if not Path(path).is_dir():
        return []
    with _scanned(path) as entries:
        return sorted(
            (entry for entry in entries if is_kind(entry.is_dir) and entry.name != NESTED), key=lambda e: e.name
        )


def _scanned(path: str) -> Any:
    try:
        return os.scandir(path)
    except OSError as error:
        raise DataError(f"folder '{shown(path)}' cannot be read ({error.strerror}); check its permissions") from None
