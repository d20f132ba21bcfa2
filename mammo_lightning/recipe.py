"""What a study is asked to do: the same keys on the command line, in a recipe and in Python."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mammo_lightning.errors import SettingsError, one_of

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}")
OBJECTIVES = ("val_auc", "val_pauc", "val_macro_auc", "tpr@fpr0.2", "tpr,fpr")


class DataOptions(BaseModel):
    """Options of single datasets that have a key and a flag of their own; others stand in `data`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)  # true is no number, 3 is no name

    task: str | None = None
    crop: str | None = None
    field_mm: float | None = Field(None, gt=0, le=500)
    pairs: bool | None = None
    without_callback: str | None = None
    borders: str | None = None
    patient_from: str | None = None
    table: Path | None = Field(None, strict=False)
    positive: str | None = None
    sampling: Literal["exhaustive", "selected"] | None = None
    patients: int | None = Field(None, ge=20)
    trap: str | None = None
    data: dict[str, Any] = {}


class Recipe(DataOptions):
    """A study: data, classifier, protocol, search."""

    name: str = ""
    dataset: str = "synthetic"
    classifier: str = "hyper"
    trials: int = Field(10, ge=1, le=10_000)
    folds: int = Field(5, ge=2, le=50)
    epochs: int = Field(20, ge=1, le=10_000)
    objective: str = "val_auc"
    level: Literal["patch", "lesion", "view", "breast", "exam", "patient"] = "patch"
    scheme: Literal["cv", "holdout", "nested"] = "cv"
    test: float | None = Field(None, ge=0, lt=1)
    reserve: float = Field(0.0, ge=0, lt=0.5)
    operating_point: str = ""
    straddle: Literal["drop", "refuse"] = "drop"
    group: Literal["patient", "image"] = "patient"
    seed: int = Field(0, ge=0)
    fold_seed: int = Field(0, ge=0)
    prune: bool = True
    search: dict[str, str] = {}
    set: dict[str, Any] = {}

    root: Path | None = Field(None, strict=False)
    size: int | None = Field(None, ge=8, le=4096)
    skip_unreadable: bool = False
    limit: int | None = Field(None, ge=4)
    truth: int = Field(0, ge=0)

    mlruns: Path = Field(Path("mlruns"), strict=False)
    tracking_uri: str | None = None
    storage: str | None = None
    fresh: bool = False
    keep_best: int = Field(16, ge=1)

    workers: int | None = Field(None, ge=1, le=1024)
    engine: Literal["processes", "ray"] = "processes"
    accelerator: str = "auto"
    devices: str | None = None
    gpu_share: float = Field(1.0, gt=0, le=1)
    precision: str = "auto"

    @field_validator("objective")
    @classmethod
    def _objective(cls, value: str) -> str:
        if value not in OBJECTIVES:
            raise ValueError(one_of(OBJECTIVES))
        return value

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if value and not NAME.fullmatch(value):
            raise ValueError("a name has at most 48 letters, digits, dots, dashes or underscores")
        return value

    def moved(self, root: Path | None) -> Recipe:
        """The same with its images under another root; a table that is no longer where it was is looked for there."""
        if root is None:
            return self
        there = root / self.table.name if self.table else None
        lost = there is not None and self.table is not None and not self.table.exists() and there.exists()
        return self.model_copy(update={"root": root, **({"table": there} if lost else {})})

    @property
    def study(self) -> str:
        """The study's name."""
        return self.name or f"{self.dataset}-{self.classifier}"

    @property
    def rule(self) -> str:
        """How the operating point is chosen; a Pareto study needs one that does not fix the FPR."""
        return self.operating_point or ("youden" if self.objective == "tpr,fpr" else "spec0.80")


def make_recipe(values: Mapping[str, Any], where: str = "the command line") -> Recipe:
    """A checked recipe; what is wrong is said in one line."""
    try:
        return Recipe(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise SettingsError(f"{where}: no key {key!r}; {one_of(list(Recipe.model_fields))}") from None
        rule = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{where}: {key} = {first['input']!r} is not possible: {rule}") from None


def read_recipe(path: Path, known: Path | None = None) -> dict[str, Any]:
    """The keys of a recipe file, checked; paths in it are relative to the working directory.

    Args:
        path: The file.
        known: The folder whose recipes are named where there is no such file.
    """
    try:
        keys = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        files = sorted(known.glob("*.toml")) if known else []
        cure = one_of([str(_short(file)) for file in files]) if files else "pass the path of a TOML file"
        raise SettingsError(f"no recipe '{path}'; {cure}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"recipe '{path}' is not readable TOML: {error}") from None
    make_recipe(keys, f"recipe '{path}'")
    return keys


def _short(path: Path) -> Path:
    """The path as one would type it here."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
