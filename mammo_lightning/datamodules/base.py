"""What every dataset shares: a checked index, images decoded once, patients that stay together."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import pandas as pd
import pytorch_lightning as pl
from numpy.typing import NDArray

from mammo_lightning.datamodules.cache import decoded
from mammo_lightning.datamodules.contents import file_digests
from mammo_lightning.datamodules.quick import frozen_patients, quick_look, remember_looked
from mammo_lightning.errors import DataError, one_of
from mammo_lightning.types import Level, digest, levels_of

#: columns of an index that are not subgroups: what a row is, whose, and where it was taken from
KNOWN = (
    *("image", "label", "patient", "view", "split", "fold", "path", "group", "pixels", "content", "flags"),
    *("exam", "laterality", "lesion", "label_basis", "target", "box", "spacing_mm", "pair"),
)
#: columns that are made here, hence not accepted from outside
MADE = ("group", "pixels", "content", "flags")
#: on what a label rests; `malignant` is said of pathology only
BASES = ("pathology", "assessment", "annotation")
Domain = Literal["mammography", "histology"]
HOLD_OUT = 0.25  # of the patients, as in the published search


@dataclass(frozen=True)
class Origin:
    """Where a dataset comes from, said when it is not there."""

    layout: str
    home: str = ""
    licence: str = ""
    citation: str = ""

    @property
    def cure(self) -> str:
        """What to do without it."""
        get = f"Get it from {self.home} (licence: {self.licence})" if self.home else "Pass --root"
        return f"expected {self.layout}. {get}, or try --dataset synthetic"


#: of one thread that reads: what it has open, and what it noticed
_HERE = threading.local()


def _noticed() -> list[str]:
    """What was noticed in this thread since it was last asked."""
    return [_HERE.noticed.pop(0) for _ in range(len(getattr(_HERE, "noticed", [])))]


class MammoDataModule(pl.LightningDataModule, ABC):
    """One dataset, registered by name: where its images lie, what they are labelled and whose they are.

    A subclass gives `index` (one row an image) and `read` (its pixels); it says in its docstring the paper, the
    licence and the layout on disk. After `setup`, `frame` and `images` hold the rows and pixels in one order.
    """

    name: ClassVar[str] = ""
    origin: ClassVar[Origin | None] = None
    domain: ClassVar[Domain] = "mammography"
    classes: tuple[str, str] = ("negative", "positive")
    #: names of finer classes, where a task has more than two: column `target` names one, `label` follows from it
    targets: tuple[str, ...] = ()
    #: the label of each of them
    sides: tuple[int, ...] = ()
    #: name and `source` of the dataset that these images were extracted from: its frozen test split is theirs
    extracted_name: str = ""
    extracted_from: str = ""
    sampling: Literal["exhaustive", "selected"] = "selected"
    synthetic: ClassVar[bool] = False
    #: side of a square that images are resized to unless another is asked for
    side: ClassVar[int | None] = None
    spacing_mm: float | None = None
    #: subgroup columns that follow from the label: never a reason to trust or doubt a score
    answers: ClassVar[tuple[str, ...]] = ()
    #: an official test part may hold patients of the training part: they are dropped there, not refused
    official: ClassVar[bool] = False

    #: part of the patients outside the test split that `--scheme holdout` judges on
    holdout_share: float = HOLD_OUT

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
        limit: int | None = None,
        lenient: bool = False,
    ) -> None:
        super().__init__()
        self.root, self.mlruns, self.size, self.limit, self.lenient = root, mlruns, size or self.side, limit, lenient
        self.unreadable: list[tuple[str, str]] = []
        #: what was left out, mended or noticed, by reason: of the index, and of the images as they were decoded
        self.counted: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()

    @abstractmethod
    def index(self) -> pd.DataFrame:
        """One row an image: image, label, patient; where known the other columns of `KNOWN`; more are subgroups.

        What is left out or mended is counted in `self.counted`, by a reason as it is to be read.
        """

    @abstractmethod
    def read(self, row: Mapping[str, Any]) -> NDArray[Any]:
        """The pixels of one row, H x W or H x W x C, in native depth; several threads read at a time."""

    def contents(self, frame: pd.DataFrame) -> list[str]:
        """What each row of an index is, cheap against decoding it: a digest of its file's bytes and its box."""
        files = file_digests(frame["path"], self.mlruns / "cache" / "contents", self.progress)
        boxes = frame["box"] if "box" in frame else [""] * len(frame)
        return [digest(file, box) if box else file for file, box in zip(files, boxes, strict=True)]

    def versions(self, frame: pd.DataFrame) -> list[str]:
        """What may change of a file while its `contents` stay: then it is decoded anew."""
        return []

    def needed(self) -> Path:
        """The file or folder that was passed as the root; without one, where to get the dataset is said."""
        cure = self.origin.cure if self.origin else "Pass --root, or try --dataset synthetic"
        if self.root is None:
            raise DataError(f"{self.name} needs its files; pass --root: {cure}")
        if not self.root.exists():
            raise DataError(f"no such file or folder '{self.root}'; {cure}")
        return self.root

    def open(self, path: str) -> Any:
        """Where many rows are cut from one file: what the file holds, for `opened` to remember."""
        raise DataError(f"{self.name} reads each row from a file of its own")

    def opened(self, path: str) -> Any:
        """What `open` makes of a file, remembered in this thread while rows of the same file are read."""
        mark = (id(self), path)
        if getattr(_HERE, "mark", None) != mark:
            _HERE.mark = None
            _HERE.content = self.open(path)
            _HERE.mark = mark
        return _HERE.content

    def notice(self, reason: str) -> None:
        """Count something that `read` notices about the row it reads; the counts are kept with the images."""
        _HERE.__dict__.setdefault("noticed", []).append(reason)

    def progress(self, items: Iterable[Any], what: str, total: int) -> Iterable[Any]:
        """Wraps a long loop; a front end replaces it by a progress bar."""
        return items

    def prepare_data(self) -> None:
        """Read and check the index, and decode the images unless that was done before."""
        if hasattr(self, "frame"):
            return
        self._index = self._known(_checked(self.index()))
        table = self._index.drop(columns="path", errors="ignore").to_csv(index=False)
        key = digest("cache 3", self.name, self.size, self.lenient, table, *self.versions(self._index))
        folder = self.mlruns / "cache" / f"{self.name}-{key}"
        cached = decoded(
            folder,
            self._index,
            self.read,
            size=self.size,
            lenient=self.lenient,
            progress=self.progress,
            noticed=_noticed,
        )
        if cached.unreadable:
            _checked(cached.frame.drop(columns=list(MADE), errors="ignore"))  # both classes must be left
        self.images, self.scale = cached.images, cached.scale
        self.unreadable += cached.unreadable  # to what was left out of the index
        self.seen = Counter(cached.seen)
        self.frame = cached.frame.assign(group=merged_groups(cached.frame))
        self.digest = digest(
            self.name, self.classes, self.frame.drop(columns="path", errors="ignore").to_csv(index=False)
        )

    def _known(self, index: pd.DataFrame) -> pd.DataFrame:
        """The index with what its rows are, what that is called as a whole, and for a quick look a part of it."""
        self._refuse_words(index)
        index["content"] = self.contents(index)
        self.source = self.extracted_from or digest(self.name, *sorted(index["content"] + " " + index["patient"]))
        side = dict(zip(index["target"], index["label"], strict=True)) if self.targets else {}
        self.sides = self.sides or tuple(int(side.get(name, 0)) for name in self.targets)
        if not self.limit:
            return index
        looked = quick_look(index[~index["patient"].isin(frozen_patients(self.split_file))], self.limit)
        remember_looked(self.split_file, looked["patient"])
        return _checked(looked.drop(columns="content")).assign(content=looked["content"])  # both classes must be left

    @property
    def split_file(self) -> Path:
        """Where the test split of these images is frozen, whatever they are called, labelled or resized to."""
        return self.mlruns / "splits" / f"{self.extracted_name or self.name}-{self.source}.json"

    def _refuse_words(self, index: pd.DataFrame) -> None:
        """Malignant is said of pathology only; targets are those that are known."""
        if self.targets and (strange := set(index.get("target", pd.Series(""))) - set(self.targets)):
            raise DataError(f"target '{min(strange)}' is not known; {one_of(self.targets)}")
        words = index["target"] if self.targets else index["label"].map(dict(enumerate(self.classes)))
        basis = index["label_basis"] if "label_basis" in index else pd.Series("", index.index)
        wrong = words.str.contains("malignant", case=False) & basis.isin(["assessment", "annotation"])
        if wrong.any():
            raise DataError(
                f"image '{index['image'][wrong].iloc[0]}' is called {words[wrong].iloc[0]!r} and its label rests on "
                f"{basis[wrong].iloc[0]} ({int(wrong.sum())} such rows); malignant is said of pathology only. Call the "
                "class otherwise, or correct label_basis"
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
        return levels_of(self.frame) if self.sampling == "exhaustive" else [Level.patch]

    @property
    def notices(self) -> dict[str, int]:
        """What was left out, mended or noticed, and how often."""
        return {**self.counted, **self.seen}


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
    if taken := [column for column in frame.columns if column in MADE or column.startswith(("p_", "q_"))]:
        raise DataError(f"column '{taken[0]}' has a name that is used for results; rename it")
    frame = frame.assign(patient=frame["patient"].astype(str), image=frame["image"].astype(str))
    for column in ("view", "split", "exam", "laterality", "lesion", "label_basis", "box"):
        if column in frame or column in ("view", "split"):
            words = frame[column] if column in frame else pd.Series("", frame.index)
            frame = frame.assign(**{column: words.astype(object).where(words.notna(), "").astype(str)})
    if "label_basis" in frame and (unknown := set(frame["label_basis"]) - {"", *BASES}):
        raise DataError(f"label_basis '{sorted(unknown)[0]}' is not known; {one_of(BASES)}")
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
