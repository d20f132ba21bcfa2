"""A task as it is sent to another process: what a fit reads of a dataset, without the dataset."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo_lightning.datamodules.base import MammoDataModule
from mammo_lightning.training import Task


@dataclass(frozen=True)
class Rows:
    """The part of a `MammoDataModule` that fits read. Images on this machine's disk are named, not sent."""

    name: str
    frame: pd.DataFrame
    pixels: NDArray[Any] | Path
    scale: float
    classes: tuple[str, str]
    subgroups: list[str]
    targets: tuple[str, ...]
    sides: tuple[int, ...]

    @property
    def images(self) -> NDArray[Any]:
        """The images; several processes that map one file share its memory."""
        if isinstance(self.pixels, Path):
            mapped: NDArray[Any] = np.load(self.pixels, mmap_mode="r", allow_pickle=False)
            return mapped
        return self.pixels


def shipped(task: Task, *, far: bool = False) -> Task:
    """The task without its dataset's code; `far`, with its pixels, for a machine that does not have the file."""
    data, file = task.data, getattr(task.data.images, "filename", None)
    pixels = np.ascontiguousarray(data.images) if far or file is None else Path(file)
    rows = Rows(data.name, data.frame, pixels, data.scale, data.classes, list(data.subgroups), data.targets, data.sides)
    return replace(task, data=cast(MammoDataModule, rows), _prepared={})
