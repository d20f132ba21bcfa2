"""Trials that a machine had finished, but not published, when it went away: the one that leads tells of them."""

from __future__ import annotations

import time

from mammo_lightning.ledger import Ledger
from mammo_lightning.progress import Interrupted, Progress
from mammo_lightning.tracking.fetch import Fetch
from mammo_lightning.trials import Trials
from mammo_lightning.tuning import Known
from mammo_lightning.types import Outcome

PATIENCE_SECONDS = 60.0  # with machines that have still to publish
GONE = "on a machine that is gone"


def adopt(trials: Trials, ledger: Ledger, fetch: Fetch, progress: Progress) -> list[int]:
    """Tell of every finished slot of which the tracking server, if it answers, does not know how it ended."""
    elsewhere = {slot: each for slot, each in trials.search.finished().items() if trials.open(slot).begun() is None}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while elsewhere:
        states = {slot: fetch.state(trials.search.key(slot)) for slot in elsewhere}
        elsewhere = {slot: each for slot, each in elsewhere.items() if states[slot] in ("", "RUNNING")}
        if time.monotonic() > deadline:
            break
        if progress.stopping:
            raise Interrupted
        time.sleep(1.0 if elsewhere else 0.0)
    adopted = []
    for slot, trial in sorted(elsewhere.items()):
        lease = ledger.outlast(trials.search.key(slot), lambda: progress.stopping)
        if progress.stopping:
            raise Interrupted
        if lease is None:
            continue  # somebody lives who may still tell
        _tell(trials, trial, max(lease.attempt, 1))
        ledger.give(lease.key)
        adopted.append(slot)
        progress.say(f"t{slot:03d} was finished {GONE}: told from what the storage kept of it")
    return adopted


def _tell(trials: Trials, trial: Known, attempt: int) -> None:
    run = trials.begin(trial.number, trial.params, attempt)
    if trial.values is None:
        run.end(Outcome.pruned if trial.state.name == "PRUNED" else Outcome.failed, GONE)
        return
    predictions = trials.predictions(trial.number)
    trials.tell_figures(run, trial.number, trials.settings(trial.number), predictions, None)
    name = "fold/val_auc" if trials.goal.objective == "val_auc" else "fold/objective"
    for fold in trials.task.splits.folds:
        run.metrics({name: trials.goal.fold(predictions.where(predictions.folds == fold))}, step=fold)
    run.metrics(dict(zip(("objective", "objective_fpr"), trial.values, strict=False)))
    run.end(Outcome.completed)
