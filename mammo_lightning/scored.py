"""A finished run with what it predicted, and what it says of itself."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from mammo_lightning.errors import DataError
from mammo_lightning.recipe import Recipe
from mammo_lightning.record import TABLES
from mammo_lightning.tracking.files import file_digest
from mammo_lightning.tracking.journal import BORROWED, RunJournal
from mammo_lightning.types import Kind, Level, OperatingPoint, Predictions, levels_of


@dataclass(frozen=True)
class Scored:
    """A finished run with what it predicted; what it says of itself is read from its journal."""

    run: RunJournal
    study: RunJournal | None = None
    _tables: dict[str, Predictions] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def run_id(self) -> str:
        """The name by which the run is known everywhere."""
        return self.run.run_id

    @property
    def kind(self) -> Kind:
        """What the run is."""
        return Kind(self.run.identity["kind"])

    @property
    def name(self) -> str:
        """The study and the run in it, as a person would say it: `microcalc-best t001 d0.05`."""
        identity = self.run.identity
        return " ".join(dict.fromkeys(part for part in (identity["study"], identity["name"]) if part))

    @cached_property
    def tags(self) -> dict[str, str]:
        """What the run is tagged with."""
        return self.run.read_tags()

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The last value of each metric."""
        return self.run.read_metrics()

    @property
    def borrowed(self) -> bool:
        """Whether it is a copy of what another machine published, which is not written to."""
        return self.run.folder.parent.name == BORROWED

    @property
    def synthetic(self) -> bool:
        """Whether its images were generated."""
        return self.tags.get("synthetic") == "true"

    @property
    def leaky(self) -> bool:
        """Whether patients stood on both sides of its folds on purpose."""
        return self.tags.get("leaky") == "true"

    @cached_property
    def recipe(self) -> Recipe | None:
        """What its study was asked to do; None for a run that no study made."""
        kept = _kept(self.study, "recipe.json") if self.study else None
        if kept is None:
            return None
        return Recipe(**{name: value for name, value in kept.items() if name in Recipe.model_fields})

    @property
    def settings(self) -> dict[str, Any]:
        """The settings it was made with."""
        found: dict[str, Any] | None = self.kept("settings.json")
        if found is None:
            raise DataError(f"run '{self.run_id}' has no settings.json; restore it, or leave the run out")
        return found

    def kept(self, name: str) -> Any:
        """What it wrote as JSON, None where it wrote none; a file that is another by now is refused."""
        return _kept(self.run, name)

    @property
    def level(self) -> Level:
        """The level it was judged at: its own, or its study's."""
        return Level(self.tags.get("level") or (self.recipe.level if self.recipe else "patch"))

    @property
    def rule(self) -> str:
        """How its operating point was chosen: its own way, or its study's."""
        return self.tags.get("operating_point") or (self.recipe.rule if self.recipe else "youden")

    def has(self, split: str = "val") -> bool:
        """Whether it kept predictions of a split."""
        return (self.run.artifacts / TABLES[split]).is_file()

    def digest(self, split: str = "val") -> str:
        """The digest of its predictions as they were written; a file that is another by now is refused."""
        name = TABLES[split]
        path = self.run.artifacts / name
        if not path.is_file():
            raise DataError(
                f"run '{self.run_id}' has no predictions of split {split} ({name}); choose one that was completed"
                + ("" if split == "val" else " and has read it")
            )
        _whole(self.run, name)
        return self.run.files()[name]

    def predictions(self, split: str = "val") -> Predictions:
        """What it predicted, out of fold for `val`; checked against its digest."""
        if split not in self._tables:
            self.digest(split)
            try:
                self._tables[split] = Predictions(pd.read_parquet(self.run.artifacts / TABLES[split]))
            except (DataError, KeyError, ValueError, OSError) as error:  # written so, by whatever wrote it
                raise DataError(f"run '{self.run_id}': {TABLES[split]} cannot be used: {error}") from None
        return self._tables[split]

    def calibrated(self, split: str = "val") -> Predictions | None:
        """Its scores as probabilities, where its training rows were balanced and they are others than it predicted."""
        path = _whole(self.run, TABLES[split].replace(".parquet", "_calibrated.parquet"))
        return None if path is None else Predictions(pd.read_parquet(path))

    @property
    def judged_on(self) -> str:
        """The rows of split `val`: `val`, out of fold, or the `reserve` of patients whom no expert saw."""
        return self.tags.get("judged_on", "val")

    @property
    def points(self) -> dict[Level, OperatingPoint]:
        """The frozen operating point at each level; empty for a run that has only cross-fitted ones."""
        kept = (self.kept("operating_point.json") or {"points": {}})["points"]
        return {
            Level(name): OperatingPoint(float(each["threshold"]), Level(each["level"]), str(each["rule"]))
            for name, each in kept.items()
        }

    @property
    def levels(self) -> list[Level]:
        """The levels its predictions were judged at; above patch only where the patches tile what they stand for."""
        judged = {name.split("/")[0].removeprefix("val_") for name in self.metrics if name.startswith("val_")}
        judged |= {
            name.split("/")[0].removeprefix("external_") for name in self.metrics if name.startswith("external_")
        }
        found = [level for level in levels_of(self.predictions("val" if self.has() else "external").frame)]
        return [level for level in found if level in judged] or [Level.patch]


def _kept(run: RunJournal, name: str) -> Any:
    path = _whole(run, name)
    return None if path is None else json.loads(path.read_text())


def _whole(run: RunJournal, name: str) -> Path | None:
    """Where an artifact is, None where there is none; one that is another than was written is refused."""
    known, path = run.files().get(name), run.artifacts / name
    if not path.is_file():
        return None
    if (digest := file_digest(path)) != known:
        raise DataError(
            f"'{path}' is not what run '{run.run_id}' wrote: its digest is {digest} now. Restore it, or leave the run "
            "out"
        )
    return path
