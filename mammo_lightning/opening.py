"""From a recipe to what it names: the dataset with its own options, and a folder that can be written to."""

from __future__ import annotations

import inspect
import tempfile
from pathlib import Path
from typing import Any

from mammo_lightning.datamodules.base import MammoDataModule
from mammo_lightning.errors import SettingsError, TrackingError, one_of
from mammo_lightning.progress import Progress
from mammo_lightning.recipe import Recipe
from mammo_lightning.registry import DATASETS

#: keys of a recipe that belong to single datasets
OWN = ("patient_from", "table", "positive", "sampling", "patients", "trap")


def open_dataset(recipe: Recipe, progress: Progress | None = None, *, lenient: bool = False) -> MammoDataModule:
    """The dataset a recipe names, its images decoded."""
    cls = DATASETS.get(recipe.dataset)
    takes = set(inspect.signature(cls.__init__).parameters) | {"root"}
    options: dict[str, Any] = {name: value for name in OWN if (value := getattr(recipe, name)) is not None}
    for name in options:
        if name not in takes:
            known = [f"--{key.replace('_', '-')}" for key in OWN if key in takes]
            raise SettingsError(
                f"--{name.replace('_', '-')} is not an option of dataset {recipe.dataset!r}; {one_of(known)}"
            )
    data: MammoDataModule = cls(
        root=recipe.root, mlruns=recipe.mlruns, size=recipe.size, lenient=lenient or recipe.skip_unreadable, **options
    )
    if progress is not None:
        data.progress = progress.loop  # type: ignore[method-assign]
    data.prepare_data()
    return data


def writable(folder: Path) -> Path:
    """The absolute folder, made if need be, after a file could be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            return folder.resolve()
    except OSError as error:
        raise TrackingError(
            f"--mlruns '{folder}' cannot be written to ({error.strerror}); pass --mlruns DIR"
        ) from error
