"""The Optuna side of a study: slots, what is tried in them, what is kept of a loser, who is best."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from mammo_lightning.errors import SettingsError, TrackingError
from mammo_lightning.evaluation.metrics import measure
from mammo_lightning.evaluation.several import macro_auc
from mammo_lightning.evaluation.statistics import mean_fold_auc
from mammo_lightning.evaluation.thresholds import cross_fitted, decided_on
from mammo_lightning.ledger import Lease, Ledger
from mammo_lightning.retention import MOST_FPR, order
from mammo_lightning.space import Space
from mammo_lightning.tracking.store import public, told
from mammo_lightning.types import Level, Predictions, seed_from

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)

Trial, Known = optuna.Trial, FrozenTrial
TABLE = "predictions"  # of a completed trial, as parquet


@dataclass(frozen=True)
class Goal:
    """What a study maximises, at which level; a pair is a Pareto study of TPR up and FPR down."""

    objective: str
    level: Level
    rule: str

    @property
    def directions(self) -> list[str]:
        """Optuna's directions."""
        return ["maximize", "minimize"] if self.pareto else ["maximize"]

    @property
    def pareto(self) -> bool:
        """Whether there are two objectives."""
        return self.objective == "tpr,fpr"

    def fold(self, predictions: Predictions) -> float:
        """The objective on one scored fold."""
        at = predictions.at(self.level)
        labels, scores = at.labels, at.scores
        match self.objective:
            case "val_macro_auc":
                return macro_auc(predictions)
            case "val_pauc":
                return float(measure(labels, scores, scores >= 0.5)["pauc"][0])
            case "tpr@fpr0.2":
                negative = np.sort(scores[labels == 0])
                highest = negative[int(np.ceil((1 - MOST_FPR) * len(negative))) - 1]
                return float((scores[labels == 1] > highest).mean())
            case _:
                return mean_fold_auc(at)

    def values(
        self,
        folds: list[Predictions],
        pooled: Predictions,
        fitted_on: Predictions | None = None,
        calibrated: Predictions | None = None,
    ) -> list[float]:
        """The objective of a whole trial; with one fold a pair needs other rows for its threshold."""
        if not self.pareto:
            return [float(np.mean([self.fold(part) for part in folds]))]
        judged = decided_on(self.rule, pooled, calibrated)
        decisions, _ = cross_fitted(judged, self.rule, self.level, fitted_on=fitted_on)
        labels = pooled.at(self.level).labels
        return [float(decisions[labels == 1].mean()), float(decisions[labels == 0].mean())]

    def ranked(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Completed trials, the best first: the highest value, or the highest TPR with an FPR of at most 0.2."""
        return sorted(trials, key=lambda trial: (*order(tuple(trial.values)), trial.number))


class Search:
    """The trials of one search, in a storage that outlives the process and may be shared by machines.

    A trial's identity is its slot, 0 ... trials-1, which is also its number. What is tried in a slot depends on the
    study's seed, the slot and the trials known when it is proposed, hence not on interruptions.

    Args:
        storage: Address of the database; None for a search that need not outlive the process.
        name: Names the search in it.
        goal: What is maximised.
        space: What is tried.
        seed: Of the proposals.
        prune: "folds", "epochs" or None.
        ledger: Tells which slots other machines hold; None where nobody else can know of this search.
    """

    def __init__(
        self,
        *,
        storage: str | None,
        name: str,
        goal: Goal,
        space: Space,
        seed: int,
        prune: str | None,
        ledger: Ledger | None = None,
    ) -> None:
        self.name, self.goal, self.space, self.seed, self.ledger = name, goal, space, seed, ledger
        self._held: set[int] = set()
        self.prune = None if goal.pareto else prune
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
        if self.prune == "folds":
            pruner = optuna.pruners.WilcoxonPruner(p_threshold=0.1)
        elif self.prune == "epochs":
            pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=3)
        try:
            with ledger.alone("schema") if ledger else nullcontext():  # the tables cannot be made by two at once
                self._study = optuna.create_study(
                    storage=_storage(storage),
                    study_name=name,
                    directions=goal.directions,
                    pruner=pruner,
                    load_if_exists=True,
                )
        except Exception as error:  # the storage may be any database driver, each with errors of its own
            first = told(str(error).splitlines()[0])
            raise TrackingError(
                f"study storage '{public(storage or 'memory')}' cannot be opened: {first}. "
                "Pass another --storage or --mlruns"
            ) from error

    def key(self, slot: int) -> str:
        """What is held of the ledger while a slot is worked on."""
        return f"{self.name}.t{slot:03d}"

    def next(self, trials: int) -> tuple[optuna.Trial, int] | None:
        """The first slot of `trials` that is neither finished nor held, running, and the attempt it is; None if none.

        A slot that somebody left keeps its parameters; a new one is proposed.
        """
        with self.ledger.alone(f"{self.name}.next") if self.ledger else nullcontext():
            known = self._study.get_trials(deepcopy=False)
            for slot in range(trials):
                if slot < len(known) and (known[slot].state.is_finished() or self._mine(slot)):
                    continue
                lease = self.ledger.take(self.key(slot)) if self.ledger else Lease("", 0)
                if lease is None:
                    if slot == len(known):
                        return None  # taken, and not written down yet: numbers are given in order
                    continue
                self._held.add(slot)
                return self._running(slot, known), lease.attempt
        return None

    def _running(self, slot: int, known: list[FrozenTrial]) -> optuna.Trial:
        if slot == len(known):
            params = self._propose(slot, known)
            template = optuna.create_trial(state=TrialState.WAITING, params=params, distributions=self.space.search)
            self._study.add_trial(template)
            known = self._study.get_trials(deepcopy=False)
        if known[slot].state is TrialState.RUNNING:  # whoever ran it is dead
            self._put(known[slot]._trial_id, TrialState.WAITING)
        self._put(known[slot]._trial_id, TrialState.RUNNING)
        return optuna.Trial(self._study, known[slot]._trial_id)

    def _put(self, trial_id: int, state: TrialState) -> None:
        self._study._storage.set_trial_state_values(trial_id, state)

    def _mine(self, slot: int) -> bool:
        return slot in self._held

    def release(self, trial: optuna.Trial) -> None:
        """Put a trial that was not finished back into its slot, with its parameters."""
        if self._lost(trial.number):
            self._held.discard(trial.number)
            return
        self._put(trial._trial_id, TrialState.WAITING)
        self._give(trial.number)

    def _give(self, slot: int) -> None:
        self._held.discard(slot)
        if self.ledger:
            self.ledger.give(self.key(slot))

    def _lost(self, slot: int) -> bool:
        """Whether another machine took the slot over, because nothing was heard from here for long."""
        return self.ledger is not None and not self.ledger.holds(self.key(slot))

    def _propose(self, slot: int, known: list[FrozenTrial]) -> dict[str, Any]:
        default = self.space.default_params()
        if slot == 0 and default is not None:
            return default
        sampler = optuna.samplers.TPESampler(seed=seed_from(self.seed, slot, "sampler"), n_startup_trials=5)
        rehearsal = optuna.create_study(directions=self.goal.directions, sampler=sampler)
        # those that run beside this one count as bad guesses, so that it looks elsewhere
        rehearsal.add_trials([trial for trial in known if trial.state is not TrialState.WAITING])
        return dict(rehearsal.ask(fixed_distributions=self.space.search).params)

    def finish(
        self, trial: optuna.Trial, values: list[float] | None, *, pruned: bool = False, table: bytes = b""
    ) -> None:
        """Tell how a trial ended: its values, or pruned, or (neither) failed; `table` is kept for other machines."""
        if self._lost(trial.number):
            self._held.discard(trial.number)
            return
        state = TrialState.PRUNED if pruned else (TrialState.COMPLETE if values is not None else TrialState.FAIL)
        if table:
            self._study._storage.set_trial_user_attr(trial._trial_id, TABLE, base64.b64encode(table).decode())
        told = values if state is TrialState.COMPLETE else None
        self._study.tell(trial, told, state=state, skip_if_finished=True)
        self._give(trial.number)

    def hopeless(self, trial: optuna.Trial, value: float, step: int) -> bool:
        """Report a value of a fold or an epoch, and whether the trial should stop here."""
        if self.prune is None or not np.isfinite(value):
            return False
        try:
            if step not in self._study.trials[trial.number].intermediate_values:
                trial.report(value, step)
        except optuna.exceptions.UpdateFinishedTrialError:  # by a machine that took it over
            return True
        return bool(trial.should_prune())

    def table(self, slot: int) -> bytes:
        """What was kept with a finished slot; nothing where it was not."""
        return base64.b64decode(self._study.get_trials(deepcopy=False)[slot].user_attrs.get(TABLE, ""))

    def finished(self) -> dict[int, FrozenTrial]:
        """Trials that have ended, by slot."""
        return {trial.number: trial for trial in self._study.get_trials(deepcopy=False) if trial.state.is_finished()}

    def completed(self) -> list[FrozenTrial]:
        """Trials with a value."""
        return [trial for trial in self.finished().values() if trial.state is TrialState.COMPLETE]

    def ranked(self) -> list[FrozenTrial]:
        """Completed trials, the best first."""
        return self.goal.ranked(self.completed())

    def best(self) -> FrozenTrial | None:
        """The best completed trial."""
        return next(iter(self.ranked()), None)


def _storage(url: str | None) -> optuna.storages.BaseStorage:
    if url is None:
        return optuna.storages.InMemoryStorage()
    local = url.startswith("sqlite")
    options = {} if local else {"pool_pre_ping": True}  # a database may be started again meanwhile
    return optuna.storages.RDBStorage(url, engine_kwargs={**options, "connect_args": {"timeout": 60} if local else {}})


def tune_in_memory(
    goal: Goal, space: Space, trials: int, seed: int, run: Callable[[int, dict[str, Any]], list[float]]
) -> FrozenTrial:
    """A short search that need not survive (the reference): its fits are kept by the caller."""
    search = Search(storage=None, name="reference", goal=goal, space=space, seed=seed, prune=None)
    while (taken := search.next(trials)) is not None:
        trial, _ = taken
        search.finish(trial, run(trial.number, space.settings(trial.params)))
    best = search.best()
    if best is None:
        raise SettingsError("the reference has no completed trial; pass --trials 1 or more")
    return best
