"""The reference every study has: `linear`, tuned as often on the same folds. A network must be seen to beat it."""

from __future__ import annotations

from typing import Any

from mammo_lightning import record
from mammo_lightning.classifiers import weights
from mammo_lightning.final import pooled
from mammo_lightning.progress import Interrupted, Progress
from mammo_lightning.registry import CLASSIFIERS
from mammo_lightning.space import make_space
from mammo_lightning.tracking.journal import RunJournal
from mammo_lightning.training import Fit, Task, fit
from mammo_lightning.trials import decide_by
from mammo_lightning.tuning import Goal, tune_in_memory
from mammo_lightning.types import Outcome, Predictions, seed_from

REFERENCE = "linear"


def tune_reference(
    run: RunJournal, task: Task, goal: Goal, *, chosen: dict[str, Any], trials: int, seed: int, progress: Progress
) -> list[Fit]:
    """The fits of the best reference, one a fold; kept fits are only read."""
    space = make_space(CLASSIFIERS.get(REFERENCE), chosen=chosen)
    tried: dict[int, list[Fit]] = {}

    def attempt(slot: int, settings: dict[str, Any]) -> list[float]:
        folder = run.folder / "folds" / f"t{slot:03d}"
        tried[slot] = []
        for fold in task.splits.folds:
            if progress.stopping:
                raise Interrupted
            seeded = seed_from(seed, "reference", slot, fold)
            tried[slot].append(fit(task, fold=fold, settings=settings, seed=seeded, folder=folder / f"f{fold}"))
        parts = [each.predictions for each in tried[slot]]
        return goal.values(parts, pooled(parts))

    best = tune_in_memory(goal, space, trials, seed_from(seed, "reference"), attempt)
    return tried[best.number]


def record_reference(run: RunJournal, task: Task, goal: Goal, fits: list[Fit]) -> Predictions:
    """Journal the reference as any other run."""
    predictions = pooled([each.predictions for each in fits])
    record.record_settings(run, weights.load(fits[0].folder).settings)
    record.record(
        run,
        predictions,
        split="val",
        level=goal.level,
        data=task.data,
        decide=decide_by(goal.rule, fits[0].inner if len(fits) == 1 else None),
        title=f"{run.identity['study']} reference, out of fold",
    )
    for fold, each in enumerate(fits):
        run.metrics({"fold/val_auc": goal.fold(each.predictions)}, step=fold)
        record.copy_model(run, each.folder, f"f{fold}")
    run.end(Outcome.completed)
    return predictions
