"""Pictures of the rows that runs get wrong, where their images can be opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo_lightning.comparison.compare import Comparison
from mammo_lightning.comparison.entries import Entry
from mammo_lightning.comparison.hardest import hardest, shown_image
from mammo_lightning.errors import DataError, MammoError
from mammo_lightning.progress import Progress

if TYPE_CHECKING:
    from mammo_lightning.datamodules.base import MammoDataModule

SIDE = 160  # pixels
WINDOW = (0.5, 99.8)  # percentiles of an image that are shown black and white


@dataclass(frozen=True)
class Gallery:
    """Rows, their pictures by name, and what must be said of them."""

    rows: pd.DataFrame
    pictures: dict[str, bytes] = field(default_factory=dict)
    lines: tuple[str, ...] = ()


def gallery_of(
    comparison: Comparison, mlruns: Path, root: Path | None, progress: Progress, storage: str | None = None
) -> Gallery:
    """The hardest rows with pictures; images of the test split are looked at only as a counted read.

    Args:
        comparison: What is compared.
        mlruns: The tracking folder.
        root: Where the images are now.
        progress: Hears how far it is.
        storage: What machines share, if they do: the read is counted there too.
    """
    rows = hardest(comparison.entries)
    entry = comparison.entries[0]
    if rows.empty:
        return Gallery(rows)
    try:
        data = _opened(entry, mlruns, root, progress)
        told = _count(comparison, data, mlruns, storage) if entry.split == "test" else ""
    except (MammoError, OSError) as error:
        return Gallery(rows, {}, (f"no pictures, names only: {error}",))
    places = {str(name): place for place, name in enumerate(data.frame["image"])}
    found = {str(name): places.get(shown_image(entry, str(name))) for name in rows["image"]}
    shown = {name: np.asarray(data.images[place]) for name, place in found.items() if place is not None}
    return Gallery(rows, {name: _png(image) for name, image in shown.items()}, (told,) if told else ())


def _opened(entry: Entry, mlruns: Path, root: Path | None, progress: Progress) -> MammoDataModule:
    recipe = entry.run.recipe
    if recipe is None:
        raise DataError(f"run '{entry.run.run_id}' is of no study, so nothing says where its images are")
    from mammo_lightning.opening import open_dataset  # takes longer than all the rest

    return open_dataset(recipe.moved(root).model_copy(update={"mlruns": mlruns.resolve()}), progress)


def _count(comparison: Comparison, data: MammoDataModule, mlruns: Path, storage: str | None) -> str:
    """Looking at test images is a read of the test split, told and counted like any other."""
    from mammo_lightning.opening import divided
    from mammo_lightning.wall import read_counted

    run = comparison.entries[0].run
    recipe = run.recipe
    assert recipe is not None
    splits = divided(recipe, data)
    if run.tags.get("test_split", splits.test_digest) != splits.test_digest:
        raise DataError(f"the test split of these images is not the one run '{run.run_id}' has read; pass --root")
    members = " ".join(entry.run.run_id for entry in comparison.entries)
    return str(read_counted(storage, mlruns, splits, study="comparison", run=f"gallery of {members}"))


def _png(image: NDArray[Any]) -> bytes:
    """One image (C, H, W) as a small PNG, on a grey scale of its own."""
    import cv2

    low, high = np.percentile(image, WINDOW)
    grey = np.clip((np.moveaxis(image, 0, -1).astype(np.float32) - low) / max(float(high - low), 1e-9), 0, 1) * 255
    tall, wide = grey.shape[:2]
    factor = SIDE / max(tall, wide)
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    size = (max(1, round(wide * factor)), max(1, round(tall * factor)))
    scaled = np.clip(cv2.resize(grey, size, interpolation=how), 0, 255).astype(np.uint8)
    if scaled.ndim == 3 and scaled.shape[2] == 3:
        scaled = scaled[..., ::-1]  # PNG is written from blue, green, red
    elif scaled.ndim == 3:
        scaled = scaled[..., 0]
    return bytes(cv2.imencode(".png", scaled)[1].tobytes())
