"""What a run knows of itself, read once for all that is told of it."""

from __future__ import annotations

import json
import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mammo_lightning.errors import MammoError
from mammo_lightning.evaluation.resampling import Estimate
from mammo_lightning.evaluation.subgroups import varies_within
from mammo_lightning.recipe import Recipe
from mammo_lightning.registry import CLASSIFIERS, DATASETS
from mammo_lightning.runs import Runs, Scored
from mammo_lightning.tracking.journal import RunJournal
from mammo_lightning.tracking.test_reads import READS, reads
from mammo_lightning.tracking.versions import servable
from mammo_lightning.types import CORE_COLUMNS, PLACE_COLUMNS, Kind, Level, OperatingPoint

if TYPE_CHECKING:
    from mammo_lightning.datamodules.base import MammoDataModule

SPLITS = {"val": "out of fold", "test": "test split"}
VALUES = 12  # of a subgroup column


class Facts:
    """What a run knows, where several sections say it."""

    def __init__(self, scored: Scored) -> None:
        self.scored, self.run = scored, scored.run
        self.tags, self.metrics, self.level = scored.tags, scored.metrics, scored.level
        self.splits = [split for split in SPLITS if scored.has(split)]
        self.main = "test" if "test" in self.splits else "val"

    def rows(self, split: str) -> str:
        """The rows of a split, in words."""
        reserved = split == "val" and self.scored.judged_on == "reserve"
        return "reserved patients" if reserved else SPLITS[split]

    @cached_property
    def elsewhere(self) -> list[Scored]:
        """How it did on other datasets."""
        return Runs(self.run.folder.parent.parent).evaluations([self.run.run_id])

    @cached_property
    def points(self) -> dict[Level, OperatingPoint]:
        """Its frozen thresholds: those it was judged at, or those that travel with its model."""
        rule, kept = self.manifest.get("rule", ""), self.manifest.get("points", {})
        return self.scored.points or {
            Level(name): OperatingPoint(float(value), Level(name), rule) for name, value in kept.items()
        }

    @cached_property
    def dataset(self) -> type[MammoDataModule] | None:
        """The class of its dataset, where it is one of ours."""
        try:
            found: type[MammoDataModule] = DATASETS.get(self.tags.get("dataset", ""))
        except MammoError:
            return None
        return found

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What travels with the servable model."""
        try:
            folder = self.run.folder / servable(self.run)["folder"] / "artifacts" / "servable"
            found: dict[str, Any] = json.loads((folder / "servable.json").read_text())
        except (MammoError, OSError, ValueError):
            return {}
        return found

    @cached_property
    def solved(self) -> bool:
        """Whether its classifier is solved at once, so that what is said of steps means nothing."""
        try:
            return not CLASSIFIERS.get(self.tags.get("classifier", "")).gradient
        except MammoError:
            return False

    @cached_property
    def settings(self) -> dict[str, str]:
        """The settings that made a difference, as they are read."""
        params = {key: value for key, value in self.run.read_params().items() if not key.startswith("log10_")}
        if self.solved:
            from mammo_lightning.preprocessing.prepare import DEFAULTS

            own = {*CLASSIFIERS.get(self.tags["classifier"]).defaults, *DEFAULTS, "imbalance"}
            params = {key: value for key, value in params.items() if key in own}
        return {key: f"{float(value):.4g}" if _is_long(value) else value for key, value in params.items()}

    @cached_property
    def told(self) -> dict[str, str]:
        """Name, digest and folds of the data, as the run (or its study) said them."""
        journals = [self.run, *([self.scored.study] if self.scored.study else [])]
        events = [each for run in journals for each in run.since(0)[0] if each["event"] == "dataset"]
        return {key: str(events[0][key]) for key in ("name", "digest", "split")} if events else {}

    @cached_property
    def read_count(self) -> int:
        """How often its test split was read, by whomever."""
        name = self.tags.get("test_split", "")
        found = reads(self.run.folder.parent.parent / READS, name) if name else []
        return max(len(found), int(self.tags.get("test_reads", "0") or 0))

    @property
    def reads(self) -> str:
        """The same as a sentence."""
        name, count = self.tags.get("test_split", ""), self.read_count
        if not count:
            return ""
        mine = f", this model's read was number {self.tags['test_reads']}" if self.tags.get("test_reads") else ""
        return f"The test split {name} was read {count} {'time' if count == 1 else 'times'} by all studies{mine}."

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, positive last."""
        return self.scored.predictions(self.splits[0]).classes if self.splits else ()

    def estimate(self, split: str, level: Level, name: str) -> Estimate | None:
        """A figure with its interval."""
        key = f"{split}_{level}/{name}"
        if key not in self.metrics:
            return None
        return Estimate(*(self.metrics.get(f"{key}{end}", math.nan) for end in ("", "_lo", "_hi")))

    def specificity(self, split: str, level: Level) -> Estimate | None:
        """1 - FPR."""
        fpr = self.estimate(split, level, "fpr")
        return fpr.complement() if fpr else None

    def counts(self, split: str, level: Level) -> str:
        """Positives, negatives and patients behind a figure."""
        return self.scored.predictions(split).at(level).counts()

    @cached_property
    def line(self) -> str:
        """The conclusion in one line, plain."""
        said = {
            "SYNTHETIC images": self.scored.synthetic,
            "LEAKY folds": self.scored.leaky,
            "unverified": self.unverified,
        }
        stamps = [word for word, so in said.items() if so]
        if not self.splits:
            return " · ".join([*stamps, f"{self.scored.name}: no figures are kept", "research only"])
        auc, tpr = (self.estimate(self.main, self.level, name) for name in ("auc", "tpr"))
        figures = [f"AUC {auc}"] if auc else []
        if tpr and (specificity := self.specificity(self.main, self.level)):
            figures += [f"sensitivity {tpr}", f"specificity {specificity}"]
        what = f"{self.tags.get('dataset', 'data')} {self.level}: {', '.join(figures) or 'no figures'}"
        where = f"{self.rows(self.main)}, {self.counts(self.main, self.level)}"
        return " · ".join([*stamps, what, where, "research only"])

    @property
    def corrected(self) -> Estimate | None:
        """The AUC of its study, corrected for the choice among the trials."""
        study = self.scored.study if self.scored.kind is Kind.final else None
        found = study.read_metrics() if study else {}
        names = ("corrected_auc", "corrected_auc_lo", "corrected_auc_hi")
        return Estimate(*(found[name] for name in names)) if all(name in found for name in names) else None

    @property
    def origin(self) -> str:
        """How its operating point came about."""
        found = self.scored.kept("operating_point.json") or {}
        return str(found.get("origin", "carried" if self.points else ""))

    @property
    def unverified(self) -> str:
        """What of the run could not be checked here."""
        return self.tags.get("unverified", "")

    @cached_property
    def subgroups(self) -> list[str]:
        """Columns of the predictions that describe each row judged and do not follow from its label."""
        return [name for name in self._columns if name not in self.varying]

    @cached_property
    def varying(self) -> list[str]:
        """Columns that describe an image, and of which a row judged (a breast, a patient) may hold several values."""
        tables = [self.scored.predictions(split) for split in self.splits]
        return [
            name
            for name in self._columns
            if any(name in table.frame and varies_within(table, name, self.level) for table in tables)
        ]

    @cached_property
    def _columns(self) -> list[str]:
        from mammo_lightning.datamodules.base import KNOWN  # takes seconds, and not every answer needs it

        answers = self.dataset.answers if self.dataset else ()
        frame = self.scored.predictions(self.splits[0]).frame if self.splits else None
        if frame is None:
            return []
        fixed = {*KNOWN, *CORE_COLUMNS, *PLACE_COLUMNS, *answers}
        columns = [str(name) for name in frame.columns if name not in fixed and not str(name).startswith(("p_", "q_"))]
        return [name for name in columns if 1 < frame[name].nunique() <= VALUES]

    @cached_property
    def members(self) -> dict[str, Any]:
        """The manifest of an ensemble; empty for any other run."""
        found: dict[str, Any] = self.scored.kept("manifest.json") or {}
        return found

    @cached_property
    def recipe(self) -> Recipe | None:
        """What its study was asked to do; of an ensemble, the study of its first member, where that is known here."""
        return self.scored.recipe or Scored(self.run, self._study).recipe

    @property
    def _study(self) -> RunJournal | None:
        """The study it is of, or its first member is; it may be on another machine, and then says nothing."""
        above = [each["run"].split(".")[0] for each in self.members.get("members", [])]
        return RunJournal(self.run.folder.parent / above[0]) if above else self.scored.study

    @cached_property
    def versions(self) -> dict[str, str]:
        """Software as the study (or the run) said it."""
        study = self._study
        tags = {**(study.read_tags() if study else {}), **self.tags}
        found = {key.removeprefix("version."): value for key, value in tags.items() if key.startswith("version.")}
        named = {"python": "Python", "package": "mammo_lightning", "mlflow.source.git.commit": "commit", "lock": "lock"}
        return {name: tags[key] for key, name in named.items() if tags.get(key)} | found


def _is_long(value: str) -> bool:
    head, point, tail = value.partition(".")
    return bool(point) and len(tail) > 4 and head.lstrip("-").isdecimal()


def figures(scored: Scored) -> dict[str, str]:
    """What a list of versions shows of each: the headline at the study's level, and what to beware of."""
    found = {
        f"{split}_{name}": scored.metrics.get(f"{split}_{name}") for split in SPLITS for name in ("auc", "tpr", "fpr")
    }
    told = {key: f"{value:.4f}" for key, value in found.items() if value is not None}
    told |= {"kind": str(scored.kind), "level": str(scored.level), "dataset": scored.tags.get("dataset", "")}
    told |= {"synthetic": str(scored.synthetic).lower(), "leaky": str(scored.leaky).lower()}
    told |= {name: scored.tags.get(name, "") for name in ("unverified", "quick_look")}
    return {key: value for key, value in told.items() if value}
