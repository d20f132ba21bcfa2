"""The INFN microcalcification crops."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from numpy.typing import NDArray

from mammo_lightning.datamodules.archive import unpack
from mammo_lightning.datamodules.base import MammoDataModule, Origin
from mammo_lightning.datamodules.files import plain
from mammo_lightning.errors import DataError
from mammo_lightning.preprocessing.images import read_image
from mammo_lightning.registry import DATASETS

NAME = re.compile(r"^(?P<exam>\d{4}(?P<source>[a-z])\d)_(?P<view>\d+)_")
LAYOUT = "IMAGES/Mammography_micro/{Train,Test}/{0,1}, {Train,Test}/{0,1} or {0,1} with PGM or PNG files"


@DATASETS.register("microcalc")
class Microcalc(MammoDataModule):
    """Crops of 60 x 60 pixels from film mammograms: normal tissue (0) or a cluster of microcalcifications (1).

    Source: the INFN Large Scale Computing teaching set `DL_class_data.tar.gz`, of CALMA and MAGIC-5 films.
    Licence: not stated by the authors; for teaching and research.
    Layout: a folder as in the archive, a part of it, or the archive itself. A name such as `0002s1_4_0.pgm_1.pgm`
    is exam `0002s1` (four digits, the letter of the source archive, a digit), view 4, crop 1. The exam stands for
    the patient; the letter is kept as `source`, for it nearly gives the label away.
    """

    name = "microcalc"
    origin = Origin(
        layout=LAYOUT,
        home="the INFN Large Scale Computing course (DL_class_data.tar.gz)",
        licence="not stated by its authors",
        citation="INFN microcalcification crops of CALMA and MAGIC-5 film mammograms, DL_class_data.",
    )
    classes = ("normal", "cluster")
    official: ClassVar[bool] = True

    def index(self) -> pd.DataFrame:
        """Every crop of the official Train and Test parts that are there."""
        folder = self._folder()
        parts = [(name.lower(), folder / name) for name in ("Train", "Test") if (folder / name).is_dir()]
        rows = []
        for split, base in parts or [("", folder)]:
            for label in (0, 1):
                for path in sorted((base / str(label)).glob("*")):
                    if path.suffix.lower() in (".pgm", ".png"):
                        rows.append(self._row(path, base, split, label))
        if not rows:
            raise DataError(
                f"no PGM or PNG under '{folder}'; expected {LAYOUT}. Pass --root, or try --dataset synthetic"
            )
        return pd.DataFrame(rows)

    def read(self, row: Mapping[str, Any]) -> NDArray[Any]:
        """One crop."""
        array = read_image(Path(row["path"]))
        if array.ndim != 2 or str(array.dtype) != "uint8":
            raise DataError(
                f"'{row['path']}' is not 8-bit grey; the crops of this set are. Use --dataset folder for others"
            )
        return array

    def _folder(self) -> Path:
        self.root = self.needed()
        root = self.root if self.root.is_dir() else unpack(self.root, self.mlruns / "cache" / "archives")
        for folder in (root, root / "IMAGES" / "Mammography_micro", root / "Mammography_micro"):
            if any((folder / name).is_dir() for name in ("Train", "Test", "0", "1")):
                return folder
        raise DataError(f"no images under '{self.root}'; expected {LAYOUT}. Pass --root, or try --dataset synthetic")

    def _row(self, path: Path, base: Path, split: str, label: int) -> dict[str, Any]:
        match = NAME.match(path.name)
        if match is None:
            raise DataError(
                f"'{path.name}' is not named like 0002s1_4_0.pgm_1.pgm; the exam cannot be known. "
                "Use --dataset folder with --patient-from"
            )
        return {
            "image": "/".join(filter(None, (split, str(label), path.name))),
            "path": plain(path),
            "label": label,
            "patient": match["exam"],
            "view": match["view"],
            "split": split,
            "source": match["source"],
        }
