"""Nominal 95 % intervals hold the truth: the AUC of a scorer that is frozen, on patients nobody drew before."""

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import uniform_filter
from sklearn.metrics import roc_auc_score

from mammo_lightning.datamodules.synthetic import Synthetic, fresh
from mammo_lightning.evaluation.statistics import intervals
from mammo_lightning.types import Predictions


def score(images):
    """How far the brightest small blob stands out of its surroundings, from 0 to 1: written down, never fitted."""
    grey = images.astype(np.float32)
    blobs = uniform_filter(grey, (0, 3, 3)) - uniform_filter(grey, (0, 11, 11))
    return 1 - np.exp(-blobs.max((1, 2)) / (8 * blobs.std((1, 2))))


def true_auc(patients):
    scores, labels = zip(*((score(images), labels) for images, labels, _ in fresh(2**20, patients)), strict=True)
    return roc_auc_score(np.concatenate(labels), np.concatenate(scores))


def sample(seed, patients):
    data = Synthetic(seed=seed, patients=patients)
    frame = data.index()
    scores = score(np.stack([data.read(row) for _, row in frame.iterrows()])).astype(float)
    core = frame[["image", "patient", "view", "label"]]
    return Predictions(
        pd.DataFrame({**core, "group": frame["patient"], "fold": 0, "split": "val", "p_normal": 1 - scores,
                      "p_lesion": scores})
    )  # fmt: skip


def coverage(truth, seeds, patients, replicates):
    held = []
    for seed in range(seeds):
        predictions = sample(seed, patients)
        auc = intervals(predictions, predictions.scores >= 0.5, replicates, seed)["auc"]
        held.append(auc.lo <= truth <= auc.hi)
    return np.mean(held)


def test_most_intervals_hold_the_truth():
    truth = true_auc(2000)
    assert 0.55 < truth < 0.9
    assert coverage(truth, seeds=40, patients=64, replicates=200) >= 0.8


@pytest.mark.proof
def test_95_percent_intervals_hold_the_truth_in_92_to_98_percent():
    held = coverage(true_auc(20_000), seeds=200, patients=240, replicates=1000)
    print(f"coverage {held:.3f}")
    assert 0.92 <= held <= 0.98
