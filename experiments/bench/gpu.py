"""On a GPU: a fit against a bare loop, and K networks of K folds as one batched network against one after another."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from experiments.bench import bare
from experiments.bench.measure import Spread, in_turns, ratio, table, timed
from experiments.bench.work import make_work
from mammo_lightning.classifiers.hyper import Hyper
from mammo_lightning.hardware import accelerators, choose
from mammo_lightning.training import fit

FOLDS, BATCH, SIDE = 5, 60, 64
Step = Callable[[Tensor, Tensor], Tensor]


def measure(console: Console, quick: bool) -> None:
    """Print both tables, or that there is no GPU."""
    if "gpu" not in accelerators():
        console.print("gpu: none on this machine, nothing to measure\n")
        return
    rounds, steps = (2, 5) if quick else (5, 200)
    _fits(console, 24 if quick else 400, 1 if quick else 20, rounds)
    shown = table(f"{FOLDS} folds, batches of {BATCH}", "how", "images/s", "seconds, one after another : this")
    network = Hyper(shape=(1, SIDE, SIDE), settings={**Hyper.defaults}).network
    networks = [copy.deepcopy(network).to("cuda") for _ in range(FOLDS)]
    images, labels = torch.rand(FOLDS, BATCH, 1, SIDE, SIDE, device="cuda"), torch.rand(FOLDS, BATCH, device="cuda")

    def run(step: Step) -> Callable[[], float]:
        def work() -> None:
            for _ in range(steps):
                step(images, labels.round())
            torch.cuda.synchronize()

        return lambda: timed(work)

    found = in_turns(rounds + 1, sequential=run(one_after_another(networks)), batched=run(batched(networks)))
    found = {name: took[1:] for name, took in found.items()}  # the first round chooses kernels
    for name, took in found.items():
        speed = Spread(tuple(FOLDS * BATCH * steps / each for each in took), 0)
        shown.add_row(name, str(speed), str(ratio(found["sequential"], took)))
    console.print(shown)


def _fits(console: Console, patients: int, epochs: int, rounds: int) -> None:
    shown = table(
        f"a fit of {epochs} epochs on the GPU", "precision", "ours, images/s", "bare, images/s", "ours : bare"
    )
    with tempfile.TemporaryDirectory() as name:
        folder, number, hardware = Path(name), count(), choose("gpu")
        work = make_work(patients, folder, FOLDS)
        task, settings = replace(work.task, hardware=hardware), {**work.settings, "epochs": epochs}

        def ours() -> None:
            fit(task, fold=0, settings=settings, seed=0, folder=folder / f"fit{next(number)}")

        def theirs() -> None:
            bare.fit(work, 0, settings, seed=0, hardware=hardware, settle=True)

        turns = in_turns(rounds + 1, ours=lambda: timed(ours), bare=lambda: timed(theirs))
        images = len(work.rows(0)[0]) * epochs
    took = {key: values[1:] for key, values in turns.items()}
    speeds = (str(Spread(tuple(images / each for each in values), 0)) for values in took.values())
    shown.add_row(hardware.precision, *speeds, str(ratio(took["ours"], took["bare"])))
    console.print(shown)


def one_after_another(networks: list[nn.Module]) -> Step:
    """A training step of each network on its own batch (folds x images)."""
    optimizers = [torch.optim.Adam(network.parameters(), 1e-3) for network in networks]

    def step(images: Tensor, labels: Tensor) -> Tensor:
        losses = []
        for network, optimizer, given, wanted in zip(networks, optimizers, images, labels, strict=True):
            loss = nn.functional.binary_cross_entropy_with_logits(network(given).squeeze(-1), wanted)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses)

    return step


def batched(networks: list[nn.Module]) -> Step:
    """The same step for copies of all networks at once, their weights stacked."""
    parameters, buffers = torch.func.stack_module_state(networks)
    base = copy.deepcopy(networks[0])
    optimizer = torch.optim.Adam(parameters.values(), 1e-3)

    def one(weights: dict[str, Tensor], state: dict[str, Tensor], given: Tensor, wanted: Tensor) -> Tensor:
        logits = torch.func.functional_call(base, (weights, state), (given,)).squeeze(-1)
        return nn.functional.binary_cross_entropy_with_logits(logits, wanted)

    all_at_once = torch.func.vmap(one, randomness="different")

    def step(images: Tensor, labels: Tensor) -> Tensor:
        losses: Tensor = all_at_once(parameters, buffers, images, labels)
        optimizer.zero_grad()
        losses.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return losses.detach()

    return step
