"""Batches for one fit: balanced and augmented on the training rows only, drawn from arrays in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

Batch = tuple[Tensor, Tensor]


class ArrayDataset(Dataset[Batch]):
    """Rows of one array, fetched a batch at a time, so that no worker processes or collation are needed."""

    def __init__(
        self,
        images: NDArray[np.float32],
        labels: NDArray[np.float32],
        augment: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None,
    ) -> None:
        self.images, self.labels, self.augment = images, labels, augment

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, positions: list[int]) -> Batch:
        """The batch at `positions`, augmented if this is a training set."""
        images = self.images[positions]
        if self.augment is not None:
            images = self.augment(images)
        return torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(self.labels[positions])


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
        self.train, self.inner, self.batch_size = train, inner, batch_size
        self.generator = torch.Generator().manual_seed(seed)

    @property
    def batches(self) -> int:
        """Training batches an epoch; a last, smaller one is dropped where there is a whole one."""
        return max(1, len(self.train) // self.batch_size)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled training batches."""
        drop = len(self.train) >= self.batch_size
        return _loader(self.train, self.batch_size, shuffle=True, drop_last=drop, generator=self.generator)

    def val_dataloader(self) -> list[Any] | DataLoader[Batch]:
        """The inner slice, or nothing."""
        return _loader(self.inner, 4 * self.batch_size) if self.inner is not None else []


def _loader(dataset: ArrayDataset, batch_size: int, **how: Any) -> DataLoader[Batch]:
    return DataLoader(dataset, batch_size, collate_fn=_as_fetched, num_workers=0, **how)


def _as_fetched(batch: Any) -> Batch:
    fetched: Batch = batch
    return fetched
