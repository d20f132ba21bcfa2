"""Finished runs in a journal, as a study leaves them, from predictions that are made up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from mammo_lightning import record
from mammo_lightning.evaluation.statistics import mean_fold_auc
from mammo_lightning.recipe import make_recipe
from mammo_lightning.tracking.journal import Journal, RunJournal
from mammo_lightning.types import Kind, Outcome, Predictions

TAGS = {"dataset": "synthetic", "folds": "abc", "leaky": "false", "synthetic": "false", "domain": "mammography"}


def scores_of(table: Predictions, *, noise: float, seed: int) -> Predictions:
    """The same rows as another network might have scored them."""
    rng = np.random.default_rng(seed)
    odds = np.log(table.scores / (1 - table.scores)) + rng.normal(scale=noise, size=len(table))
    return table.with_scores(1 / (1 + np.exp(-odds)))


def study(mlruns: Path, name: str, trials: list[Predictions], **recipe: object) -> RunJournal:
    """A study with completed trials; returns the study's run."""
    journal = Journal(mlruns)
    run = journal.run(f"{name}-000000")
    tags = {**TAGS, "study": name}
    run.begin(kind=Kind.study, name=name, study=name, parent=None, experiment="synthetic", tags=tags)
    run.dataset("synthetic", "d1", "synthetic", split="abc")
    keys = {"name": name, "operating_point": "youden", "mlruns": str(mlruns), **recipe}
    run.write("recipe.json", make_recipe(keys).model_dump_json())
    for slot, table in enumerate(trials):
        trial(journal, run, slot, table)
    run.end(Outcome.completed)
    return run


def trial(journal: Journal, parent: RunJournal, slot: int, table: Predictions, **tags: str) -> RunJournal:
    """A completed trial of a study."""
    run = journal.run(f"{parent.run_id}.t{slot:03d}")
    name = parent.identity["study"]
    run.begin(
        kind=Kind.trial,
        name=f"t{slot:03d}",
        study=name,
        parent=parent.run_id,
        experiment="synthetic",
        tags={**TAGS, "study": name, "classifier": "hyper", "trial": str(slot), **tags},
    )
    record.keep(run, "val", table)
    run.write("settings.json", json.dumps({"learning_rate": 0.001 * (slot + 1)}))
    run.metrics({"val_auc": mean_fold_auc(table), "objective": mean_fold_auc(table), "val_patch/auc": 0.5})
    run.end(Outcome.completed)
    return run
