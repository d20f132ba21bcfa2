"""Fits and predictions of trials that another machine made, or whose weights were freed: fetched, or made again."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mammo_lightning.final import pooled
from mammo_lightning.progress import Interrupted, Progress
from mammo_lightning.tracking.fetch import Fetch
from mammo_lightning.tracking.journal import RunJournal
from mammo_lightning.training import DONE, INNER, PREDICTIONS, Fit, Task, fit, load_fit
from mammo_lightning.types import Predictions

PATIENCE_SECONDS = 60.0  # with what other machines have still to publish, in all
WEIGHTS = ("model.safetensors", "config.json")


@dataclass
class Elsewhere:
    """Looks here first, then in MLflow; what is in neither is trained again from its seed, which gives the same."""

    task: Task
    fetch: Fetch
    progress: Progress
    _deadline: float = field(default=0.0)

    def predictions(self, run: RunJournal, settings: Mapping[str, Any], seeds: Mapping[int, int]) -> Predictions:
        """The out-of-fold table of a trial."""
        path = run.artifacts / PREDICTIONS
        if not path.is_file() and not self._bring(run, PREDICTIONS, path):
            return pooled([each.predictions for each in self.fits(run, settings, seeds)])
        return Predictions.read(path)

    def fits(self, run: RunJournal, settings: Mapping[str, Any], seeds: Mapping[int, int]) -> list[Fit]:
        """The fits of a trial, one a fold, with their weights.

        Args:
            run: Of the trial.
            settings: Of the trial.
            seeds: One for each fold.
        """
        return [self._fit(run, settings, fold, seed) for fold, seed in seeds.items()]

    def _fit(self, run: RunJournal, settings: Mapping[str, Any], fold: int, seed: int) -> Fit:
        folder = run.folder / "folds" / f"f{fold}"
        kept = load_fit(folder)
        if kept is not None and all((folder / name).is_file() for name in WEIGHTS):
            return kept
        if all(self._bring(run, f"models/f{fold}/{name}", folder / name) for name in WEIGHTS):
            table = run.artifacts / PREDICTIONS
            if kept is not None:
                return kept
            if table.is_file() or self._bring(run, PREDICTIONS, table):
                return self._rebuilt(run, folder, fold)
        self.progress.say(f"{run.run_id} fold {fold} is not at hand: training it again from its seed")
        (folder / DONE).unlink(missing_ok=True)
        return fit(self.task, fold=fold, settings=settings, seed=seed, folder=folder, on_epoch=self._on_epoch)

    def _rebuilt(self, run: RunJournal, folder: Path, fold: int) -> Fit:
        """A fit out of what a trial publishes."""
        frame = Predictions.read(run.artifacts / PREDICTIONS).frame
        Predictions(frame[frame["fold"] == fold].reset_index(drop=True)).write(folder / PREDICTIONS)
        self._bring(run, INNER, folder / INNER, patient=False)  # only there where a fit was stopped by one
        (folder / "curve.csv").write_text("epoch\n0\n")
        (folder / DONE).write_text(json.dumps({"seconds": 0.0, "asked": None}))
        made = load_fit(folder)
        assert made is not None
        return made

    def _bring(self, run: RunJournal, name: str, target: Path, *, patient: bool = True) -> bool:
        """Fetch an artifact, waiting a little for the machine that has it to publish it."""
        self._deadline = self._deadline or time.monotonic() + PATIENCE_SECONDS
        local = run.begun() is not None  # published from here, or nowhere
        while not self.fetch(run.run_id, name, target):
            if local or not patient or time.monotonic() > self._deadline:
                return False
            if self.progress.stopping:
                raise Interrupted
            time.sleep(1.0)
        return True

    def _on_epoch(self, epoch: int, row: dict[str, float]) -> None:
        if self.progress.stopping:
            raise Interrupted
