"""The trials of one search: each slot's fits handed to the engine, journaled, and told to Optuna."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mammo_lightning import record
from mammo_lightning.elsewhere import Elsewhere
from mammo_lightning.engine.base import Engine, Failure, Job, Result
from mammo_lightning.errors import SettingsError, TrackingError
from mammo_lightning.final import decide_by, pooled, recalibrated
from mammo_lightning.opening import disk_message
from mammo_lightning.progress import Interrupted, Progress
from mammo_lightning.retention import free
from mammo_lightning.slots import Running, StudyBug
from mammo_lightning.space import Space, run_name
from mammo_lightning.tracking.files import write_whole
from mammo_lightning.tracking.journal import Journal, RunJournal
from mammo_lightning.training import PREDICTIONS, Fit, Task, load_fit
from mammo_lightning.tuning import Goal, Search, Trial
from mammo_lightning.types import Kind, Outcome, Predictions, seed_from

__all__ = ["POLL_SECONDS", "StudyBug", "Trials"]

POLL_SECONDS = 2.0  # between looks at what other machines do


@dataclass
class Trials:
    """Runs the slots of one search on an engine, and goes on where an earlier process stopped."""

    search: Search
    task: Task
    goal: Goal
    space: Space
    journal: Journal
    parent: str
    tags: Mapping[str, str]
    seed: int
    progress: Progress
    engine: Engine
    elsewhere: Elsewhere
    keep: int = 16
    running: dict[int, Running] = field(default_factory=dict)
    freed: set[int] = field(default_factory=set)
    #: slots of a study that was concluded before: a registry or an ensemble may name them
    spared: range = range(0)
    #: whether other machines may need what is found here
    shares: bool = False

    def run(self, trials: int, meanwhile: Callable[[], None] = lambda: None) -> int:
        """Finish all slots, together with whoever else works on them; returns the best one's.

        `meanwhile` is done by this process while the first fits are computed.
        """
        self.progress.update(trials=trials, folds=len(self.task.splits.folds))
        if 0 < (done := self._finished(trials)) < trials:
            self.progress.say(f"going on: {done} of {trials} trials are finished")
        try:
            self._submit(trials)
            meanwhile()
            done = self._finished(trials)
            while done < trials or self.running or self.engine.jobs():
                self.progress.update(done=done, workers=self.engine.workers)
                self._submit(trials)
                if self.progress.stopping:
                    self.engine.stop()
                    if not self.engine.jobs():
                        raise Interrupted
                if not self.running and not self.engine.jobs():
                    time.sleep(POLL_SECONDS)  # other machines hold what is left
                results = self.engine.wait(self._on_epoch)
                for result in results:
                    if self.engine.workers > 1:
                        self._submit(trials)  # first, so that nobody waits while this one is written down
                    self._settle(result)
                if results or not self.engine.jobs():  # asking the storage takes longer than an epoch may
                    done = self._finished(trials)
        except BaseException as error:
            self._leave(error)
            raise
        self._keep_best()
        best = self.search.best()
        if best is None:
            reasons = {self.open(slot).reason for slot in range(trials)}
            raise SettingsError(
                f"none of {trials} trials was completed ({'; '.join(sorted(reasons))}); try a smaller --search or --set"
            )
        return int(best.number)

    def _finished(self, trials: int) -> int:
        return sum(slot < trials for slot in self.search.finished())

    def open(self, slot: int) -> RunJournal:
        """The run of a slot."""
        return self.journal.run(self.search.key(slot))

    def settings(self, slot: int) -> dict[str, Any]:
        """The settings of a finished slot."""
        return self.space.settings(self.search.finished()[slot].params)

    def fits(self, slot: int) -> list[Fit]:
        """The fits of a finished slot with their weights, wherever they were made."""
        self._bring_table(slot)
        return self.elsewhere.fits(self.open(slot), self.settings(slot), self._seeds(slot))

    def predictions(self, slot: int) -> Predictions:
        """The out-of-fold table of a completed slot, wherever it was made."""
        self._bring_table(slot)
        return self.elsewhere.predictions(self.open(slot), self.settings(slot), self._seeds(slot))

    def _bring_table(self, slot: int) -> None:
        path = self.open(slot).artifacts / PREDICTIONS
        if not path.is_file() and (table := self.search.table(slot)):
            write_whole(path, table)

    def _seeds(self, slot: int) -> dict[int, int]:
        return {fold: seed_from(self.seed, slot, fold) for fold in self.task.splits.folds}

    def _submit(self, trials: int) -> None:
        """Fill the engine: folds of running trials first; new trials only for whoever would stand idle."""
        while not self.progress.stopping:
            begun = next((each for each in self.running.values() if each.waiting), None)
            if begun is None and self.engine.room:
                if (taken := self.search.next(trials)) is None:
                    return
                begun = self._begin(*taken)
            if begun is None or not (self.engine.room or self.engine.ahead > 0):
                return
            fold = begun.waiting.pop(0)
            seed = self._seeds(begun.slot)[fold]
            begun.run.tags({f"seed.f{fold}": str(seed)})
            folder = begun.run.folder / "folds" / f"f{fold}"
            asks = self.search.prune == "epochs"
            job = Job(self.task, fold, begun.settings, seed, folder, begun.slot, asks)
            self.engine.submit(job)
            self.progress.fit_started(job.key, f"t{begun.slot:03d} f{fold}", begun.settings["epochs"])

    def begin(self, slot: int, params: Mapping[str, Any], attempt: int) -> RunJournal:
        """Begin the run of a slot, or take it up again."""
        run = self.open(slot)
        run.begin(
            kind=Kind.trial,
            name=run_name(slot, params),
            study=self.tags["study"],
            parent=self.parent,
            experiment=self.task.data.name,
            tags={**self.tags, "trial": str(slot), "attempt": str(attempt)},
        )
        record.record_settings(run, self.space.settings(params))
        return run

    def _begin(self, trial: Trial, attempt: int) -> Running:
        run, settings = self.begin(trial.number, trial.params, attempt), self.space.settings(trial.params)
        self.running[trial.number] = Running(trial, run, settings, list(self.task.splits.folds))
        return self.running[trial.number]

    def _on_epoch(self, job: Job, epoch: int, row: dict[str, float]) -> bool:
        self.progress.epoch(job.key, epoch + 1)
        begun = self.running.get(job.slot)
        if self.progress.stopping or begun is None:
            return False
        if job.asks and self.search.hopeless(begun.trial, row["inner_auc"], epoch):
            why = f"epoch {epoch}: inner AUC {row['inner_auc']:.3f} is below the median of earlier trials"
            self._end(begun, Outcome.pruned, why)
            return False
        return True

    def _settle(self, result: Result) -> None:
        """One fit has ended: its trial goes on, or ends with it."""
        job, failure = result.job, result.failure
        self.progress.fit_ended(job.key, counts=failure is None)
        begun = self.running.get(job.slot)
        if begun is None:  # its trial has ended already
            free(self.open(job.slot))
            return
        if failure is None:
            fit = load_fit(job.folder)
            assert fit is not None
            begun.done[job.fold] = fit
            record.record_curves(begun.run, job.fold, fit.curve)
            self._tell(begun)
        elif failure.reason == "cancelled":
            begun.waiting.insert(0, job.fold)  # stopped from outside: it is begun again
        else:
            self._fail(begun, failure)

    def _fail(self, begun: Running, failure: Failure) -> None:
        if failure.error is not None:
            raise failure.error
        if failure.reason == "disk":
            raise TrackingError(disk_message(failure.detail))
        if failure.is_bug:  # the slot stays open for when it is mended
            raise StudyBug(f"{failure.reason}\n{failure.detail}")
        self._end(begun, Outcome.failed, failure.reason)
        self.progress.say(
            f"t{begun.slot:03d} failed: {failure.reason} ({failure.detail.splitlines()[0]})"
            if failure.detail
            else f"t{begun.slot:03d} failed: {failure.reason}"
        )

    def _tell(self, begun: Running) -> None:
        """Tell the pruner of folds in their order, and record the trial after the last."""
        folds = self.task.splits.folds
        while begun.told < len(folds) and folds[begun.told] in begun.done:
            position, fit = begun.told, begun.done[folds[begun.told]]
            value = self.goal.fold(fit.predictions)
            name = "fold/val_auc" if self.goal.objective == "val_auc" else "fold/objective"
            begun.run.metrics({name: value}, step=folds[position])
            begun.told += 1
            last = begun.told == len(folds)
            if self.search.prune == "folds" and self.search.hopeless(begun.trial, value, position) and not last:
                why = f"after {begun.told} folds: worse than the best trial on the same folds"
                self._end(begun, Outcome.pruned, why)
                return
        if begun.told == len(folds):
            self._complete(begun)

    def tell_figures(
        self, run: RunJournal, slot: int, settings: dict[str, Any], predictions: Predictions, inner: Predictions | None
    ) -> Predictions | None:
        """Everything that follows from the out-of-fold table of a trial; returns it recalibrated, if need be."""
        calibrated = recalibrated(settings, predictions, inner)
        record.record(
            run,
            predictions,
            split="val",
            level=self.goal.level,
            data=self.task.data,
            decide=decide_by(self.goal.rule, inner, calibrated),
            title=f"{self.tags['study']} t{slot:03d}, out of fold",
            calibrated=calibrated,
        )
        if inner is not None:
            run.write("inner.parquet", inner.frame.to_parquet(index=False))
        return calibrated

    def _complete(self, begun: Running) -> None:
        run, fits = begun.run, [begun.done[fold] for fold in self.task.splits.folds]
        predictions = pooled([each.predictions for each in fits])
        inner = fits[0].inner if len(fits) == 1 else None
        calibrated = self.tell_figures(run, begun.slot, begun.settings, predictions, inner)
        run.metrics({"seconds": sum(each.seconds for each in fits)})
        values = self.goal.values([each.predictions for each in fits], predictions, inner, calibrated)
        if not np.isfinite(values).all():
            self._end(begun, Outcome.failed, "nan")
            return
        run.metrics(dict(zip(("objective", "objective_fpr"), values, strict=False)))
        for fold, each in zip(self.task.splits.folds, fits, strict=True):
            record.copy_model(run, each.folder, f"f{fold}")
        self._end(begun, Outcome.completed, values=values)
        shown = " / ".join(f"{value:.3f}" for value in values)
        self.progress.say(f"{run.identity['name']}: {self.goal.objective} {shown}")
        self._keep_best()

    def _end(self, begun: Running, outcome: Outcome, reason: str = "", values: list[float] | None = None) -> None:
        """A trial has ended: its other fits are not needed any more."""
        self.running.pop(begun.slot)
        for job in self.engine.jobs():
            if job.slot == begun.slot:
                self.engine.cancel(job)
        begun.run.end(outcome, reason)
        table = begun.run.artifacts / PREDICTIONS
        kept = table.read_bytes() if values is not None and self.shares else b""
        self.search.finish(begun.trial, values, pruned=outcome is Outcome.pruned, table=kept)
        if outcome is Outcome.pruned:
            self.progress.say(f"t{begun.slot:03d} pruned: {reason}")
        if outcome is not Outcome.completed:
            free(begun.run)
        best = self.search.best()
        if best is not None:
            shown = " / ".join(f"{value:.3f}" for value in best.values)
            self.progress.update(best=f"{shown} (t{best.number:03d})")

    def _keep_best(self) -> None:
        """Models of trials that cannot be among the best any more are not kept."""
        for trial in self.search.ranked()[self.keep :]:
            if trial.number in self.spared or trial.number in self.freed:
                continue
            if self.open(trial.number).begun() is not None:
                free(self.open(trial.number))
                self.freed.add(trial.number)

    def _leave(self, error: BaseException) -> None:
        """Whatever stopped the study: what runs says how it ended, and its slot is free for the next process."""
        stopped = isinstance(error, Interrupted | KeyboardInterrupt | SystemExit)  # Lightning turns Ctrl-C into an exit
        for begun in self.running.values():
            with suppress(Exception):  # a full disk or a lost storage: the next process finds out by itself
                if stopped:
                    begun.run.end(Outcome.interrupted, "signal")
                else:
                    begun.run.end(Outcome.failed, f"exception: {record.first_line(error)}")
                self.search.release(begun.trial)
        self.running.clear()
