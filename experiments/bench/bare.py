"""A bare PyTorch loop: the same network, images, augmentation, optimiser and schedule, and nothing else."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from experiments.bench.measure import answer, asked
from experiments.bench.work import Work, make_work
from mammo_lightning.classifiers.hyper import Hyper
from mammo_lightning.evaluation.metrics import auc
from mammo_lightning.hardware import Hardware, cores
from mammo_lightning.preprocessing.augment import pipeline
from mammo_lightning.training import BATCH


def fit(
    work: Work, fold: int, settings: Mapping[str, Any], *, seed: int, hardware: Hardware, settle: bool
) -> NDArray[np.float64]:
    """Scores of a fold after training on the others; `settle` re-estimates batch statistics, as our fits do."""
    torch.manual_seed(seed)
    train, score = work.rows(fold)
    images, labels, device = work.images, work.labels, torch.device(hardware.address)
    mean, spread = float(images[train].mean()), float(images[train].std())
    network = Hyper(shape=images.shape[1:], settings=settings).network.to(device)  # type: ignore[arg-type]
    if hardware.channels_last:
        network = network.to(memory_format=torch.channels_last)
    kind = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(hardware.precision)
    size, rate = settings["batch_size"], settings["learning_rate"]
    batches = max(1, len(train) // size)
    betas = (0.9, settings["beta2"])
    optimizer = torch.optim.Adam(network.parameters(), rate, betas=betas, eps=1e-7, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=max(2, batches * settings["epochs"]))
    augment = pipeline(settings["augmentation"], seed)
    for _ in range(settings["epochs"]):
        order = torch.randperm(len(train)).numpy()
        losses = []
        for batch in range(batches):
            rows = train[order[batch * size : (batch + 1) * size]]
            given = (torch.from_numpy(augment(images[rows])).to(device) - mean) / spread
            target = torch.from_numpy(labels[rows]).to(device)
            with torch.autocast(device.type, kind, enabled=kind is not None):
                logits = network(given).squeeze(-1)
            loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), target)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        float(torch.stack(losses).mean())
    if settle:
        _settle(network, images, train, mean, spread)
    network.eval()
    with torch.inference_mode():
        scored: torch.Tensor = network(_given(network, images, score, mean, spread)).squeeze(-1)
    return torch.sigmoid(scored.cpu().double()).numpy()


def _given(
    network: nn.Module, images: NDArray[np.float32], rows: NDArray[np.int64], mean: float, spread: float
) -> torch.Tensor:
    return (torch.from_numpy(images[rows]).to(next(network.parameters()).device) - mean) / spread


def _settle(
    network: nn.Module, images: NDArray[np.float32], train: NDArray[np.int64], mean: float, spread: float
) -> None:
    network.eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
            module.train()
    with torch.inference_mode():
        count = math.ceil(len(train) / BATCH)
        for first in range(count):
            network(_given(network, images, train[first::count], mean, spread))


def study(work: Work, trials: int, folds: int, epochs: int) -> list[float]:
    """Trials over folds, one after another, in one process with all cores, in float32; seconds of each trial."""
    hardware = Hardware(threads=cores())
    torch.set_num_threads(cores())
    rng, seconds = np.random.default_rng(0), []
    for trial in range(trials):
        start = time.perf_counter()
        settings = {**work.settings, "epochs": epochs, "learning_rate": float(10 ** rng.uniform(-3.5, -2))}
        for fold in range(folds):
            scores = fit(work, fold, settings, seed=trial, hardware=hardware, settle=False)
            auc(work.labels[work.rows(fold)[1]].astype(int), scores)
        seconds.append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    given = asked()
    made = make_work(given["patients"], Path(given["mlruns"]), given["folds"])
    study(made, 1, 1, 1)  # first calls choose kernels
    answer(seconds=[study(made, given["trials"], given["folds"], each) for each in given["epochs"]])
