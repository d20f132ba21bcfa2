"""Batches for one fit: balanced and augmented on the training rows only, drawn from arrays in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from mammo_lightning.types import seed_from

Batch = tuple[Tensor, Tensor]


class ArrayDataset(Dataset[Batch]):
    """Rows of one array, fetched a batch at a time: no copy of them, no worker processes, no collation.

    Args:
        images: N x C x H x W.
        labels: Of the images, then of `made`.
        rows: Which of them, in order.
        augment: Applied to each batch.
        made: Further images, which rows from N on stand for.
    """

    def __init__(
        self,
        images: NDArray[np.float32],
        labels: NDArray[np.float32],
        rows: NDArray[np.int64],
        augment: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None,
        made: NDArray[np.float32] | None = None,
    ) -> None:
        self.images, self.labels, self.rows, self.augment = images, labels, rows, augment
        self.made = made if made is not None and len(made) else None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, positions: list[int]) -> Batch:
        """The batch at `positions`, augmented if this is a training set."""
        rows = self.rows[positions]
        images = self.images[rows] if self.made is None else self._taken(rows, self.made)
        if self.augment is not None:
            images = self.augment(images)
        return torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(self.labels[rows])

    def _taken(self, rows: NDArray[np.int64], made: NDArray[np.float32]) -> NDArray[np.float32]:
        beyond = rows >= len(self.images)
        images = np.empty((len(rows), *made.shape[1:]), np.float32)
        images[~beyond], images[beyond] = self.images[rows[~beyond]], made[rows[beyond] - len(self.images)]
        return images


def moments(
    images: NDArray[np.float32], rows: NDArray[np.int64], chunk: int = 256
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of each channel over the pixels of some rows."""
    total, squares = np.zeros(images.shape[1]), np.zeros(images.shape[1])
    for start in range(0, len(rows), chunk):
        part = images[rows[start : start + chunk]].astype(np.float64)
        total += part.sum(axis=(0, 2, 3))
        squares += np.einsum("nchw,nchw->c", part, part)
    count = len(rows) * images.shape[2] * images.shape[3]
    mean = total / count
    return mean.astype(np.float32), np.sqrt(np.maximum(squares / count - mean**2, 0)).astype(np.float32)


class Order(Sampler[int]):
    """All positions in an order that follows from seed and epoch alone, so that training can be taken up anywhere."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed, self.epoch = count, seed, 0

    def __len__(self) -> int:
        return self.count

    def set_epoch(self, epoch: int) -> None:
        """Lightning says before each epoch which one it is."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(seed_from(self.seed, self.epoch))
        return iter(torch.randperm(self.count, generator=generator).tolist())


class FitData(pl.LightningDataModule):
    """What Lightning trains one fit on: training rows as chosen by the balancing, and the inner slice."""

    def __init__(
        self,
        *,
        train: ArrayDataset,
        inner: ArrayDataset | None,
        batch_size: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.train, self.inner, self.batch_size, self.seed = train, inner, batch_size, seed

    @property
    def batches(self) -> int:
        """Training batches an epoch; a last, smaller one is dropped where there is a whole one."""
        return max(1, len(self.train) // self.batch_size)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled training batches."""
        drop = len(self.train) >= self.batch_size
        return _loader(self.train, self.batch_size, sampler=Order(len(self.train), self.seed), drop_last=drop)

    def val_dataloader(self) -> list[Any] | DataLoader[Batch]:
        """The inner slice, or nothing."""
        return _loader(self.inner, 4 * self.batch_size) if self.inner is not None else []


def _loader(dataset: ArrayDataset, batch_size: int, **how: Any) -> DataLoader[Batch]:
    # a generator of its own: each start of an iterator draws from it, else from what dropout draws from
    apart = torch.Generator()
    return DataLoader(dataset, batch_size, collate_fn=_as_fetched, num_workers=0, generator=apart, **how)


def _as_fetched(batch: Any) -> Batch:
    fetched: Batch = batch
    return fetched
