"""Training images that were never taken: augmented versions of some, or points between two of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mammo_lightning.errors import DataError, SettingsError

Vary = Callable[[NDArray[np.float32]], NDArray[np.float32]]
_CHUNK = 256


def varied(
    images: NDArray[np.float32], rows: NDArray[np.int64], count: int, *, vary: Vary, rng: np.random.Generator
) -> NDArray[np.float32]:
    """`count` augmented versions of the images at `rows`: no image is used once more than another, but for one."""
    rounds = [rng.permutation(rows) for _ in range(-(-count // len(rows)))]
    order = np.concatenate(rounds)[:count]
    made = np.empty((count, *images.shape[1:]), np.float32)
    for start in range(0, count, _CHUNK):
        made[start : start + _CHUNK] = vary(images[order[start : start + _CHUNK]])
    return made


def interpolated(
    strategy: str,
    images: NDArray[np.float32],
    rows: NDArray[np.int64],
    others: NDArray[np.int64],
    count: int,
    *,
    neighbours: int,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Images on the segments between an image of `rows` and one of its nearest neighbours there, pixel by pixel.

    `smote` begins at each image as often as chance has it; `adasyn` the oftener, the more of an image's neighbours
    among all are of the other class (He et al. 2008; one thesis prints the share of the own class, which is a slip).
    ADASYN rounds what it makes of each image, so that it makes about `count`, and none where less than half an image
    falls to each. Distances are Euclidean, of pixels. All that is given is held as float32 two or three times over.

    Args:
        strategy: `smote` or `adasyn`, as imbalanced-learn has them.
        images: All images, N x C x H x W.
        rows: Those of the class that is short.
        others: Training rows of the other class.
        count: How many to make.
        neighbours: How many neighbours count as near.
        rng: Where the seed of the draws comes from.
    """
    if len(rows) <= neighbours:
        cure = f"Set imbalance_neighbours={len(rows) - 1}, or imbalance=oversample."
        raise DataError(
            f"{len(rows)} training images of the class that imbalance={strategy} adds to; with "
            f"imbalance_neighbours={neighbours} it needs {neighbours + 1} or more. "
            + (cure if len(rows) > 1 else "Set imbalance=oversample.")
        )
    from imblearn.over_sampling import ADASYN, SMOTE  # five seconds

    seed, target = int(rng.integers(2**31 - 1)), {1: len(rows) + count}
    if strategy == "smote":  # looks at nothing of the other class, which must only be there
        others = others[:1]
        sampler = SMOTE(sampling_strategy=target, k_neighbors=neighbours, random_state=seed)
    elif strategy == "adasyn":
        sampler = ADASYN(sampling_strategy=target, n_neighbors=neighbours, random_state=seed)
    else:
        raise SettingsError(f"no interpolation {strategy!r}; known: adasyn, smote")
    taken = np.concatenate([rows, others])
    flat = np.ascontiguousarray(images[taken], np.float32).reshape(len(taken), -1)
    sides = np.repeat([1, 0], [len(rows), len(others)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the class becomes the larger one is what was asked for
        try:
            everything, _ = sampler.fit_resample(flat, sides)
        except RuntimeError as error:
            if "neigbours belong to the majority" not in str(error):
                raise
            raise DataError(
                f"none of the {len(rows)} training images of the class that imbalance=adasyn adds to has one of the "
                f"other class among its {neighbours} neighbours. Set imbalance=smote, or more imbalance_neighbours."
            ) from None
        except ValueError as error:
            if "No samples will be generated" not in str(error):
                raise
            everything = flat
    return np.array(everything[len(taken) :], np.float32).reshape(-1, *images.shape[1:])
