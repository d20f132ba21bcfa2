"""What is done about unequal classes, on training rows only: weights, rows taken less or more than once, new images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mammo_lightning.errors import DataError, SettingsError, one_of
from mammo_lightning.imbalance.synthesis import Vary, interpolated, varied

#: those that make images of their own
MAKING = ("augmented", "smote", "adasyn")
NAMES = ("none", "weights", "undersample", "oversample", *MAKING)
DEFAULTS: dict[str, Any] = {"imbalance": "none", "imbalance_ratio": 1.0, "imbalance_neighbours": 5}
MOST = 11  # times as many rows as there are: a ratio of 10 adds ten positives to every negative


@dataclass(frozen=True)
class Balanced:
    """What a fit trains on after its classes were balanced."""

    #: positions into the images; from `len(images)` on they are those of `made`
    rows: NDArray[np.int64]
    #: what the negative and the positive class weigh in the loss
    weights: tuple[float, float]
    #: images that this fit alone knows
    made: NDArray[np.float32]
    #: of all images, then of `made`
    labels: NDArray[np.float32]
    targets: NDArray[np.float32]


def balance(
    images: NDArray[np.float32],
    labels: NDArray[np.float32],
    targets: NDArray[np.float32],
    rows: NDArray[np.int64],
    *,
    settings: Mapping[str, Any],
    rng: np.random.Generator,
    vary: Vary,
) -> Balanced:
    """Balance the training rows, and nothing else: of other rows neither pixel nor label is read.

    `augmented` adds versions of the images of the class that is short, made by `vary`, of each as many as of any
    other; `smote` and `adasyn` add points between neighbouring images (see `interpolated`), within one finer class
    where there are such. An image that is made has the label and target of what it was made from.

    Args:
        images: All prepared images, N x C x H x W.
        labels: 0 or 1 for each of them.
        targets: The label, or the number of a finer class.
        rows: The training rows.
        settings: Values for the keys of `DEFAULTS`; others are ignored.
        rng: Where the draws come from.
        vary: Augments images.
    """
    chosen = {key: settings.get(key, value) for key, value in DEFAULTS.items()}
    strategy, ratio = chosen["imbalance"], float(chosen["imbalance_ratio"])
    if strategy not in MAKING:
        taken, weights = resample(strategy, labels[rows], rng, ratio)
        return Balanced(rows[taken], weights, np.empty((0, *images.shape[1:]), np.float32), labels, targets)
    short, count = _missing(_counts(labels[rows]), ratio, strategy)
    made, fresh = [], []
    for target, share in _shares(targets[rows[labels[rows] == short]], count):
        members = rows[(labels[rows] == short) & (targets[rows] == target)]
        if strategy == "augmented":
            part = varied(images, members, share, vary=vary, rng=rng)
        else:
            others, neighbours = rows[labels[rows] != short], int(chosen["imbalance_neighbours"])
            part = interpolated(strategy, images, members, others, share, neighbours=neighbours, rng=rng)
        made.append(part)
        fresh.append(np.full(len(part), target, np.float32))
    added = np.concatenate([np.empty((0, *images.shape[1:]), np.float32), *made])
    return Balanced(
        np.concatenate([rows, np.arange(len(images), len(images) + len(added))]),
        (1.0, 1.0),
        added,
        np.concatenate([labels, np.full(len(added), short, np.float32)]),
        np.concatenate([targets, *fresh]).astype(np.float32),
    )


def resample(
    strategy: str, labels: ArrayLike, rng: np.random.Generator, ratio: float = 1.0
) -> tuple[NDArray[np.int64], tuple[float, float]]:
    """Which training rows to take, and what each class weighs in the loss.

    Rows are returned as positions into `labels`, so that image, label and group of a row that is taken twice stay
    together. Call it with the labels of the training rows alone, after every split.

    Args:
        strategy: `none`; `weights`: in sum the positives weigh `ratio` times what the negatives do, and all rows
            together what they are (at 1, the usual n / (2 n_c)); `undersample`: the class that is too many is drawn
            down without replacement; `oversample`: all rows are kept, and the class that is short is drawn up with
            replacement.
        labels: 0 or 1 for each training row.
        rng: Where the draws come from.
        ratio: Positives for each negative, afterwards.

    Returns:
        Positions in ascending order, and the weights of the negative and the positive class.
    """
    if strategy not in NAMES or strategy in MAKING:
        raise SettingsError(f"no balance {strategy!r}; {one_of([name for name in NAMES if name not in MAKING])}")
    values = np.asarray(labels)
    every = np.arange(len(values), dtype=np.int64)
    negative, positive = counts = _counts(values)
    if strategy == "none":
        return every, (1.0, 1.0)
    short, missing = _missing(counts, ratio, strategy)
    if strategy == "weights":
        whole = len(values) / (1 + ratio)
        return every, (whole / negative, whole * ratio / positive)
    if strategy == "oversample":
        rows = np.concatenate([every, rng.choice(np.flatnonzero(values == short), missing, replace=True)])
    else:
        kept = round(positive / ratio) if short else round(negative * ratio)
        many = rng.choice(np.flatnonzero(values != short), max(1, kept), replace=False)
        rows = np.concatenate([np.flatnonzero(values == short), many])
    return np.sort(rows).astype(np.int64), (1.0, 1.0)


def _counts(labels: NDArray[Any]) -> tuple[int, int]:
    """Negative and positive rows."""
    negative, positive = int((labels == 0).sum()), int((labels == 1).sum())
    if negative + positive != len(labels):
        raise DataError(
            "labels hold values other than 0 and 1; expected one of them for each row. Map the classes first."
        )
    return negative, positive


def _missing(counts: tuple[int, int], ratio: float, strategy: str) -> tuple[int, int]:
    """The class that is short of the ratio, and how many of it are missing."""
    negative, positive = counts
    if not ratio > 0:
        raise SettingsError(f"imbalance_ratio is {ratio}; it is positives for each negative, above 0 (1 is usual)")
    if not min(counts):
        raise DataError(
            f"training rows are {positive}+/{negative}-; imbalance={strategy} needs both classes. Try imbalance=none."
        )
    short = int(positive < ratio * negative)
    missing = max(0, round(ratio * negative) - positive if short else round(positive / ratio) - negative)
    if strategy not in ("weights", "undersample") and missing > MOST * sum(counts):
        raise DataError(
            f"imbalance_ratio={ratio:g} asks for {missing:,} more rows of {sum(counts):,}; at most {MOST} times as "
            f"many are made. Try a ratio nearer to {positive / negative:.3g}, which is what the rows have."
        )
    return short, missing


def _shares(targets: NDArray[np.float32], count: int) -> list[tuple[float, int]]:
    """How many of `count` each finer class gets, in proportion to its rows; the largest remainders are rounded up."""
    known, sizes = np.unique(targets, return_counts=True)
    exact = count * sizes / sizes.sum()
    shares = np.floor(exact).astype(int)
    shares[np.argsort(shares - exact, kind="stable")[: count - shares.sum()]] += 1
    return [(float(target), int(share)) for target, share in zip(known, shares, strict=True) if share]
