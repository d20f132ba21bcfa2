"""What an audit finds in a dataset: its structure, pictures of it, and what gives a label away without tissue."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo_lightning import controls
from mammo_lightning.datamodules import contact, pipelines, shortcuts
from mammo_lightning.datamodules.audit import native_formats, structure
from mammo_lightning.datamodules.base import MammoDataModule
from mammo_lightning.datamodules.folds import frozen_test_groups
from mammo_lightning.errors import DataError
from mammo_lightning.opening import open_dataset
from mammo_lightning.progress import Progress
from mammo_lightning.recipe import Recipe
from mammo_lightning.types import seed_from

#: side to which images of several sizes are brought; their own sizes are read from the files
SIDE = 128
PLACES = ("view", "laterality", "spacing_mm")  # known of a row, no subgroup, and perhaps a shortcut
#: what says that something is wrong at the head of a line
WARNED = {"shortcut", "leak", "duplicate", "label conflict", "unreadable"}


def warns(line: str) -> bool:
    """Whether a line of an audit says that something is wrong."""
    return line.partition(":")[0] in WARNED


class Look:
    """What an audit found, as tables, lines and pictures; made of the structure, to which more is added."""

    def __init__(self, data: MammoDataModule, title: str) -> None:
        self.data, self.title = data, title
        self.formats = native_formats(data.frame, data.shape, 8 * data.images.dtype.itemsize)
        self.findings = structure(data.frame, classes=data.classes, formats=self.formats, unreadable=data.unreadable)
        self.metrics = self.findings.metrics()
        self.lines = [*self.findings.lines, *(f"note: {count:,} {why}" for why, count in data.notices.items())]
        if data.origin and data.origin.citation:
            self.lines.append(f"note: cite {data.origin.citation} Licence: {data.origin.licence}.")
        self.tables: dict[str, pd.DataFrame] = {"counts": self.findings.counts, "formats": self.findings.formats}
        self.sheets: dict[str, bytes] = {}
        self.augmented = b""  # what each augmentation makes of some images

    @property
    def warnings(self) -> list[str]:
        """The lines that say something is wrong."""
        return [line for line in self.lines if warns(line)]


def looked_at(recipe: Recipe, progress: Progress | None = None) -> Look:
    """Open the dataset that a recipe names and look at it; images of a test split are counted only.

    Args:
        recipe: Names the dataset, its options and the folds.
        progress: Told what is read.
    """
    data, resized = _opened(recipe, progress)
    look = Look(data, recipe.dataset)
    if recipe.limit:
        look.lines.append(f"note: a quick look at {len(data.frame)} images; the counts of what was left out are of all")
    if resized:
        look.lines.append(
            f"note: images of several sizes were brought to {SIDE} x {SIDE} to be looked at; a study needs --size"
        )
    frozen = frozen_test_groups(data)
    seen = shortcuts.readable(data.frame, frozen)
    if len(seen) < len(data.frame):
        unread = data.frame["patient"].nunique() - data.frame["patient"].iloc[seen].nunique()
        look.lines.append(f"note: {unread} patients of the test split are counted, and not looked at")
    if not len(seen):
        look.lines.append("note: every image is of the test split: none is looked at")
        return look
    _draw(look, seen)
    try:
        seed = seed_from(data.source, recipe.folds, recipe.fold_seed)
        folds = shortcuts.grouped_folds(data.frame, folds=recipe.folds, seed=seed, frozen=frozen)
    except DataError as error:
        look.lines.append(f"note: no shortcut table and no controls: {error}")
        return look
    _try(look, folds, seed)
    return look


def _opened(recipe: Recipe, progress: Progress | None) -> tuple[MammoDataModule, bool]:
    """The dataset; images of several sizes, which a study refuses, are no reason for an audit to stop."""
    try:
        return open_dataset(recipe, progress, lenient=True), False
    except DataError as error:
        if recipe.size is not None:
            raise
        try:
            return open_dataset(recipe.model_copy(update={"size": SIDE}), progress, lenient=True), True
        except DataError:
            raise error from None


def _draw(look: Look, seen: NDArray[np.int64]) -> None:
    """Contact sheets of the images that may be looked at, and what augmentations make of some."""
    data = look.data
    look.sheets = contact.contact_sheets(
        data.frame.iloc[seen],
        data.images[seen],
        classes=data.classes,
        title=look.title,
        synthetic=data.synthetic,
    )
    some = data.images[seen[:: max(1, len(seen) // 64)]]
    look.augmented = pipelines.png(some, scale=data.scale, title=look.title, synthetic=data.synthetic)


def _try(look: Look, folds: NDArray[np.int64], seed: int) -> None:
    """What trivial predictors reach alone, and what the reference reaches where it should find nothing."""
    data = look.data
    columns = [
        *(name for name in PLACES if name in data.frame),
        *(name for name in data.subgroups if name not in getattr(data, "answers", ())),
    ]
    found = shortcuts.shortcuts(
        data.frame, data.images, folds, classes=data.classes, columns=columns, formats=look.formats
    )
    tried = controls.controls(data.frame, data.images, folds, scale=data.scale, seed=seed)
    look.tables["shortcuts"] = shortcuts.table(found)
    rows = [(each.name, each.auc.value, each.auc.lo, each.auc.hi, each.counts) for each in tried]
    look.tables["controls"] = pd.DataFrame(rows, columns=["control", "auc", "lo", "hi", "counts"])
    look.metrics |= {f"shortcut/{each.predictor.key}": each.auc.value for each in found}
    look.metrics |= {f"control/{each.key}": each.auc.value for each in tried}
    look.lines += [each.line for each in found if each.works] + [each.line for each in tried]
