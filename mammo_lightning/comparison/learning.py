"""How each run of a comparison learned: its curves, as the journal has them, as the mean over folds."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from mammo_lightning.comparison.entries import Entry
from mammo_lightning.tracking.journal import RunJournal
from mammo_lightning.types import Kind

CURVES = ("train_loss", "inner_loss", "inner_auc")
_KEY = re.compile(r"epoch/(?P<curve>\w+)/f\d+")


def learning_curves(entries: Sequence[Entry]) -> dict[str, dict[int, list[float]]]:
    """For each curve its mean over folds by the run's number; a run that was not trained by epochs has none."""
    found: dict[str, dict[int, list[float]]] = {}
    for number, entry in enumerate(entries):
        run = _trained(entry)
        series: dict[str, list[list[float]]] = {}
        for key in sorted(run.read_metrics()):
            match = _KEY.fullmatch(key)
            if match and match["curve"] in CURVES:
                series.setdefault(match["curve"], []).append(run.read_series(key))
        for curve, folds in series.items():
            found.setdefault(curve, {})[number] = _mean(folds)
    return {name: found[name] for name in CURVES if name in found}


def _trained(entry: Entry) -> RunJournal:
    """The run that tells how the networks were trained; a final's are those of the trial that was chosen."""
    chosen = entry.run.tags.get("chosen")
    if entry.run.kind is Kind.final and entry.run.study is not None and chosen:
        trial = RunJournal(entry.run.run.folder.parent / f"{entry.run.study.run_id}.{chosen}")
        return trial if trial.begun() else entry.run.run
    return entry.run.run


def _mean(folds: list[list[float]]) -> list[float]:
    """The mean over the folds that came so far; a fold that stopped early stays out of later epochs."""
    longest = max(map(len, folds))
    filled = np.array([[*fold, *[np.nan] * (longest - len(fold))] for fold in folds])
    filled[~np.isfinite(filled)] = np.nan
    told = ~np.isnan(filled).all(axis=0)
    return [float(value) for value in np.nanmean(filled[:, told], axis=0)]
