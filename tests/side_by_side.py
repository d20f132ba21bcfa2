"""Finished runs with planted predictions, to be compared: no study trained them."""

from pathlib import Path

import numpy as np
import pandas as pd

from mammo_lightning.runs import Runs, Scored
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.types import Predictions

DENSITIES = ("a", "b", "c")


def table(
    *, skill: float, seed: int = 0, patients: int = 90, folds: int = 3, shuffle: int | None = None
) -> Predictions:
    """Two patches a patient; how hard a patch is stays the same for all skills, so runs are alike row by row."""
    rng = np.random.default_rng(5)
    patient = np.repeat(np.arange(patients), 2)
    label = (patient % 3 == 0).astype(int)
    hard = rng.normal(size=len(patient)) + 0.4 * rng.normal(size=patients)[patient]
    own = np.random.default_rng(seed).normal(size=len(patient))
    score = 1 / (1 + np.exp(-(skill * (2 * label - 1) + 0.8 * hard + 0.4 * own)))
    if shuffle is not None:  # patients, with what they are, in another order than their scores
        label = np.repeat(np.random.default_rng(shuffle).permutation(label[::2]), 2)
    names = [f"p{number:03d}" for number in patient]
    columns = {
        "image": [f"{name}/{index}" for index, name in enumerate(names)],
        "patient": names,
        "group": names,
        "view": "",
        "fold": (patient // 3) % folds,
        "split": "val",
        "label": label,
        "p_benign": 1 - score,
        "p_malignant": score,
        "density": [DENSITIES[number % 3] for number in (patient // 3)],
    }
    return Predictions(pd.DataFrame(columns))


def finished(
    mlruns: Path,
    name: str,
    predictions: Predictions | None,
    *,
    kind: str = "trial",
    params: dict | None = None,
    test: Predictions | None = None,
    **tags: str,
) -> Scored:
    """A completed run that predicted this."""
    journal = Journal(mlruns)
    run = journal.run(f"{name.replace('<', '_')}-000000")
    said = {"dataset": "planted", "level": "patch", "operating_point": "youden", "classifier": "hyper", **tags}
    run.begin(kind=kind, name=name, study="", parent=None, experiment="planted", tags=said)
    run.params(params or {"depth": 1})
    for fold in range(2):
        run.series(f"epoch/train_loss/f{fold}", [1.0, 0.5, 0.25 + fold])
    for split, each in (("val", predictions), ("test", test)):
        if each is not None:
            suffix = "" if split == "val" else f"_{split}"
            run.write(f"predictions{suffix}.parquet", each.frame.to_parquet(index=False))
            run.metrics({f"{split}_patch/auc": 0.5, f"{split}_patient/auc": 0.5, f"{split}_threshold": 0.5})
    run.end("completed")
    return Runs(mlruns).get(run.run_id)


def unfolded(predictions: Predictions) -> Predictions:
    """The same rows as rows of a test split: no folds."""
    return Predictions(predictions.frame.assign(split="test", fold=-1))


def changed(predictions: Predictions, **columns: object) -> Predictions:
    """The same rows with other columns."""
    return Predictions(predictions.frame.assign(**columns))
