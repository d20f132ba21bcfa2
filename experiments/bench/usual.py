"""The same study as it is usually written: Optuna, Trainer, DataLoader, albumentations, MLFlowLogger on SQLite."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import mlflow
import numpy as np
import optuna
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import MLFlowLogger
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import BinaryAUROC

from experiments.bench.measure import answer, asked
from experiments.bench.work import Work, make_work
from mammo_lightning.classifiers.hyper import Hyper
from mammo_lightning.hardware import cores


class Patches(Dataset[Any]):
    """One image at a time."""

    def __init__(self, images: Any, labels: Any, transform: Any = None) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = self.images[index].transpose(1, 2, 0)
        if self.transform is not None:
            image = self.transform(image=image)["image"]
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), torch.tensor(self.labels[index])


class Module(pl.LightningModule):
    """Network, loss, metric, optimiser."""

    def __init__(self, shape: tuple[int, int, int], settings: dict[str, Any], steps: int) -> None:
        super().__init__()
        self.network = Hyper(shape=shape, settings=settings).network
        self.rate, self.beta2, self.steps = settings["learning_rate"], settings["beta2"], max(2, steps)
        self.auc = BinaryAUROC()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """One logit an image."""
        logits: torch.Tensor = self.network(images).squeeze(-1)
        return logits

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        """Loss of a batch."""
        loss = torch.nn.functional.binary_cross_entropy_with_logits(self(batch[0]), batch[1])
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        """Loss and AUC."""
        logits = self(batch[0])
        self.auc(torch.sigmoid(logits), batch[1].int())
        self.log("val_loss", torch.nn.functional.binary_cross_entropy_with_logits(logits, batch[1]))
        self.log("val_auc", self.auc)

    def configure_optimizers(self) -> Any:
        """Adam with one cycle."""
        optimizer = torch.optim.Adam(self.parameters(), self.rate, betas=(0.9, self.beta2), eps=1e-7)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.rate, total_steps=self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def fit(work: Work, fold: int, settings: dict[str, Any], folder: Path, name: str, *, autolog: bool) -> float:
    """The AUC of a fold."""
    train, score = work.rows(fold)
    standard = (work.images - work.images[train].mean()) / work.images[train].std()
    steps = [A.Pad(3, border_mode=cv2.BORDER_REFLECT), A.RandomCrop(*standard.shape[2:]), A.SquareSymmetry(p=1)]
    size = settings["batch_size"]
    last = len(train) >= size
    shuffled = DataLoader(
        Patches(standard[train], work.labels[train], A.Compose(steps)), size, shuffle=True, drop_last=last
    )
    held = DataLoader(Patches(standard[score], work.labels[score]), 4 * size)
    module = Module(standard.shape[1:], settings, len(shuffled) * settings["epochs"])  # type: ignore[arg-type]
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    run = mlflow.start_run(run_name=name) if autolog else contextlib.nullcontext()
    with run:
        logger: Any = False if autolog else MLFlowLogger("usual", run_name=name, tracking_uri=uri)
        trainer = pl.Trainer(
            max_epochs=settings["epochs"], accelerator="cpu", logger=logger, enable_progress_bar=False,
            enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=folder, log_every_n_steps=1,
        )  # fmt: skip
        trainer.fit(module, shuffled, held)
        return float(trainer.callback_metrics["val_auc"])


def study(work: Work, fits: int, epochs: int, folder: Path, *, autolog: bool) -> list[float]:
    """The first fits of an Optuna study on SQLite, trials over folds; seconds of each fit."""
    seconds: list[float] = []
    folds = work.task.splits.folds

    def objective(trial: optuna.Trial) -> float:
        settings = {**work.settings, "epochs": epochs}
        settings["learning_rate"] = trial.suggest_float("learning_rate", 3e-4, 1e-2, log=True)
        found = []
        for fold in folds[: fits - len(seconds)]:
            start = time.perf_counter()
            found.append(fit(work, fold, settings, folder, f"{trial.number}-{fold}", autolog=autolog))
            seconds.append(time.perf_counter() - start)
        return float(np.mean(found))

    optuna_study = optuna.create_study(storage=f"sqlite:///{folder / f'optuna{epochs}.db'}", direction="maximize")
    optuna_study.optimize(objective, n_trials=-(-fits // len(folds)))
    return seconds


def _open(folder: Path, *, autolog: bool) -> None:
    """Databases are made, and their migrations run, before anything is timed."""
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    location = (folder / "artifacts").as_uri()
    mlflow.create_experiment("usual", artifact_location=location)
    mlflow.set_experiment("usual")
    if autolog:
        mlflow.pytorch.autolog()


if __name__ == "__main__":
    given = asked()
    torch.set_num_threads(cores())
    made = make_work(given["patients"], Path(given["mlruns"]), given["folds"])
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        own = Path(name)
        _open(own, autolog=given["autolog"])
        with contextlib.redirect_stdout(None):
            took = [study(made, given["fits"], each, own, autolog=given["autolog"]) for each in given["epochs"]]
    answer(seconds=took)
