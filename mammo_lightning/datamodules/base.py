"""What every dataset shares: a checked index, images decoded once, patients that stay together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal

import pandas as pd
import pytorch_lightning as pl
from numpy.typing import NDArray

from mammo_lightning.datamodules.cache import decoded
from mammo_lightning.errors import DataError
from mammo_lightning.types import Level, digest

#: columns of an index that are not subgroups
KNOWN = ("image", "label", "patient", "view", "split", "fold", "path", "group", "pixels", "content")
#: columns that are made here, hence not accepted from outside
MADE = ("group", "pixels", "content")


class MammoDataModule(pl.LightningDataModule, ABC):
    """One dataset, registered by name: where its images lie, what they are labelled and whose they are.

    A subclass gives `index` (one row an image) and `read` (its pixels); it says in its docstring the paper, the
    licence and the layout on disk. After `setup`, `frame` and `images` hold the rows and pixels in one order.
    """

    name: ClassVar[str] = ""
    classes: tuple[str, str] = ("negative", "positive")
    sampling: Literal["exhaustive", "selected"] = "selected"
    synthetic: ClassVar[bool] = False
    spacing_mm: float | None = None
    #: subgroup columns that follow from the label: never a reason to trust or doubt a score
    answers: ClassVar[tuple[str, ...]] = ()
    #: an official test part may hold patients of the training part: they are dropped there, not refused
    official: ClassVar[bool] = False

    frame: pd.DataFrame
    images: NDArray[Any]
    scale: float
    #: names these rows with their labels, subgroups and pixels
    digest: str
    #: names whose images these are, whatever they are called, labelled or resized to: splits are frozen under it
    source: str

    def __init__(
        self,
        *,
        root: Path | None = None,
        mlruns: Path = Path("mlruns"),
        size: int | None = None,
        lenient: bool = False,
    ) -> None:
        super().__init__()
        self.root, self.mlruns, self.size, self.lenient = root, mlruns, size, lenient
        self.unreadable: list[tuple[str, str]] = []

    @abstractmethod
    def index(self) -> pd.DataFrame:
        """One row an image: image, label, patient; where known view, split, path; any other column is a subgroup."""

    @abstractmethod
    def read(self, row: pd.Series) -> NDArray[Any]:
        """The pixels of one row, H x W or H x W x C, in native depth."""

    def contents(self, frame: pd.DataFrame) -> list[str]:
        """What each row of an index is, cheap against decoding it: a digest of its file's bytes."""
        return [digest(Path(path).read_bytes()) for path in frame["path"]]

    def progress(self, items: Iterable[Any], what: str, total: int) -> Iterable[Any]:
        """Wraps a long loop; a front end replaces it by a progress bar."""
        return items

    def prepare_data(self) -> None:
        """Read and check the index, and decode the images unless that was done before."""
        if hasattr(self, "frame"):
            return
        self._index = _checked(self.index())
        self._index["content"] = self.contents(self._index)
        self.source = digest(self.name, *sorted(self._index["content"] + " " + self._index["patient"]))
        table = self._index.drop(columns="path", errors="ignore").to_csv(index=False)
        key = digest("cache 2", self.name, self.size, self.lenient, table)
        folder = self.mlruns / "cache" / f"{self.name}-{key}"
        cached = decoded(folder, self._index, self.read, size=self.size, lenient=self.lenient, progress=self.progress)
        if cached.unreadable:
            _checked(cached.frame.drop(columns=list(MADE), errors="ignore"))  # both classes must be left
        self.images, self.scale, self.unreadable = cached.images, cached.scale, cached.unreadable
        self.frame = cached.frame.assign(group=merged_groups(cached.frame))
        self.digest = digest(
            self.name, self.classes, self.frame.drop(columns="path", errors="ignore").to_csv(index=False)
        )

    def setup(self, stage: str | None = None) -> None:
        """Make sure the images are there; Lightning calls it in every process."""
        self.prepare_data()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        channels, height, width = self.images.shape[1:]
        return int(channels), int(height), int(width)

    @property
    def subgroups(self) -> list[str]:
        """Columns that describe an image beyond the known ones (source, density ...)."""
        return [column for column in self.frame.columns if column not in KNOWN]

    @property
    def levels(self) -> list[Level]:
        """The levels that mean something: above patch only where the patches tile what they stand for."""
        return list(Level) if self.sampling == "exhaustive" else [Level.patch]


def merged_groups(frame: pd.DataFrame) -> list[str]:
    """Patients, merged where pixel-identical images stand under different names; a group is its first patient."""
    parent: dict[str, str] = {}

    def find(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    first: dict[str, str] = {}
    for patient, pixels in zip(frame["patient"], frame["pixels"], strict=True):
        one, other = find(patient), find(first.setdefault(pixels, patient))
        parent[max(one, other)] = min(one, other)
    return [find(patient) for patient in frame["patient"]]


def _checked(frame: pd.DataFrame) -> pd.DataFrame:
    if frame.empty:
        raise DataError("the dataset holds no image; pass --root, or try --dataset synthetic")
    if taken := [column for column in frame.columns if column in MADE or column.startswith("p_")]:
        raise DataError(f"column '{taken[0]}' has a name that is used for results; rename it")
    frame = frame.assign(patient=frame["patient"].astype(str), image=frame["image"].astype(str))
    frame = frame.assign(view=frame["view"].astype(str) if "view" in frame else "")
    frame = frame.assign(split=frame["split"].astype(str) if "split" in frame else "")
    doubled = frame["image"][frame["image"].duplicated()]
    if len(doubled):
        raise DataError(f"image '{doubled.iloc[0]}' is listed twice ({len(doubled)} such rows); list each image once")
    nameless = frame["image"][frame["patient"].isin(["", "nan", "None"])]
    if len(nameless):
        raise DataError(f"image '{nameless.iloc[0]}' has no patient ({len(nameless)} such rows); every image needs one")
    if set(frame["label"]) != {0, 1}:
        only = "positive" if set(frame["label"]) == {1} else "negative"
        raise DataError(f"all {len(frame)} images are {only}; two classes are needed to train a classifier")
    if unknown := set(frame["split"]) - {"", "train", "test"}:
        raise DataError(f"split '{sorted(unknown)[0]}' is not known; known: train, test, or empty")
    if "fold" in frame:
        number = pd.to_numeric(frame["fold"], errors="coerce")
        bad = frame[~(number.ge(0) & number.eq(number.round()))]
        if len(bad):
            raise DataError(
                f"fold '{bad['fold'].iloc[0]}' of image '{bad['image'].iloc[0]}' is not a whole number of 0 or more "
                f"({len(bad)} such rows); number the folds 0, 1, 2 ..."
            )
        frame = frame.assign(fold=number.astype(int))
    return frame.sort_values("image", kind="stable").reset_index(drop=True)
