"""Fit one classifier on one fold: what goes in is a task and settings, what comes out is Predictions and weights."""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
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
from mammo_lightning.datamodules.folds import FitRows
from mammo_lightning.datamodules.loaders import ArrayDataset, FitData, moments
from mammo_lightning.hardware import Hardware
from mammo_lightning.imbalance.strategies import balance
from mammo_lightning.preprocessing import augment
from mammo_lightning.registry import CLASSIFIERS
from mammo_lightning.task import Task
from mammo_lightning.types import Predictions, Split, seed_from
from mammo_lightning.watch import Diverged, OnEpoch, Watch, reason_of

__all__ = [
    "Diverged",
    "Fit",
    "Task",
    "fit",
    "load_fit",
    "outputs",
    "predict",
    "reason_of",
    "settle_normalisation",
    "train",
]

DONE, PREDICTIONS, INNER = "fit.json", "predictions.parquet", "inner.parquet"
STOPPED = "epoch.ckpt"
BATCH = 64  # where nothing is learned; more leaves the caches of a core


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
    before = _begin(folder, asked)
    start = time.perf_counter()
    rows = task.splits.rows(fold, inner=settings["stopping"] == "inner")
    with _threads(task.hardware.threads):
        classifier, curve = train(task, rows, settings=settings, seed=seed, on_epoch=on_epoch, keep=folder / STOPPED)
        parts = [_scored(task, classifier, each, fold) for each in (rows.score, rows.inner) if len(each)]
    parts[0].write(folder / PREDICTIONS)
    if len(parts) > 1:
        parts[1].write(folder / INNER)
    curve.to_csv(folder / "curve.csv", index=False)
    weights.save(classifier.cpu(), folder, name=task.classifier, classes=list(task.data.classes), scale=task.data.scale)
    seconds = before + time.perf_counter() - start
    (folder / STOPPED).unlink(missing_ok=True)
    (folder / f"{DONE}.part").write_text(json.dumps({"seconds": seconds, "asked": asked}))
    (folder / f"{DONE}.part").replace(folder / DONE)
    return Fit(folder, parts[0], curve, seconds, parts[1] if len(parts) > 1 else None)


def _begin(folder: Path, asked: Mapping[str, Any]) -> float:
    """An empty folder, but for where the same fit was stopped; returns the seconds that were spent on it then."""
    stopped, note = folder / STOPPED, folder / "asked.json"
    with suppress(Exception):  # of what a killed process left, whatever it is
        if json.loads(note.read_text()) == json.loads(json.dumps(asked)):
            known = torch.load(stopped, weights_only=True, map_location="cpu")
            return float(known["callbacks"]["Watch"]["seconds"])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    note.write_text(json.dumps(asked))
    return 0.0


def train(
    task: Task,
    rows: FitRows,
    *,
    settings: Mapping[str, Any],
    seed: int,
    on_epoch: OnEpoch | None = None,
    keep: Path | None = None,
) -> tuple[Classifier, pd.DataFrame]:
    """A classifier trained on `rows.train`, on the accelerator and in float32, and its learning curve.

    Everything random in an epoch follows from the seed and its number: a training that was stopped is taken up at
    `keep`, and ends in what it would have ended in.
    """
    task.splits.check(rows)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    labels, targets = task.data.frame["label"].to_numpy(np.float32), task.targets
    images, hardware = task.prepared(settings), task.hardware
    build = CLASSIFIERS.get(task.classifier)
    classifier: Classifier = build(shape=images.shape[1:], settings=settings, sides=task.data.sides)
    vary = augment.pipeline("set_b", seed_from(seed, "imbalance"))
    balanced = balance(images, labels, targets, rows.train, settings=settings, rng=rng, vary=vary)
    positions, classifier.pos_weights, targets = balanced.rows, balanced.weights, balanced.targets
    if not classifier.gradient:
        sides = torch.tensor(classifier.pos_weights)[balanced.labels[positions].astype(np.int64)]
        features = task.features(classifier)
        if len(balanced.made):
            features = torch.cat([features, classifier.features(torch.from_numpy(balanced.made))])
        classifier.solve_features(features[positions], torch.from_numpy(targets[positions]), sides)
        return classifier.eval(), pd.DataFrame({"epoch": [0]})
    mean, std = moments(images, rows.train)
    classifier.mean.copy_(torch.from_numpy(mean)[:, None, None])
    classifier.std.copy_(torch.from_numpy(std)[:, None, None] + 1e-6)
    training = ArrayDataset(images, targets, positions, made=balanced.made)
    data = FitData(
        train=training,
        inner=ArrayDataset(images, targets, rows.inner) if len(rows.inner) else None,
        batch_size=settings["batch_size"],
        seed=seed_from(seed, "order"),
    )
    classifier.steps = data.batches * settings["epochs"]
    if hardware.channels_last:
        classifier.to(memory_format=torch.channels_last)

    def begin(epoch: int) -> None:
        torch.manual_seed(seed_from(seed, "epoch", epoch))
        training.augment = augment.pipeline(settings["augmentation"], seed_from(seed, "augmentation", epoch))

    watch = Watch(patience=settings["patience"], begin=begin, on_epoch=on_epoch, keep=keep)
    taken_up = str(keep) if keep is not None and keep.is_file() else None
    _trainer(settings["epochs"], watch, hardware).fit(classifier, data, ckpt_path=taken_up, weights_only=True)
    if watch.best is not None:
        classifier.load_state_dict(watch.best)
    classifier.to(hardware.address)  # Lightning moves it to the CPU
    settle_normalisation(classifier, images, rows.train)
    # as a loaded model is laid out, so that it predicts what is predicted here
    return classifier.to(memory_format=torch.contiguous_format).eval(), pd.DataFrame(watch.rows)


def _scored(task: Task, classifier: Classifier, positions: NDArray[np.int64], fold: int) -> Predictions:
    if classifier.gradient:
        raw = outputs(classifier, task.prepared(classifier.settings)[positions])
    else:
        raw = classifier.logits(task.features(classifier)[positions]).double()
    scores = torch.sigmoid(classifier.positive(raw)).numpy()
    if not np.isfinite(scores).all():  # the last step may have spoilt the weights after its loss was taken
        raise Diverged("a score is not a number after the last step")
    shares = torch.softmax(raw, 1).numpy() if classifier.sides else None
    return task.predictions(scores, positions, fold, Split.val, shares)


def settle_normalisation(classifier: Classifier, images: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
    """Re-estimate batch statistics on the training images (`rows` of `images`) as they are, with dropout off.

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
    count = math.ceil(len(rows) / BATCH)
    with torch.inference_mode():
        for first in range(count):  # neighbours are of one patient: a batch takes from all of them, and all are alike
            classifier(torch.from_numpy(images[rows[first::count]]).to(classifier.mean.device))
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum
    classifier.eval()


def predict(classifier: Classifier, images: NDArray[np.float32], batch_size: int = BATCH) -> NDArray[np.float64]:
    """Probability of the positive class for prepared images, in float32 where the classifier is; every row."""
    return torch.sigmoid(classifier.positive(outputs(classifier, images, batch_size))).numpy()


def outputs(classifier: Classifier, images: NDArray[np.float32], batch_size: int = BATCH) -> torch.Tensor:
    """What the network ends in, for every image."""
    classifier.eval()
    with torch.inference_mode():
        parts = []
        for start in range(0, len(images), batch_size):
            batch = torch.from_numpy(images[start : start + batch_size]).to(classifier.mean.device)
            parts.append(classifier.network(classifier.standardise(batch)).cpu().double())
    return torch.cat(parts)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is not None and count != before:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count is not None and count != before:
            torch.set_num_threads(before)


def _trainer(epochs: int, watch: Watch, hardware: Hardware) -> pl.Trainer:
    for name in ("pytorch_lightning", "lightning.pytorch", "pytorch_lightning.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
    return pl.Trainer(
        accelerator=hardware.accelerator,
        devices=hardware.devices,
        precision=hardware.precision,
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[watch],
    )
