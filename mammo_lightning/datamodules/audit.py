"""What is wrong with a dataset by its structure alone: unreadable files, identical images, straddling patients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mammo_lightning.errors import DataError
from mammo_lightning.types import LEVEL_KEYS, Level

#: names spelt out in one line; all of them stand in the run's csv files
NAMED = 6
#: sets of identical images from which on a share of wrong labels is estimated
ENOUGH = 10
BITS = {"1": 1, "I;16": 16, "I;16B": 16, "I": 16, "F": 32}


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: `kind` is unreadable, duplicate, leak or label conflict."""

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass(frozen=True)
class Findings:
    """What the structure of a dataset shows, before any image is looked at by a network."""

    counts: pd.DataFrame  # class images patients groups views [train test], the last row for all
    formats: pd.DataFrame  # width height channels bits images and one column a class
    twins: pd.DataFrame  # identical images: pixels image patient class split
    faults: tuple[Fault, ...]

    @property
    def lines(self) -> list[str]:
        """The faults as plain lines, each beginning with its kind."""
        return [str(fault) for fault in self.faults]

    def of(self, kind: str) -> list[Fault]:
        """The faults of one kind."""
        return [fault for fault in self.faults if fault.kind == kind]

    def metrics(self) -> dict[str, float]:
        """The counts to log, by name."""
        everything = self.counts.iloc[-1].drop("class")
        numbers = {f"count/{name}": float(value) for name, value in everything.items()}
        kinds = ("unreadable", "duplicate", "leak", "label conflict")
        return numbers | {f"fault/{kind.replace(' ', '_')}": float(len(self.of(kind))) for kind in kinds}


def structure(
    frame: pd.DataFrame,
    *,
    classes: tuple[str, str],
    formats: pd.DataFrame | None = None,
    unreadable: Sequence[tuple[str, str]] = (),
) -> Findings:
    """Look at an index (image label patient group view split pixels) and say what is wrong with it.

    Args:
        frame: One row an image, as a dataset's `frame` is after set-up.
        classes: Names of label 0 and 1.
        formats: Width, height, channels and bits of every row, as `native_formats` reads them.
        unreadable: Image and reason of every file that could not be decoded.
    """
    named = frame.assign(**{"class": frame["label"].map(dict(enumerate(classes)))})
    twins = named[named.duplicated("pixels", keep=False)].sort_values("image")
    twins = twins.assign(first=twins.groupby("pixels")["image"].transform("first")).sort_values(["first", "image"])
    faults = [
        *(Fault("unreadable", _with_reason(name, why)) for name, why in unreadable),
        *_straddling(named),
        *_identical(twins),
    ]
    columns = ["pixels", "image", "patient", "class", "split"]
    return Findings(_counts(named, classes), _formats(named, formats, classes), twins[columns], tuple(faults))


def native_formats(frame: pd.DataFrame, shape: tuple[int, int, int], bits: int) -> pd.DataFrame:
    """Width, height, channels and bits of every row from the head of its file, or of the decoded array without one.

    Args:
        frame: One row an image; a column `path` names its file.
        shape: Channels, height and width of the decoded images.
        bits: Depth of the decoded images.
    """
    channels, height, width = shape
    decoded = (width, height, channels, bits)
    paths = frame["path"] if "path" in frame else [None] * len(frame)
    heads = {path: _head(Path(str(path))) for path in set(paths) - {None}}
    rows = [heads.get(path) or decoded for path in paths]
    return pd.DataFrame(rows, columns=["width", "height", "channels", "bits"], index=frame.index)


def _head(path: Path) -> tuple[int, int, int, int] | None:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return image.width, image.height, len(image.getbands()), BITS.get(image.mode, 8)
    except UnidentifiedImageError:
        return _dicom_head(path)
    except (OSError, ValueError):
        return None


def _dicom_head(path: Path) -> tuple[int, int, int, int] | None:
    from mammo_lightning.preprocessing.dicom import read_header

    try:
        header = read_header(path)
    except DataError:
        return None
    sizes = (header.columns, header.rows, 1, header.bits)
    return sizes if all(sizes) else None


def _with_reason(name: str, why: str) -> str:
    return why if name in why else f"'{name}': {why}"


def _counts(named: pd.DataFrame, classes: tuple[str, str]) -> pd.DataFrame:
    rows = []
    for title, part in [*((name, named[named["class"] == name]) for name in classes), ("all", named)]:
        row: dict[str, object] = {
            "class": title,
            "images": len(part),
            "patients": part["patient"].nunique(),
            "groups": part["group"].nunique(),
        }
        if (part["view"] != "").any():
            keys = [key for key in LEVEL_KEYS[Level.view] if key in part]
            row["views"] = len(part[keys].drop_duplicates())
        for split in sorted(set(named["split"]) - {""}, reverse=True):
            row[split] = int((part["split"] == split).sum())
        rows.append(row)
    return pd.DataFrame(rows)


def _formats(named: pd.DataFrame, formats: pd.DataFrame | None, classes: tuple[str, str]) -> pd.DataFrame:
    if formats is None:
        return pd.DataFrame(columns=["width", "height", "channels", "bits", "images", *classes])
    keys = ["width", "height", "channels", "bits"]
    together = formats.assign(**{"class": named["class"]})
    table = together.groupby(keys)["class"].value_counts().unstack(fill_value=0)
    table = table.reindex(columns=list(classes), fill_value=0)
    table.insert(0, "images", table.sum(axis=1))
    return table.sort_values("images", ascending=False).reset_index().rename_axis(columns=None)


def _straddling(named: pd.DataFrame) -> list[Fault]:
    official = named[named["split"] != ""]
    sides = official.groupby("patient")["split"].value_counts().unstack(fill_value=0)
    both = sides[(sides > 0).sum(axis=1) > 1]
    if both.empty:
        return []
    told = _some(f"{patient} ({row['train']} train, {row['test']} test)" for patient, row in both.iterrows())
    verb = "patient stands" if len(both) == 1 else "patients stand"
    return [Fault("leak", f"{len(both)} {verb} in both official splits: {told}")]


def _identical(twins: pd.DataFrame) -> list[Fault]:
    if twins.empty:
        return []
    sets = twins.groupby("pixels")
    several = {column: sets[column].transform("nunique") > 1 for column in ("split", "class", "patient")}
    found = []
    if (torn := twins[several["split"]]).size:
        found.append(Fault("leak", f"{_sets(torn)} stand in both official splits: {_told(torn, 'split')}"))
    if (torn := twins[several["class"]]).size:
        found.append(
            Fault("label conflict", f"{_sets(torn)} carry different labels: {_told(torn, 'class')}{_noise(twins)}")
        )
    if (torn := twins[several["patient"]]).size:
        text = f"{_sets(torn)} under different patients: {_told(torn, 'patient')}; these patients are kept in one group"
        found.append(Fault("duplicate", text))
    if (same := twins[~several["patient"]]).size:
        text = f"{_sets(same)} under one patient: {_told(same, 'patient')}; they count twice"
        found.append(Fault("duplicate", text))
    return found


def _noise(twins: pd.DataFrame) -> str:
    """What share of all labels the contradictions among identical images speak for."""
    differ = twins.groupby("pixels")["class"].nunique() > 1
    share = float(differ.mean())
    if len(differ) < ENOUGH or share >= 0.5:
        return "; at most one of the labels is right"
    wrong = (1 - (1 - 2 * share) ** 0.5) / 2  # a pair contradicts itself where one of two labels is wrong
    return f"; {differ.sum()} of {len(differ)} such sets: about {wrong:.0%} of labels may be wrong"


def _sets(twins: pd.DataFrame) -> str:
    sizes = twins.groupby("pixels").size()
    noun = "pair" if sizes.max() == 2 else "set"
    images = "" if noun == "pair" else f" ({len(twins)} in all)"
    return f"{len(sizes)} {noun}{'s' if len(sizes) > 1 else ''} of identical images{images}"


def _told(twins: pd.DataFrame, column: str) -> str:
    return _some(
        " = ".join(f"{image} ({value})" for image, value in zip(part["image"], part[column], strict=True))
        for _, part in twins.groupby("pixels", sort=False)
    )


def _some(items: Iterable[str]) -> str:
    known = list(items)
    rest = f" and {len(known) - NAMED} more" if len(known) > NAMED else ""
    return "; ".join(known[:NAMED]) + rest
