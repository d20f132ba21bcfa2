"""The trials of one search: each slot trained over its folds, journaled, and told to Optuna."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mammo_lightning import record
from mammo_lightning.errors import SettingsError
from mammo_lightning.evaluation.thresholds import cross_fitted
from mammo_lightning.final import pooled
from mammo_lightning.progress import Interrupted, Progress
from mammo_lightning.space import Space
from mammo_lightning.tracking.journal import Journal, RunJournal
from mammo_lightning.training import Diverged, Fit, Task, fit, load_fit
from mammo_lightning.tuning import Goal, Search, Trial
from mammo_lightning.types import Kind, Level, Outcome, Predictions, seed_from


class Hopeless(Exception):
    """A trial that was pruned."""


@dataclass
class Trials:
    """Runs the slots of one search one after another, and goes on where an earlier process stopped."""

    search: Search
    task: Task
    goal: Goal
    space: Space
    journal: Journal
    parent: RunJournal
    prefix: str
    tags: Mapping[str, str]
    seed: int
    progress: Progress

    def run(self, trials: int) -> int:
        """Finish all slots; returns the best one's."""
        self.progress.update(trials=trials, folds=len(self.task.splits.folds))
        done = self.search.finished()
        for slot in range(trials):
            if slot not in done:
                self._run_slot(slot)
            self._tell_best()
        best = self.search.best()
        if best is None:
            reasons = {self.open(slot).reason for slot in range(trials)}
            raise SettingsError(
                f"none of {trials} trials was completed ({'; '.join(sorted(reasons))}); try a smaller --search or --set"
            )
        return int(best.number)

    def open(self, slot: int) -> RunJournal:
        """The run of a slot."""
        return self.journal.run(f"{self.prefix}.t{slot:03d}")

    def settings(self, slot: int) -> dict[str, Any]:
        """The settings of a finished slot."""
        return self.space.settings(self.search.finished()[slot].params)

    def fits(self, slot: int) -> list[Fit]:
        """The finished fits of a slot."""
        folders = [self.open(slot).folder / "folds" / f"f{fold}" for fold in self.task.splits.folds]
        return [kept for folder in folders if (kept := load_fit(folder)) is not None]

    def _run_slot(self, slot: int) -> None:
        trial = self.search.take(slot)
        run, settings = self.open(slot), self.space.settings(trial.params)
        self.progress.update(trial=slot, fold=0, epoch=0, epochs=settings["epochs"])
        run.begin(
            kind=Kind.trial,
            name=run_name(slot, trial.params),
            study=self.tags["study"],
            parent=self.parent.run_id,
            experiment=self.task.data.name,
            tags={**self.tags, "trial": str(slot)},
        )
        record.record_settings(run, settings)
        try:
            fits = self._fit_folds(trial, run, settings, slot)
            values = self._record(run, slot, fits)
        except Hopeless as pruned:
            run.end(Outcome.pruned, str(pruned))
            self.search.finish(trial, None, pruned=True)
            self.progress.say(f"t{slot:03d} pruned: {pruned}")
        except (Diverged, MemoryError, torch.OutOfMemoryError) as error:
            reason = "nan" if isinstance(error, Diverged) else "oom"
            run.end(Outcome.failed, reason)
            self.search.finish(trial, None)
            self.progress.say(f"t{slot:03d} failed: {reason} ({record.first_line(error)})")
        except (Interrupted, KeyboardInterrupt, SystemExit):  # Lightning turns Ctrl-C into an exit
            run.end(Outcome.interrupted, "signal")
            self.search.release(trial._trial_id)
            raise
        except Exception as error:
            # a bug, or bad input seen late: the slot stays open for when it is mended
            run.end(Outcome.failed, f"exception: {record.first_line(error)}")
            self.search.release(trial._trial_id)
            raise
        else:
            run.end(Outcome.completed)
            self.search.finish(trial, values)
            shown = " / ".join(f"{value:.3f}" for value in values)
            self.progress.say(f"{run.identity['name']}: {self.goal.objective} {shown}")

    def _fit_folds(self, trial: Trial, run: RunJournal, settings: dict[str, Any], slot: int) -> list[Fit]:
        fits: list[Fit] = []

        def on_epoch(epoch: int, row: dict[str, float]) -> None:
            self.progress.update(epoch=epoch + 1)
            if self.progress.stopping:
                raise Interrupted
            if self.search.prune == "epochs" and self.search.hopeless(trial, row["inner_auc"], epoch):
                raise Hopeless(f"epoch {epoch}: inner AUC {row['inner_auc']:.3f} is below the median of earlier trials")

        for position, fold in enumerate(self.task.splits.folds):
            self.progress.update(fold=position, epoch=0)
            folder = run.folder / "folds" / f"f{fold}"
            fresh = load_fit(folder) is None
            self.progress.fit_started()
            seed = seed_from(self.seed, slot, fold)
            run.tags({f"seed.f{fold}": str(seed)})
            fits.append(fit(self.task, fold=fold, settings=settings, seed=seed, folder=folder, on_epoch=on_epoch))
            if fresh:
                self.progress.fit_ended()
            record.record_curves(run, fold, fits[-1].curve)
            record.copy_model(run, folder, f"f{fold}")
            value = self.goal.fold(fits[-1].predictions)
            run.metrics({"fold/val_auc" if self.goal.objective == "val_auc" else "fold/objective": value}, step=fold)
            if self.progress.stopping:
                raise Interrupted
            last = position == len(self.task.splits.folds) - 1
            if self.search.prune == "folds" and self.search.hopeless(trial, value, position) and not last:
                raise Hopeless(f"after {position + 1} folds: worse than the best trial on the same folds")
        return fits

    def _record(self, run: RunJournal, slot: int, fits: list[Fit]) -> list[float]:
        predictions = pooled([each.predictions for each in fits])
        record.record(
            run,
            predictions,
            split="val",
            level=self.goal.level,
            data=self.task.data,
            decide=decide_by(self.goal.rule, fits[0].inner if len(fits) == 1 else None),
            title=f"{self.tags['study']} t{slot:03d}, out of fold",
        )
        run.metrics({"seconds": sum(each.seconds for each in fits)})
        values = self.goal.values([each.predictions for each in fits], predictions, fits[0].inner)
        if not np.isfinite(values).all():
            raise Diverged("the objective is not a number")
        return values

    def _tell_best(self) -> None:
        best = self.search.best()
        if best is not None:
            shown = " / ".join(f"{value:.3f}" for value in best.values)
            self.progress.update(best=f"{shown} (t{best.number:03d})")


def decide_by(rule: str, fitted_on: Predictions | None = None) -> record.Decide:
    """Decisions with thresholds from the other folds; with one fold, from the inner slice it was stopped by."""

    def decide(predictions: Predictions, level: Level) -> tuple[Any, float]:
        decisions, points = cross_fitted(predictions, rule, level, fitted_on=fitted_on)
        return decisions, float(np.mean([point.threshold for point in points.values()]))

    return decide


def run_name(slot: int, params: Mapping[str, Any]) -> str:
    """At most 25 characters, what distinguishes it from its siblings: `t011 de3 i20 l1e-3`."""

    def short(value: Any) -> str:
        if isinstance(value, float) and 0 < abs(value) < 0.01:
            return f"{value:.0e}".replace("e-0", "e-")
        return f"{value:.2g}" if isinstance(value, float) else str(value)[:4]

    def letters(name: str) -> str:
        others = [other for other in params if other != name]
        return next(name[:n] for n in range(1, len(name) + 1) if not any(each.startswith(name[:n]) for each in others))

    words = [f"t{slot:03d}", *(f"{letters(name)}{short(value)}" for name, value in params.items())]
    while len(" ".join(words)) > 25:
        words.pop()
    return " ".join(words) if params else f"{words[0]} defaults"
