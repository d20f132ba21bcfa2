"""One fit against a bare loop that does the same work, and float32 against the precision that is chosen."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from itertools import count
from pathlib import Path
from time import process_time

import numpy as np
import torch
from rich.console import Console

from experiments.bench import bare
from experiments.bench.measure import Spread, in_turns, ratio, table, timed
from experiments.bench.work import Work, make_work
from mammo_lightning.evaluation.statistics import mean_fold_auc
from mammo_lightning.final import pooled
from mammo_lightning.hardware import Hardware, choose
from mammo_lightning.training import fit


def measure(console: Console, quick: bool) -> None:
    """Print both tables."""
    patients, epochs, rounds, seeds = (24, 1, 2, 2) if quick else (160, 20, 5, 5)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        work = make_work(patients, folder, folds=2 if quick else 5)
        _overhead(console, work, folder, epochs, rounds)
        _quality(console, make_work(2 * patients, folder, folds=2), folder, max(1, epochs * 3 // 5), seeds)


def _overhead(console: Console, work: Work, folder: Path, epochs: int, rounds: int) -> None:
    settings, numbers = {**work.settings, "epochs": epochs}, count()
    images = len(work.rows(0)[0])
    shown = table(
        f"a fit of {epochs} epochs, {images} images, against a bare loop with the same settings, precision and threads",
        "precision · threads", "ours, images/s", "bare, images/s", "seconds, ours : bare", "asked",
    )  # fmt: skip
    torch.set_num_threads(1)
    for hardware in dict.fromkeys((choose("cpu", threads=1), Hardware(threads=1))):
        task = replace(work.task, hardware=hardware)

        def ours(task: object = task) -> None:
            fit(task, fold=0, settings=settings, seed=0, folder=folder / f"fit{next(numbers)}")  # type: ignore[arg-type]

        def theirs(hardware: Hardware = hardware) -> None:
            bare.fit(work, 0, settings, seed=0, hardware=hardware, settle=True)

        turns = {"ours": lambda: timed(ours, process_time), "bare": lambda: timed(theirs, process_time)}
        in_turns(1, **turns)
        found = in_turns(rounds, **turns)
        speeds = {name: Spread(tuple(images * epochs / each for each in took), 0) for name, took in found.items()}
        layout = " channels-last" if hardware.channels_last else ""
        shown.add_row(
            f"{hardware.precision}{layout} · 1",
            *(str(speed) for speed in speeds.values()),
            str(ratio(found["ours"], found["bare"])),
            "at most 1.10",
        )
    console.print(shown)
    console.print(
        f"{rounds} rounds in turns; median (least-most); processor time of one thread, which other work on the machine "
        "disturbs less than the clock; start and imports left out\n"
    )


def _quality(console: Console, work: Work, folder: Path, epochs: int, seeds: int) -> None:
    chosen, plain = choose("cpu", threads=1), Hardware(threads=1)
    if chosen.precision == plain.precision:
        console.print(f"precision: {chosen.precision} is chosen here, there is nothing to compare\n")
        return
    settings = {**work.settings, "epochs": epochs}
    folds = work.task.splits.folds
    found: dict[str, list[float]] = {}
    for hardware in (plain, chosen):
        task = replace(work.task, hardware=hardware)
        for seed in range(seeds):
            where = folder / "quality" / hardware.precision / str(seed)
            parts = [
                fit(task, fold=fold, settings=settings, seed=seed, folder=where / str(fold)).predictions
                for fold in folds
            ]
            found.setdefault(hardware.precision, []).append(mean_fold_auc(pooled(parts)))
    differences = np.array(found[chosen.precision]) - np.array(found[plain.precision])
    error = float(differences.std(ddof=1) / np.sqrt(seeds))
    title = f"mean fold AUC, {epochs} epochs, {len(folds)} folds, {seeds} seeds"
    shown = table(title, *found, "difference, paired by seed")
    shown.add_row(*(str(Spread(tuple(each), 3)) for each in found.values()), f"{differences.mean():+.4f} ± {error:.4f}")
    console.print(shown)
    console.print("median (least-most); mean ± standard error of the difference\n")
