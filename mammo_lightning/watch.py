"""What follows a training: learning curve, best weights on the inner slice, when to stop, and why one went wrong."""

from __future__ import annotations

import copy
import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn

from mammo_lightning.classifiers.base import Classifier
from mammo_lightning.progress import Interrupted
from mammo_lightning.record import first_line

#: called after every epoch with what is known of it; it may raise to stop the fit
OnEpoch = Callable[[int, dict[str, float]], None]
#: how allocators that raise a plain RuntimeError say that memory is short
_SHORT = ("out of memory", "can't allocate memory", "DefaultCPUAllocator", "ALLOC_FAILED", "Cannot allocate memory")


#: between two states of a training that are kept: so much of it a kill may cost
KEEP_SECONDS = 60.0


class Diverged(Exception):
    """The loss stopped being a number."""


def reason_of(error: BaseException) -> str:
    """Why a fit did not end, as a run is tagged: `oom`, `nan`, or `exception: <first line>`."""
    if isinstance(error, Diverged):
        return "nan"
    short = isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SHORT)
    if short or isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "oom"
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return "oom"
    return f"exception: {first_line(error)}"


class Watch(pl.Callback):
    """Follows the training: learning curve, best weights on the inner slice, when to stop.

    Args:
        patience: Epochs without a gain on the inner slice before it stops.
        begin: Called before every epoch.
        on_epoch: Called after every epoch.
        keep: Where the state of the training is kept about every minute, and when it is stopped.
    """

    def __init__(
        self, *, patience: int, begin: Callable[[int], None], on_epoch: OnEpoch | None, keep: Path | None
    ) -> None:
        self.patience, self.begin, self.on_epoch, self.keep = patience, begin, on_epoch, keep
        self.rows: list[dict[str, float]] = []
        self.best: dict[str, Any] | None = None
        self._lowest, self._lowest_epoch = float("inf"), 0
        self._losses: list[torch.Tensor] = []
        self._plateau: dict[str, Any] | None = None
        self._kept = self._began = time.monotonic()
        self._before = 0.0

    @property
    def state_key(self) -> str:
        """Under which a checkpoint holds what is below."""
        return "Watch"

    def state_dict(self) -> dict[str, Any]:
        """All that the epochs so far have led to."""
        return {
            "rows": self.rows,
            "best": self.best,
            "lowest": self._lowest,
            "lowest_epoch": self._lowest_epoch,
            "plateau": self._plateau,
            "seconds": self._before + time.monotonic() - self._began,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.rows, self.best = state_dict["rows"], state_dict["best"]
        self._lowest, self._lowest_epoch = state_dict["lowest"], state_dict["lowest_epoch"]
        self._plateau, self._before = state_dict["plateau"], state_dict["seconds"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning does not know of the schedule that is stepped here, nor that enough may have been trained."""
        assert isinstance(pl_module, Classifier)
        if self.rows and "inner_loss" in self.rows[-1]:
            trainer.should_stop = int(self.rows[-1]["epoch"]) - self._lowest_epoch >= self.patience
        if self._plateau is not None and pl_module.plateau is not None:
            pl_module.plateau.load_state_dict(self._plateau)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Randomness begins anew in every epoch."""
        self.begin(trainer.current_epoch)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *rest: Any) -> None:
        """Keep the loss of a batch, without waiting for it."""
        self._losses.append(outputs["loss"].detach())

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the epoch, keep the best weights, and stop where the inner slice no longer gains."""
        assert isinstance(pl_module, Classifier)
        epoch, row = trainer.current_epoch, {"epoch": float(trainer.current_epoch)}
        row["train_loss"] = float(torch.stack(self._losses).mean())
        self._losses.clear()
        if pl_module.watched:
            row |= _inner(pl_module)
            if row["inner_loss"] < self._lowest - 1e-4:
                self._lowest, self._lowest_epoch = row["inner_loss"], epoch
                self.best = copy.deepcopy(pl_module.state_dict())
            trainer.should_stop = epoch - self._lowest_epoch >= self.patience
        self.rows.append(row)
        if not np.isfinite(row["train_loss"]):
            raise Diverged(f"the training loss is {row['train_loss']} in epoch {epoch}")
        if pl_module.plateau is not None:
            pl_module.plateau.step(row.get("inner_loss", row["train_loss"]))
            self._plateau = pl_module.plateau.state_dict()
        try:
            if self.on_epoch is not None:
                self.on_epoch(epoch, row)
        except Interrupted:
            self._save(trainer)
            raise
        if time.monotonic() - self._kept > KEEP_SECONDS:
            self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        if self.keep is not None:
            part = self.keep.with_suffix(".part")
            trainer.save_checkpoint(part)
            part.replace(self.keep)
            self._kept = time.monotonic()


def _inner(classifier: Classifier) -> dict[str, float]:
    logits = torch.cat([logit for logit, _ in classifier.watched]).float()
    labels = torch.cat([label for _, label in classifier.watched])
    classifier.watched.clear()
    loss = nn.functional.binary_cross_entropy_with_logits(logits, labels)
    positive, negative = logits[labels > 0.5], logits[labels <= 0.5]
    above = (positive[:, None] > negative[None, :]).float() + 0.5 * (positive[:, None] == negative[None, :]).float()
    return {"inner_loss": float(loss), "inner_auc": float(above.mean())}
