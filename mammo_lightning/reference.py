"""The reference every study has: `linear`, tuned as often on the same folds. A network must be seen to beat it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mammo_lightning import record
from mammo_lightning.classifiers import weights
from mammo_lightning.datamodules.base import HOLD_OUT
from mammo_lightning.final import decide_by, pooled, recalibrated
from mammo_lightning.progress import Interrupted, Progress
from mammo_lightning.registry import CLASSIFIERS
from mammo_lightning.space import DATA, make_space
from mammo_lightning.tracking.journal import RunJournal
from mammo_lightning.training import Fit, Task, fit
from mammo_lightning.tuning import Goal, tune_in_memory
from mammo_lightning.types import Predictions, digest, seed_from

REFERENCE = "linear"


@dataclass(frozen=True)
class Reference:
    """The fits of the best reference, one a fold, and a name for what was chosen."""

    task: Task
    fits: list[Fit]
    chosen: str


@dataclass(frozen=True)
class ReferenceSearch:
    """Tunes the reference with the same number of trials, goal and folds as the study; kept fits are only read."""

    task: Task
    goal: Goal
    folder: Path
    settings: Mapping[str, Any]
    trials: int
    seed: int
    progress: Progress

    def run(self, *, nested: bool, inner: bool) -> Reference:
        """The best over all folds; nested, the best of an own search inside each outer fold."""
        if not nested:
            slot, fits = self._tune(self.task, self.folder, inner=inner)
            return Reference(self.task, fits, f"t{slot:03d}")
        fits, slots = [], []
        for outer in self.task.splits.folds:
            inside = Task(self.task.data, self.task.splits.narrowed(outer, HOLD_OUT), REFERENCE)
            folder = self.folder / f"o{outer}"
            slot, found = self._tune(inside, folder, inner=True)
            settings = {**weights.load(found[0].folder).settings, "stopping": "last"}
            seed = seed_from(self.seed, "reference", outer)
            scored = folder / "outer" / f"t{slot:03d}"
            fits.append(fit(self.task, fold=outer, settings=settings, seed=seed, folder=scored))
            slots.append(slot)
        return Reference(self.task, fits, digest(slots)[:6])

    def _tune(self, task: Task, folder: Path, *, inner: bool) -> tuple[int, list[Fit]]:
        chosen = {name: value for name, value in self.settings.items() if name in DATA}
        space = make_space(CLASSIFIERS.get(REFERENCE), chosen={**chosen, "stopping": "inner" if inner else "last"})
        tried: dict[int, list[Fit]] = {}

        def attempt(slot: int, settings: dict[str, Any]) -> list[float]:
            tried[slot] = []
            for fold in task.splits.folds:
                if self.progress.stopping:
                    raise Interrupted
                seed = seed_from(self.seed, "reference", slot, fold)
                where = folder / f"t{slot:03d}" / f"f{fold}"
                tried[slot].append(fit(task, fold=fold, settings=settings, seed=seed, folder=where))
            parts = [each.predictions for each in tried[slot]]
            together, watched = pooled(parts), tried[slot][0].inner if len(parts) == 1 else None
            return self.goal.values(parts, together, watched, recalibrated(settings, together, watched))

        best = tune_in_memory(self.goal, space, self.trials, seed_from(self.seed, "reference"), attempt)
        return best.number, tried[best.number]


def record_reference(run: RunJournal, reference: Reference, goal: Goal) -> Predictions:
    """Journal the reference as any other run."""
    fits = reference.fits
    predictions, settings = pooled([each.predictions for each in fits]), weights.load(fits[0].folder).settings
    inner = fits[0].inner if len(fits) == 1 else None
    calibrated = recalibrated(settings, predictions, inner)
    record.record_settings(run, settings)
    record.record(
        run,
        predictions,
        split="val",
        level=goal.level,
        data=reference.task.data,
        decide=decide_by(goal.rule, inner, calibrated),
        title=f"{run.identity['study']} reference, out of fold",
        calibrated=calibrated,
    )
    for fold, each in enumerate(fits):
        run.metrics({"fold/val_auc": goal.fold(each.predictions)}, step=fold)
        record.copy_model(run, each.folder, f"f{fold}")
    return predictions
