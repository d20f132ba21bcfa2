"""Predictions with a known AUC: Gaussian scores that patches of one patient share a part of."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from mammo_lightning.types import Predictions


def clustered(
    seed: int,
    *,
    truth: float = 0.8,
    positives: int = 50,
    negatives: int = 150,
    patches: int = 4,
    folds: int = 5,
    shared: np.ndarray | None = None,
    split: str = "val",
) -> Predictions:
    rng = np.random.default_rng(seed)
    count = positives + negatives
    patient = np.repeat(np.arange(count), patches)
    label = (patient < positives).astype(int)
    fold = np.r_[np.arange(positives) % folds, np.arange(negatives) % folds][patient]
    noise = np.sqrt(0.5) * (rng.standard_normal(count)[patient] + rng.standard_normal(len(patient)))
    if shared is not None:
        noise = np.sqrt(0.7) * shared + np.sqrt(0.3) * noise
    score = 1 / (1 + np.exp(1 - norm.ppf(truth) * np.sqrt(2) * label - noise))
    names = [f"p{number:04d}" for number in patient]
    return Predictions(
        pd.DataFrame(
            {
                "image": [f"i{row:05d}" for row in range(len(patient))],
                "patient": names,
                "group": names,
                "view": np.where(np.arange(len(patient)) % 2, "left", "right"),
                "fold": fold,
                "split": split,
                "label": label,
                "p_benign": 1 - score,
                "p_malignant": score,
            }
        )
    )


@pytest.fixture
def predictions_of() -> Callable[..., Predictions]:
    return clustered
