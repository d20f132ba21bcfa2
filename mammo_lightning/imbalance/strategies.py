"""What is done about unequal classes, on training rows only: class weights, or rows taken less or more than once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mammo_lightning.errors import DataError, SettingsError, one_of

NAMES = ("none", "weights", "undersample", "oversample")


def balance(
    strategy: str, labels: ArrayLike, rng: np.random.Generator
) -> tuple[NDArray[np.int64], tuple[float, float]]:
    """Which training rows to take, and what each class weighs in the loss.

    Rows are returned as positions into `labels`, so that image, label and group of a row that is taken twice stay
    together. Call it with the labels of the training rows alone, after every split.

    Args:
        strategy: One of `NAMES`. `weights` is n / (2 n_c); `undersample` draws the larger class down to the smaller
            without replacement; `oversample` keeps all rows and draws the smaller class up with replacement.
        labels: 0 or 1 for each training row.
        rng: Where the draws come from.

    Returns:
        Positions in ascending order, and the weights of the negative and the positive class.
    """
    if strategy not in NAMES:
        raise SettingsError(f"no balance {strategy!r}; {one_of(NAMES)}")
    values = np.asarray(labels)
    classes = [np.flatnonzero(values == label) for label in (0, 1)]
    counts = [len(rows) for rows in classes]
    if sum(counts) != len(values):
        raise DataError(
            "labels hold values other than 0 and 1; expected one of them for each row. Map the classes first."
        )
    every = np.arange(len(values), dtype=np.int64)
    if strategy == "none":
        return every, (1.0, 1.0)
    if not min(counts):
        raise DataError(
            f"training rows are {counts[1]}+/{counts[0]}-; balancing needs both classes. Try --balance none."
        )
    if strategy == "weights":
        return every, (len(values) / (2 * counts[0]), len(values) / (2 * counts[1]))
    smaller, larger = sorted(classes, key=len)
    if strategy == "undersample":
        rows = np.concatenate([smaller, rng.choice(larger, len(smaller), replace=False)])
    else:
        rows = np.concatenate([every, rng.choice(smaller, len(larger) - len(smaller), replace=True)])
    return np.sort(rows).astype(np.int64), (1.0, 1.0)
