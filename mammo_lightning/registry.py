"""Names to classes. A name is a file name; the file is imported when the name is asked for, not before."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from mammo_lightning.errors import SettingsError, one_of

T = TypeVar("T")


class Registry(Generic[T]):
    """Classes by name.

    Built-in names are the files of one folder that are not `private`; others come from an entry-point group, so
    that a third-party package adds its own by being installed. Listing names imports nothing.
    """

    def __init__(self, kind: str, package: str, private: tuple[str, ...]) -> None:
        self.kind = kind
        self._package = package
        self._private = {"__init__", *private}
        self._classes: dict[str, type[T]] = {}

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Register the decorated class under `name`; a name can be given once."""

        def add(cls: type[T]) -> type[T]:
            if name in self._classes:
                raise SettingsError(f"{self.kind} {name!r} is registered twice; choose another name for {cls.__name__}")
            self._classes[name] = cls
            return cls

        return add

    def names(self) -> list[str]:
        """All names, without importing what stands behind them."""
        folder = Path(__file__).parent / self._package.rpartition(".")[2]
        files = {path.stem for path in folder.glob("*.py")} - self._private
        return sorted(files | set(self._entry_points()) | set(self._classes))

    def get(self, name: str) -> type[T]:
        """The class called `name`, importing its file on first use."""
        if name not in self._classes:
            external = self._entry_points()
            if name in external:
                self._classes.setdefault(name, external[name].load())
            elif name in self.names():
                importlib.import_module(f"{self._package}.{name}")
            else:
                raise SettingsError(f"no {self.kind} {name!r}; {one_of(self.names())}")
        return self._classes[name]

    def _entry_points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=f"mammo_lightning.{self.kind}s")}


CLASSIFIER_PRIVATE = ("base", "weights")
DATASET_PRIVATE = (
    *("base", "files", "contents", "decoding", "cache", "quick", "naming", "folds", "loaders", "archive", "phantom"),
    *("audit", "shortcuts", "predictors", "contact", "pipelines"),
    *("cbis_arrays", "cbis_films", "cbis_tcia", "inbreast_xml", "screening_files"),
)

DATASETS: Registry[Any] = Registry("dataset", "mammo_lightning.datamodules", DATASET_PRIVATE)
CLASSIFIERS: Registry[Any] = Registry("classifier", "mammo_lightning.classifiers", CLASSIFIER_PRIVATE)
