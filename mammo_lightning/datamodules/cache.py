"""Images decoded once into a memory-mapped array, shared by every process that starts on the same content."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock
from numpy.typing import NDArray

from mammo_lightning.errors import DataError, TrackingError
from mammo_lightning.types import digest

SCALES = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
KEPT = 4  # prepared copies of one dataset
KINDS = {1: "grey", 3: "colour"}


@dataclass(frozen=True)
class Decoded:
    """What stands in the cache: kept rows in order, their pixels, and the rows that could not be read."""

    frame: pd.DataFrame
    images: NDArray[Any]  # N x C x H x W
    unreadable: list[tuple[str, str]]

    @property
    def scale(self) -> float:
        """The value of white."""
        return SCALES[str(self.images.dtype)]


def decoded(
    folder: Path,
    frame: pd.DataFrame,
    read: Callable[[pd.Series], NDArray[Any]],
    *,
    size: int | None,
    lenient: bool,
    progress: Callable[[Iterable[Any], str, int], Iterable[Any]],
) -> Decoded:
    """The cache at `folder`, made if it is not there or damaged; one process makes it, others wait."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            found = _load(folder)
            if found is None:
                part = folder.with_name(folder.name + ".part")
                shutil.rmtree(part, ignore_errors=True)
                shutil.rmtree(folder, ignore_errors=True)
                part.mkdir()
                _build(part, frame, read, size, lenient, progress)
                part.rename(folder)
                found = _load(folder)
    except OSError as error:
        raise TrackingError(f"cannot write the image cache '{folder}': {error.strerror}. Pass --mlruns DIR") from error
    if found is None:
        raise TrackingError(f"the image cache '{folder}' was not readable after it was written; remove it")
    return found


def kept_once(folder: Path, name: str, make: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
    """What `make` makes, kept in a file that all processes map: they share its memory. Few are kept, the last used."""
    path = folder / "prepared" / f"{name}.npy"
    try:
        path.parent.mkdir(exist_ok=True)
        with FileLock(f"{path.parent}.lock"):
            kept = _mapped(path)
            if kept is None:
                for old in sorted(path.parent.glob("*.npy"), key=lambda each: each.stat().st_mtime)[: 1 - KEPT]:
                    old.unlink()  # whoever has it mapped still reads it
                part = path.with_suffix(".part")
                with part.open("wb") as stream:
                    np.save(stream, make(), allow_pickle=False)
                    stream.flush()
                    os.fsync(stream.fileno())  # a name without its content would be trained on
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
    return Decoded(frame, images, [(name, why) for name, why in meta["unreadable"]]) if intact else None


def _build(
    folder: Path,
    frame: pd.DataFrame,
    read: Callable[[pd.Series], NDArray[Any]],
    size: int | None,
    lenient: bool,
    progress: Callable[[Iterable[Any], str, int], Iterable[Any]],
) -> None:
    arrays: list[NDArray[Any]] = []
    unreadable: list[tuple[str, str]] = []
    kept: list[int] = []
    for position in progress(range(len(frame)), "decoding", len(frame)):
        row = frame.iloc[position]
        try:
            array = read(row)
            if array.min() == array.max():
                raise DataError(f"'{row['image']}' is constant ({array.flat[0]}); an image needs contrast")
        except DataError as error:
            unreadable.append((str(row["image"]), str(error)))
            continue
        array = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
        arrays.append(_resized(array, size))
        kept.append(position)
    if unreadable and not lenient:
        more = f" (and {len(unreadable) - 1} more; the audit lists all)" if len(unreadable) > 1 else ""
        raise DataError(f"{unreadable[0][1].rstrip('.')}{more}. Mend or remove it, or pass --skip-unreadable")
    if not arrays:
        raise DataError(f"none of {len(frame)} images can be read; the first: {unreadable[0][1]}")
    _check_alike(frame.iloc[kept], arrays)
    images = np.stack(arrays)
    table = frame.iloc[kept].reset_index(drop=True)
    table["pixels"] = [digest(image.shape, image.dtype, image.tobytes()) for image in images]
    np.save(folder / "images.npy", images, allow_pickle=False)
    table.to_parquet(folder / "frame.parquet")
    (folder / "meta.json").write_text(json.dumps({"shape": images.shape, "unreadable": unreadable}))


def _resized(array: NDArray[Any], size: int | None) -> NDArray[Any]:
    if size is None or array.shape[1:] == (size, size):
        return array
    import cv2

    way = cv2.INTER_AREA if max(array.shape[1:]) > size else cv2.INTER_LINEAR
    return np.stack([cv2.resize(channel, (size, size), interpolation=way) for channel in array])


def _check_alike(frame: pd.DataFrame, arrays: list[NDArray[Any]]) -> None:
    names = frame["image"].tolist()
    depths = {str(array.dtype): name for array, name in zip(arrays, names, strict=True)}
    if len(depths) > 1:
        listed = ", ".join(f"{depth} ('{name}')" for depth, name in sorted(depths.items()))
        raise DataError(f"images of several depths: {listed}; all must share one. Convert them to one depth")
    shapes = {array.shape: name for array, name in zip(arrays, names, strict=True)}
    if len(shapes) == 1:
        return
    channels = {shape[0]: shape for shape in shapes}
    if len(channels) > 1:
        kinds = ", ".join(f"{_kind(shape)} ('{shapes[shape]}')" for _, shape in sorted(channels.items()))
        raise DataError(f"images of {len(channels)} kinds: {kinds}; all must be of one. Make all grey or all RGB")
    some = ", ".join(f"{shape[1]}x{shape[2]} ('{shapes[shape]}')" for shape in list(shapes)[:3])
    raise DataError(f"images of {len(shapes)} sizes: {some}; all must share one. Pass --size N to resize all to N x N")


def _kind(shape: tuple[int, ...]) -> str:
    channels, height, width = shape
    return f"{KINDS.get(channels, f'{channels} channels')} {height}x{width}"
