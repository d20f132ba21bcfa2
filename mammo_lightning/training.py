"""Fit one classifier on one fold: what goes in is a task and settings, what comes out is Predictions and weights."""

from __future__ import annotations

import copy
import json
import logging
import shutil
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import nn

from mammo_lightning.classifiers import weights
from mammo_lightning.classifiers.base import Classifier
from mammo_lightning.datamodules.base import MammoDataModule
from mammo_lightning.datamodules.folds import FitRows, Splits
from mammo_lightning.datamodules.loaders import ArrayDataset, FitData
from mammo_lightning.imbalance.strategies import balance
from mammo_lightning.preprocessing import augment
from mammo_lightning.preprocessing.prepare import DEFAULTS, prepare
from mammo_lightning.registry import CLASSIFIERS
from mammo_lightning.types import Predictions, Split, seed_from

#: called after every epoch with what is known of it; it may raise to stop the fit
OnEpoch = Callable[[int, dict[str, float]], None]
DONE, PREDICTIONS, INNER = "fit.json", "predictions.parquet", "inner.parquet"


class Diverged(Exception):
    """The loss stopped being a number."""


@dataclass
class Task:
    """What the fits of a study share: a dataset, its frozen division, and a classifier's name."""

    data: MammoDataModule
    splits: Splits
    classifier: str
    _prepared: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)

    def prepared(self, settings: Mapping[str, Any]) -> NDArray[np.float32]:
        """All images as a network takes them: per-image transforms only, so nothing crosses a fold."""
        key = json.dumps({name: settings[name] for name in DEFAULTS}, sort_keys=True)
        if key not in self._prepared:
            if len(self._prepared) > 1:
                self._prepared.pop(next(iter(self._prepared)))
            self._prepared[key] = prepare(np.asarray(self.data.images), self.data.scale, dict(settings))
        return self._prepared[key]

    def predictions(self, scores: NDArray[np.float64], rows: NDArray[np.int64], fold: int, split: Split) -> Predictions:
        """Scores of rows as the table everything after training reads."""
        frame = self.data.frame.iloc[rows].reset_index(drop=True)
        kept = frame[["image", "patient", "view", "label"]].assign(
            group=self.splits.frame["group"].to_numpy()[rows], fold=fold, split=str(split)
        )
        negative, positive = self.data.classes
        kept = kept[["image", "patient", "group", "view", "fold", "split", "label"]]
        kept = kept.assign(**{f"p_{negative}": 1.0 - scores, f"p_{positive}": scores})
        return Predictions(kept.assign(**{name: frame[name] for name in self.data.subgroups}))


@dataclass(frozen=True)
class Fit:
    """A finished fit, as it stands on disk."""

    folder: Path
    predictions: Predictions
    curve: pd.DataFrame
    seconds: float
    inner: Predictions | None = None  # the inner slice, where the fit was stopped by one


def load_fit(folder: Path, asked: Mapping[str, Any] | None = None) -> Fit | None:
    """The fit kept at `folder`, or None if it was not finished, or was another one than is asked for."""
    if not (folder / DONE).is_file():
        return None
    done = json.loads((folder / DONE).read_text())
    if asked is not None and done["asked"] != json.loads(json.dumps(asked)):
        return None
    curve = pd.read_csv(folder / "curve.csv")
    inner = Predictions.read(folder / INNER) if (folder / INNER).is_file() else None
    return Fit(folder, Predictions.read(folder / PREDICTIONS), curve, done["seconds"], inner)


def fit(
    task: Task, *, fold: int, settings: Mapping[str, Any], seed: int, folder: Path, on_epoch: OnEpoch | None = None
) -> Fit:
    """Train on the other folds, predict this one once, keep both at `folder`; a finished fit is only read."""
    asked = {"settings": dict(settings), "seed": seed, "splits": task.splits.digest, "classifier": task.classifier}
    if (kept := load_fit(folder, asked)) is not None:
        return kept
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    start = time.perf_counter()
    rows = task.splits.rows(fold, inner=settings["stopping"] == "inner")
    classifier, curve = train(task, rows, settings=settings, seed=seed, on_epoch=on_epoch)
    prepared = task.prepared(settings)

    def predicted(positions: NDArray[np.int64]) -> Predictions:
        scores = predict(classifier, prepared[positions])
        if not np.isfinite(scores).all():  # the last step may have spoilt the weights after its loss was taken
            raise Diverged("a score is not a number after the last step")
        return task.predictions(scores, positions, fold, Split.val)

    predictions, inner = predicted(rows.score), predicted(rows.inner) if len(rows.inner) else None
    predictions.write(folder / PREDICTIONS)
    if inner is not None:
        inner.write(folder / INNER)
    curve.to_csv(folder / "curve.csv", index=False)
    weights.save(classifier, folder, name=task.classifier, classes=list(task.data.classes), scale=task.data.scale)
    seconds = time.perf_counter() - start
    (folder / f"{DONE}.part").write_text(json.dumps({"seconds": seconds, "asked": asked}))
    (folder / f"{DONE}.part").replace(folder / DONE)
    return Fit(folder, predictions, curve, seconds, inner)


def train(
    task: Task, rows: FitRows, *, settings: Mapping[str, Any], seed: int, on_epoch: OnEpoch | None = None
) -> tuple[Classifier, pd.DataFrame]:
    """A classifier trained on `rows.train`, and its learning curve."""
    task.splits.check(rows)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    labels = task.data.frame["label"].to_numpy(np.float32)
    images = task.prepared(settings)
    cls = CLASSIFIERS.get(task.classifier)
    classifier: Classifier = cls(shape=images.shape[1:], settings=settings)
    chosen, classifier.pos_weights = balance(settings["imbalance"], labels[rows.train].astype(np.int64), rng)
    positions = rows.train[chosen]
    training = images[rows.train]
    classifier.mean.copy_(torch.from_numpy(training.mean(axis=(0, 2, 3))[:, None, None]))
    classifier.std.copy_(torch.from_numpy(training.std(axis=(0, 2, 3))[:, None, None] + 1e-6))
    if not classifier.gradient:
        sides = torch.tensor(classifier.pos_weights)[labels[positions].astype(np.int64)]
        classifier.solve(torch.from_numpy(images[positions]), torch.from_numpy(labels[positions]), sides)
        return classifier.eval(), pd.DataFrame({"epoch": [0]})
    transform = augment.pipeline(settings["augmentation"], seed_from(seed, "augmentation"))
    data = FitData(
        train=ArrayDataset(images[positions], labels[positions], transform),
        inner=ArrayDataset(images[rows.inner], labels[rows.inner]) if len(rows.inner) else None,
        batch_size=settings["batch_size"],
        seed=seed_from(seed, "order"),
    )
    classifier.steps = data.batches * settings["epochs"]
    watch = Watch(patience=settings["patience"], on_epoch=on_epoch)
    _trainer(settings["epochs"], watch).fit(classifier, data)
    if watch.best is not None:
        classifier.load_state_dict(watch.best)
    settle_normalisation(classifier, training)
    return classifier.eval(), pd.DataFrame(watch.rows)


class Watch(pl.Callback):
    """Follows the training: learning curve, best weights on the inner slice, when to stop."""

    def __init__(self, *, patience: int, on_epoch: OnEpoch | None) -> None:
        self.patience, self.on_epoch = patience, on_epoch
        self.rows: list[dict[str, float]] = []
        self.best: dict[str, Any] | None = None
        self._lowest, self._lowest_epoch = np.inf, 0
        self._losses: list[torch.Tensor] = []

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
        if self.on_epoch is not None:
            self.on_epoch(epoch, row)


def _inner(classifier: Classifier) -> dict[str, float]:
    logits = torch.cat([logit for logit, _ in classifier.watched]).float()
    labels = torch.cat([label for _, label in classifier.watched])
    classifier.watched.clear()
    loss = nn.functional.binary_cross_entropy_with_logits(logits, labels)
    positive, negative = logits[labels > 0.5], logits[labels <= 0.5]
    above = (positive[:, None] > negative[None, :]).float() + 0.5 * (positive[:, None] == negative[None, :]).float()
    return {"inner_loss": float(loss), "inner_auc": float(above.mean())}


def settle_normalisation(classifier: Classifier, training: NDArray[np.float32], batch_size: int = 256) -> None:
    """Re-estimate batch statistics on the training images as they are, with dropout off.

    Dropout in front of a batch normalisation changes the spread that it learns, so that the statistics gathered in
    training do not fit the evaluated network.
    """
    norms = [module for module in classifier.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    classifier.eval()
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
        norm.train()
    with torch.inference_mode():
        for part in _batches(training, batch_size):
            classifier(torch.from_numpy(part))
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum
    classifier.eval()


def predict(classifier: Classifier, images: NDArray[np.float32], batch_size: int = 256) -> NDArray[np.float64]:
    """Probability of the positive class for prepared images; every row, whatever the batch size."""
    classifier.eval()
    with torch.inference_mode():
        logits = [classifier(torch.from_numpy(part)).double() for part in _batches(images, batch_size)]
    return torch.sigmoid(torch.cat(logits)).cpu().numpy()


def _batches(images: NDArray[np.float32], batch_size: int) -> list[NDArray[np.float32]]:
    return [images[start : start + batch_size] for start in range(0, len(images), batch_size)]


def _trainer(epochs: int, watch: Watch) -> pl.Trainer:
    for name in ("pytorch_lightning", "lightning.pytorch", "pytorch_lightning.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
    return pl.Trainer(
        max_epochs=epochs,
        devices=1,  # more would start the command again in other processes
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[watch],
    )
