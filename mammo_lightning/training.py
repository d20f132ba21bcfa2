"""Fit one classifier on one fold: what goes in is a task and settings, what comes out is Predictions and weights."""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
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
from mammo_lightning.datamodules.cache import kept_once
from mammo_lightning.datamodules.folds import FitRows, Splits
from mammo_lightning.datamodules.loaders import ArrayDataset, FitData, moments
from mammo_lightning.hardware import Hardware
from mammo_lightning.imbalance.strategies import balance
from mammo_lightning.preprocessing import augment
from mammo_lightning.preprocessing.prepare import DEFAULTS, prepare
from mammo_lightning.registry import CLASSIFIERS
from mammo_lightning.types import Predictions, Split, digest, seed_from
from mammo_lightning.watch import Diverged, OnEpoch, Watch, reason_of

__all__ = ["Diverged", "Fit", "Task", "fit", "load_fit", "predict", "reason_of", "settle_normalisation", "train"]

DONE, PREDICTIONS, INNER = "fit.json", "predictions.parquet", "inner.parquet"
STOPPED = "epoch.ckpt"
SHARED_BYTES = 2**28  # prepared images larger than this are not held by every process for itself
BATCH = 64  # where nothing is learned; more leaves the caches of a core
_KEPT = 2  # preprocessed copies of all images


@dataclass
class Task:
    """What the fits of a study share: a dataset, its frozen division, a classifier's name, and what they run on."""

    data: MammoDataModule
    splits: Splits
    classifier: str
    hardware: Hardware = field(default_factory=Hardware)
    _prepared: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)
    _features: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)

    def prepared(self, settings: Mapping[str, Any]) -> NDArray[np.float32]:
        """All images as a network takes them: per-image transforms only, so nothing crosses a fold."""
        key = _key(settings, DEFAULTS)
        if key not in self._prepared:
            while len(self._prepared) >= _KEPT:
                self._prepared.pop(next(iter(self._prepared)))
            self._prepared[key] = self._prepare(key, settings)
        return self._prepared[key]

    def _prepare(self, key: str, settings: Mapping[str, Any]) -> NDArray[np.float32]:
        images, file = self.data.images, getattr(self.data.images, "filename", None)

        def make() -> NDArray[np.float32]:
            return prepare(np.asarray(images), self.data.scale, settings)

        if file is None or images.size * 4 < SHARED_BYTES:
            return make()
        return kept_once(Path(file).parent, digest(key), make)

    def features(self, classifier: Classifier) -> torch.Tensor:
        """What a classifier that is solved works on, of all images: the same for every fold, hence computed once."""
        key = _key(classifier.settings, [*DEFAULTS, *classifier.feature_settings])
        if key not in self._features:
            self._features[key] = classifier.features(torch.from_numpy(self.prepared(classifier.settings)))
        return self._features[key]

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


def _key(settings: Mapping[str, Any], names: Iterable[str]) -> str:
    return json.dumps({name: settings[name] for name in names}, sort_keys=True)


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
    labels = task.data.frame["label"].to_numpy(np.float32)
    images, hardware = task.prepared(settings), task.hardware
    classifier: Classifier = CLASSIFIERS.get(task.classifier)(shape=images.shape[1:], settings=settings)
    chosen, classifier.pos_weights = balance(settings["imbalance"], labels[rows.train].astype(np.int64), rng)
    positions = rows.train[chosen]
    if not classifier.gradient:
        sides = torch.tensor(classifier.pos_weights)[labels[positions].astype(np.int64)]
        classifier.solve_features(task.features(classifier)[positions], torch.from_numpy(labels[positions]), sides)
        return classifier.eval(), pd.DataFrame({"epoch": [0]})
    mean, std = moments(images, rows.train)
    classifier.mean.copy_(torch.from_numpy(mean)[:, None, None])
    classifier.std.copy_(torch.from_numpy(std)[:, None, None] + 1e-6)
    training = ArrayDataset(images, labels, positions)
    data = FitData(
        train=training,
        inner=ArrayDataset(images, labels, rows.inner) if len(rows.inner) else None,
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
        scores = predict(classifier, task.prepared(classifier.settings)[positions])
    else:
        scores = torch.sigmoid(classifier.logits(task.features(classifier)[positions]).double()).numpy()
    if not np.isfinite(scores).all():  # the last step may have spoilt the weights after its loss was taken
        raise Diverged("a score is not a number after the last step")
    return task.predictions(scores, positions, fold, Split.val)


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
    classifier.eval()
    with torch.inference_mode():
        logits = [
            classifier(torch.from_numpy(images[start : start + batch_size]).to(classifier.mean.device)).cpu().double()
            for start in range(0, len(images), batch_size)
        ]
    return torch.sigmoid(torch.cat(logits)).numpy()


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
