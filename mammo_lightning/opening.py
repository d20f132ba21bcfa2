"""From a recipe to what it names: the dataset with its own options, and a folder that can be written to."""

from __future__ import annotations

import errno
import inspect
import tempfile
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mammo_lightning.datamodules.base import MammoDataModule
from mammo_lightning.datamodules.folds import Splits, make_splits
from mammo_lightning.errors import SettingsError, TrackingError, one_of
from mammo_lightning.progress import Progress
from mammo_lightning.recipe import DataOptions, Recipe
from mammo_lightning.registry import DATASETS
from mammo_lightning.tracking.store import DATABASES, check_uri, public

#: what a disk answers that is full, or not to be written to
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EFBIG)
#: what every dataset takes, from keys of their own
BASE = ("root", "mlruns", "size", "limit", "lenient")


def open_dataset(recipe: Recipe, progress: Progress | None = None, *, lenient: bool = False) -> MammoDataModule:
    """The dataset a recipe names, its images decoded."""
    cls = DATASETS.get(recipe.dataset)
    options = _options(recipe, cls)
    data: MammoDataModule = cls(
        root=recipe.root,
        mlruns=recipe.mlruns,
        size=recipe.size,
        limit=recipe.limit,
        lenient=lenient or recipe.skip_unreadable,
        **options,
    )
    if progress is not None:
        data.progress = progress.loop  # type: ignore[method-assign]
    data.prepare_data()
    return data


def _options(recipe: Recipe, cls: type[MammoDataModule]) -> dict[str, Any]:
    """What a recipe sets of a dataset's own options, of the types its constructor names."""
    given = {name: value for name in DataOptions.model_fields if (value := getattr(recipe, name)) is not None}
    named = given.pop("data")
    declared = inspect.signature(cls.__init__, eval_str=True).parameters.values()
    own = {each.name: each for each in declared if each.kind is each.KEYWORD_ONLY and each.name not in BASE}
    takes = {name: Any if each.annotation is each.empty else each.annotation for name, each in own.items()}
    for flag, name in [(_flag(name), name) for name in given] + [(f"--data {name}", name) for name in named]:
        if name not in takes:
            if (recipe.dataset, name) == ("folder", "table"):
                raise SettingsError("--table is read by --dataset table; pass that instead of --dataset folder")
            raise SettingsError(
                f"{flag} is not an option of dataset {recipe.dataset!r}; {one_of(_flag(each) for each in takes)}"
            )
    for name, value in named.items():
        try:
            given[name] = TypeAdapter(takes[name]).validate_python(value)
        except ValidationError as error:
            rule = error.errors()[0]["msg"]
            raise SettingsError(f"--data {name}={value} is not possible for {recipe.dataset!r}: {rule}") from None
    for name, each in own.items():
        if each.default is each.empty and name not in given:
            raise SettingsError(f"dataset {recipe.dataset!r} needs {_flag(name)}; pass it")
    return given


def _flag(name: str) -> str:
    """The option of a dataset as one types it."""
    return f"--{name.replace('_', '-')}" if name in DataOptions.model_fields else f"--data {name}="


def divided(recipe: Recipe, data: MammoDataModule) -> Splits:
    """The division of a dataset that a recipe asks for; nothing is written."""
    return make_splits(
        data,
        folds=recipe.folds,
        fold_seed=recipe.fold_seed,
        test=recipe.test,
        reserve=recipe.reserve,
        holdout=recipe.scheme == "holdout",
        straddle=recipe.straddle,
        grouping=recipe.group,
    )


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


def default_storage(mlruns: Path) -> str:
    """The local database of searches."""
    return f"sqlite:///{mlruns.resolve() / 'studies.db'}"


def check_storage(url: str) -> str:
    """The address of a database of searches; anything else raises."""
    if url.partition("://")[0].partition("+")[0] not in DATABASES:
        raise TrackingError(
            f"--storage {public(url)!r} names no database; expected postgresql://user@host/name or sqlite:///<file>. "
            "Leave --storage out for the local one"
        )
    try:
        return check_uri(url)
    except TrackingError as error:
        raise TrackingError(
            str(error).replace("tracking URI", "--storage").replace("--tracking-uri", "--storage")
        ) from None


def disk_message(error: OSError | str) -> str:
    """A disk that is full, or cannot be written to, in one line."""
    detail = error if isinstance(error, str) else f"{error.strerror or error} ({error.filename or 'no file named'})"
    return (
        f"the disk refused to be written to: {detail}. Nothing that was finished is lost; make room "
        "(`python -m experiments.gc` frees models of losing trials), then give the same command again"
    )
