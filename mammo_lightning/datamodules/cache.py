"""Images decoded once into a memory-mapped array, shared by every process that starts on the same content."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock
from numpy.typing import NDArray

from mammo_lightning.datamodules.decoding import LOG, Noticed, Progress, Read, decode
from mammo_lightning.errors import DataError, TrackingError

SCALES = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
KEPT = 4  # prepared copies of one dataset


@dataclass(frozen=True)
class Decoded:
    """What stands in the cache: kept rows in order, their pixels, and the rows that could not be read."""

    frame: pd.DataFrame
    images: NDArray[Any]  # N x C x H x W
    unreadable: list[tuple[str, str]]
    seen: dict[str, int]  # what was noticed while they were read

    @property
    def scale(self) -> float:
        """The value of white."""
        return SCALES[str(self.images.dtype)]


def decoded(
    folder: Path,
    frame: pd.DataFrame,
    read: Read,
    *,
    size: int | None,
    lenient: bool,
    progress: Progress,
    noticed: Noticed = list,
) -> Decoded:
    """The cache at `folder`, made if it is not there or damaged; one process makes it, others wait.

    One that was interrupted goes on where it stopped.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            found = _load(folder)
            if found is None:
                part = folder.with_name(folder.name + ".part")
                shutil.rmtree(folder, ignore_errors=True)
                try:
                    decode(part, frame, read, size=size, lenient=lenient, progress=progress, noticed=noticed)
                except DataError:
                    shutil.rmtree(part, ignore_errors=True)  # what was wrong may be mended until the next start
                    raise
                part.rename(folder)
                (folder / LOG).unlink()
                found = _load(folder)
    except OSError as error:
        raise TrackingError(f"cannot write the image cache '{folder}': {error.strerror}. Pass --mlruns DIR") from error
    if found is None:
        raise TrackingError(f"the image cache '{folder}' was not readable after it was written; remove it")
    return found


def kept_once(
    folder: Path, name: str, shape: tuple[int, ...], fill: Callable[[NDArray[np.float32]], object]
) -> NDArray[np.float32]:
    """What `fill` fills, kept in a file that all processes map: they share its memory. Few are kept, the last used."""
    path = folder / "prepared" / f"{name}.npy"
    try:
        path.parent.mkdir(exist_ok=True)
        with FileLock(f"{path.parent}.lock"):
            kept = _mapped(path)
            if kept is None:
                for old in sorted(path.parent.glob("*.npy"), key=lambda each: each.stat().st_mtime)[: 1 - KEPT]:
                    old.unlink()  # whoever has it mapped still reads it
                part = path.with_suffix(".part")
                array = np.lib.format.open_memmap(part, mode="w+", dtype=np.float32, shape=shape)
                fill(array)
                array.flush()  # a name without its content would be trained on
                del array
                part.replace(path)
                kept = _mapped(path)
            path.touch()
    except OSError as error:
        raise TrackingError(f"cannot keep prepared images at '{path}': {error.strerror}. Pass --mlruns DIR") from error
    if kept is None:
        raise TrackingError(f"prepared images at '{path}' were not readable after they were written; remove them")
    return kept


def _mapped(path: Path) -> NDArray[np.float32] | None:
    try:
        kept: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, ValueError):  # not there, or cut short
        return None
    return kept


def _load(folder: Path) -> Decoded | None:
    try:
        meta = json.loads((folder / "meta.json").read_text())
        images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
        frame = pd.read_parquet(folder / "frame.parquet")
    except (OSError, ValueError):
        return None
    intact = list(images.shape) == meta["shape"] and len(frame) == len(images)
    if not intact:
        return None
    return Decoded(frame, images, [(name, why) for name, why in meta["unreadable"]], meta.get("seen", {}))
