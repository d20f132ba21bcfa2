"""The images: the folder they are read from, and what was decoded of them."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from mammo_lightning.health.finding import Finding, bad, listed, ok, size
from mammo_lightning.types import digest

SUFFIXES = {".png", ".pgm", ".tif", ".tiff", ".jpg", ".jpeg", ".dcm", ".npy", ".gz", ".tar", ".tgz"}
MOST = 100_000  # files counted
GLANCE = 64 * 10**6  # bytes of pixels compared with their digests, unless every cache is to be mended


def data_root(root: Path) -> Iterator[Finding]:
    """Whether the images are there and can be read."""
    what, cure = "data", "Pass --root"
    if not root.exists():
        yield bad(what, f"no such folder or file '{root}'", cure)
    elif not os.access(root, os.R_OK | (os.X_OK if root.is_dir() else 0)):
        yield bad(what, f"'{root}' cannot be read", "Mend its permissions")
    elif root.is_file():
        yield ok(what, f"'{root}' is a file of {size(root.stat().st_size)}")
    else:
        paths = (Path(folder, name) for folder, _, names in os.walk(root) for name in names)
        images = [path for path in itertools.islice(paths, MOST) if path.suffix.lower() in SUFFIXES]
        closed = [path for path in images if not os.access(path, os.R_OK)]
        count = f"{len(images):,}{' or more' if len(images) == MOST else ''}"
        if closed:
            yield bad(
                what, f"{len(closed):,} of {count} images below '{root}' cannot be read", "Mend their permissions"
            )
        elif images:
            yield ok(what, f"{count} images below '{root}'")
        else:
            yield bad(what, f"no image below '{root}'", cure)


#: of the cache's folders those that hold no decoded images: unpacked archives, and what is known of files
OTHERS = ("archives", "contents")


def folders(mlruns: Path) -> list[Path]:
    """Folders of decoded images."""
    found = (mlruns / "cache").glob("*")
    return sorted(path for path in found if path.is_dir() and path.suffix != ".part" and path.name not in OTHERS)


def caches(mlruns: Path, repair: bool) -> Iterator[Finding]:
    """Decoded images against their digests: some of each cache, or with `repair` all, and what is damaged goes."""
    what, places = "image cache", folders(mlruns)
    damaged = {place: why for place in places if (why := damage(place, None if repair else GLANCE // len(places)))}
    for place, why in damaged.items():
        if not repair:
            yield bad(what, f"'{place.name}' is damaged: {why}", "Pass --repair to remove it; it is made again")
        elif remove(place):
            yield ok(what, f"'{place.name}' was damaged ({why}) and is removed; the next study makes it again")
        else:
            yield bad(what, f"'{place.name}' is damaged: {why}; another process holds it", "Stop that process first")
    if not damaged:
        yield ok(what, f"{len(places)} whole ({listed(place.name for place in places)})" if places else "none yet")


def damage(folder: Path, budget: int | None) -> str:
    """What is wrong with decoded images; empty if nothing is.

    Args:
        folder: Where they are.
        budget: About how many bytes of pixels to compare, spread evenly; None for all.
    """
    try:
        shape, images, frame = _read(folder)
        if list(images.shape) != list(shape) or len(frame) != len(images):
            return f"{len(images):,} images, {len(frame):,} rows"
        most = len(images) if budget is None else max(1, budget // max(images[:1].nbytes, 1))
        chosen = np.unique(np.linspace(0, len(images) - 1, min(most, len(images))).astype(int))
        wrong = [row for row in chosen if _digest(images[row]) != frame["pixels"].iloc[row]]
    except (OSError, ValueError, KeyError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return f"the pixels of {len(wrong)} of {len(chosen)} images looked at have changed" if wrong else ""


def remove(folder: Path) -> bool:
    """Remove decoded images, unless a process is making them."""
    try:
        with FileLock(f"{folder}.lock", timeout=0):
            shutil.rmtree(folder)
    except Timeout:
        return False
    return True


def fingerprint(folder: Path, classes: tuple[str, ...]) -> str:
    """The digest by which journals name the dataset these images belong to; it depends on how classes are named."""
    from mammo_lightning.datamodules.base import merged_groups

    frame = pd.read_parquet(folder / "frame.parquet")
    table = frame.assign(group=merged_groups(frame)).drop(columns="path", errors="ignore").to_csv(index=False)
    return digest(folder.name.rpartition("-")[0], classes, table)


def _read(folder: Path) -> tuple[list[int], NDArray[Any], pd.DataFrame]:
    shape = json.loads((folder / "meta.json").read_text())["shape"]
    images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
    return shape, images, pd.read_parquet(folder / "frame.parquet", columns=["pixels"])


def _digest(image: NDArray[Any]) -> str:
    return digest(image.shape, image.dtype, image.tobytes())
