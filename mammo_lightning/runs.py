"""Runs as others name them: by id, by the start of an id, or by the study they are of; with what they predicted."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from mammo_lightning.errors import DataError, TrackingError
from mammo_lightning.recipe import Recipe
from mammo_lightning.record import TABLES
from mammo_lightning.tracking.files import file_digest
from mammo_lightning.tracking.journal import Journal, RunJournal
from mammo_lightning.types import Kind, Level, OperatingPoint, Outcome, Predictions, levels_of

#: runs whose predictions can be combined, compared and registered
SCORED = (Kind.trial, Kind.final, Kind.reference, Kind.ensemble, Kind.external)
SHOWN = 6  # ids named in a message


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
        path = self.study.artifacts / "recipe.json" if self.study else None
        if path is None or not path.is_file():
            return None
        kept = json.loads(path.read_text())
        return Recipe(**{name: value for name, value in kept.items() if name in Recipe.model_fields})

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
        digest = file_digest(path)
        if not self.run.holds({"event": "artifact", "name": name, "digest": digest}):
            raise DataError(
                f"'{path}' is not what run '{self.run_id}' wrote: its digest is {digest} now. Restore it, or leave "
                "the run out"
            )
        return digest

    def predictions(self, split: str = "val") -> Predictions:
        """What it predicted, out of fold for `val`; checked against its digest."""
        if split not in self._tables:
            self.digest(split)
            self._tables[split] = Predictions(pd.read_parquet(self.run.artifacts / TABLES[split]))
        return self._tables[split]

    @property
    def points(self) -> dict[Level, OperatingPoint]:
        """The frozen operating point at each level; empty for a run that has only cross-fitted ones."""
        path = self.run.artifacts / "operating_point.json"
        if not path.is_file():
            return {}
        kept = json.loads(path.read_text())["points"]
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


class Runs:
    """The finished runs of one tracking folder."""

    def __init__(self, mlruns: Path) -> None:
        self.mlruns = Path(mlruns)
        if not (self.mlruns / "journal").is_dir():
            raise TrackingError(f"no runs in '{mlruns}'; run `python -m experiments.tune` first, or pass --mlruns")
        self.journal = Journal(self.mlruns)

    @cached_property
    def _names(self) -> list[str]:
        return self.journal.runs()

    def get(self, name: str) -> Scored:
        """One run, by its id, by the start of it that no other has, or as `study/t003`."""
        run = self.journal.run(self._named(name))
        return self._scored(run)

    def study(self, name: str) -> RunJournal:
        """The newest study of that name (or id)."""
        for run_id in reversed(self._names):
            if run_id == name or (run_id.rpartition("-")[0] == name and "." not in run_id.removeprefix(name)):
                run = self.journal.run(run_id)
                if run.identity.get("kind") == Kind.study:
                    return run
        known = dict.fromkeys(self._study_name(run_id) for run_id in self._names if "." not in run_id)
        raise TrackingError(f"no study {name!r} in '{self.mlruns}'; known: {', '.join(sorted(filter(None, known)))}")

    def of_study(self, name: str, kinds: Iterable[Kind] = (Kind.trial,), split: str | None = "val") -> list[Scored]:
        """The completed runs of a study that have predictions of a split (if one is named), in their order."""
        study, wanted = self.study(name), set(kinds)
        runs = [self.journal.run(each) for each in self._names if each.startswith(f"{study.run_id}.")]
        found = [run for run in runs if run.identity.get("kind") in wanted and run.outcome is Outcome.completed]
        return [each for run in found if (each := Scored(run, study)) and (split is None or each.has(split))]

    def experts(self, name: str) -> list[Scored]:
        """What a nested study chose in each outer fold, judged on patients reserved from all; empty if not nested."""
        study = self.study(name)
        whole = Scored(study, study)
        if whole.recipe is None or whole.recipe.scheme != "nested":
            return []
        found = self.of_study(name, (Kind.study,), "reserve")
        if not found:
            raise DataError(
                f"study {name!r} is nested and reserved nobody: its experts share no rows that none was trained on. "
                "Tune with --scheme nested --reserve 0.2"
            )
        return found

    def named(self, words: Iterable[str]) -> list[Scored]:
        """Runs by id, and for the name of a study its final (or, without one, its best trial)."""
        found = []
        for word in words:
            try:
                found.append(self.get(word))
            except TrackingError as error:
                try:
                    found.append(self._best_of(word))
                except TrackingError:
                    raise error from None
        return found

    def _best_of(self, study: str) -> Scored:
        finals = self.of_study(study, (Kind.final,))
        trials = finals or sorted(self.of_study(study), key=lambda each: -each.metrics.get("objective", 0.0))
        if not trials:
            raise TrackingError(f"study {study!r} has no completed trial; run its command again to go on with it")
        return trials[-1] if finals else trials[0]

    def _scored(self, run: RunJournal) -> Scored:
        identity = run.identity
        if identity.get("kind") not in {str(kind) for kind in SCORED}:
            raise TrackingError(
                f"run '{run.run_id}' is of kind {identity.get('kind', 'unknown')}; runs with predictions are "
                f"{', '.join(SCORED)}"
            )
        if run.outcome is not Outcome.completed:
            how = f"{run.outcome} ({run.reason})" if run.outcome else "not ended"
            raise TrackingError(f"run '{run.run_id}' is {how}; choose a completed one")
        above = identity.get("parent")
        study = self.journal.run(above.split(".")[0]) if above else None
        if study is not None and study.begun() is None:
            raise TrackingError(
                f"run '{run.run_id}' is of study '{study.run_id}', which is not in '{self.mlruns}': how it is to be "
                "judged is not known. Restore the study's folder"
            )
        return Scored(run, study)

    def _named(self, name: str) -> str:
        if name in self._names:
            return name
        study, slash, rest = name.partition("/")
        starts = [f"{self.study(study).run_id}.{rest}"] if slash else [name]
        found = [each for each in self._names if each.startswith(starts[0])]
        if slash or "." in name:
            exact = [each for each in found if each.rpartition(".")[2] in (rest or name.rpartition(".")[2],)]
            found = exact or found
        if len(found) == 1:
            return found[0]
        if not found:
            raise TrackingError(
                f"no run {name!r} in '{self.mlruns}'; give an id as MLflow shows it in the tag journal, STUDY/t003, or "
                "the name of a study"
            )
        raise TrackingError(f"{name!r} begins {len(found)} ids: {', '.join(found[:SHOWN])}; give one of them whole")

    def _study_name(self, run_id: str) -> str:
        identity = self.journal.run(run_id).identity
        return str(identity.get("study", "")) if identity.get("kind") == Kind.study else ""
