"""A tracking folder with 10,000 runs: listing, resuming, examining; and how fast runs are published."""

from __future__ import annotations

import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.bench import postgres
from experiments.bench.measure import Spread, answer, asked, child, table, timed
from experiments.bench.store_fill import EXPERIMENT, METRICS, fill
from mammo_lightning.progress import Progress

POINTS = len(METRICS) + 5 + 20  # of a run that `fill` writes
BEST = 16


def measure(console: Console, quick: bool) -> None:
    """Print both tables."""
    runs, rounds, sent = (60, 1, 10) if quick else (10_000, 5, 200)
    shown = table(f"a store with {runs:,} runs (SQLite), seconds", "what", "best", "median (least-most)", "asked")
    with tempfile.TemporaryDirectory() as name:
        fill(Path(name), runs, trials=min(99, runs // 2))
        found = child("stores", what="big", mlruns=name, rounds=rounds)
    for what, took in found.items():
        shown.add_row(what, f"{min(took):.2f}", str(Spread(tuple(took))), "below 2")
    console.print(shown)
    console.print("in a process of its own; its start and imports left out\n")
    shown = table(f"publishing {sent} runs of {POINTS} points", "into", "runs/s", "points/s")
    with tempfile.TemporaryDirectory() as name:
        _add(shown, "SQLite", child("stores", what="publish", mlruns=name, runs=sent, uri=""), sent)
    if (programs := postgres.programs()) is not None:
        with postgres.server(programs) as uri, tempfile.TemporaryDirectory() as name:
            _add(shown, "PostgreSQL", child("stores", what="publish", mlruns=name, runs=sent, uri=uri), sent)
    else:
        shown.add_row("PostgreSQL", "not installed", "")
    console.print(shown)
    console.print("the database made before; one publisher\n")


def _add(shown: Any, where: str, found: dict[str, Any], runs: int) -> None:
    shown.add_row(where, f"{runs / found['seconds']:.0f}", f"{runs * POINTS / found['seconds']:,.0f}")


class FirstFit(Progress):
    """Stops a study when its first fit begins, and knows when that was."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = 0.0

    def fit_started(self, *said: Any, **more: Any) -> None:
        """The moment that is waited for."""
        self.reached = self.reached or time.perf_counter()
        self.stopping = True


def _big(mlruns: Path, rounds: int) -> dict[str, list[float]]:
    from mlflow import MlflowClient

    from mammo_lightning.health.checks import Places, examine
    from mammo_lightning.tracking.store import default_uri

    client = MlflowClient(default_uri(mlruns))
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    found: dict[str, list[float]] = {name: [] for name in ("best runs with metrics", "resume", "doctor")}

    def best() -> None:
        query = "tags.study = 'fill0000' and tags.kind = 'trial'"
        runs = client.search_runs([experiment], query, order_by=["metrics.val_auc DESC"], max_results=BEST)
        assert runs
        assert all("val_auc" in run.data.metrics for run in runs)

    _study(mlruns, 1, Progress())
    best()
    for number in range(rounds):
        found["best runs with metrics"].append(timed(best))
        found["resume"].append(_resumed(mlruns, number + 2))
        found["doctor"].append(timed(lambda: list(examine(Places(mlruns)))))
    return found


def _study(mlruns: Path, trials: int, progress: Progress) -> None:
    from mammo_lightning.recipe import make_recipe
    from mammo_lightning.study import run_study

    size = {"patients": 24, "folds": 2, "epochs": 1, "workers": 1}
    keys = {"name": "resumed", "dataset": "synthetic", "trials": trials, "mlruns": mlruns, **size}
    run_study(make_recipe(keys), progress)


def _resumed(mlruns: Path, trials: int) -> float:
    """From the command, with more trials asked for, to its first new fit."""
    from mammo_lightning.progress import Interrupted

    progress, start = FirstFit(), time.perf_counter()
    with suppress(Interrupted):
        _study(mlruns, trials, progress)
    return progress.reached - start


def _publish(mlruns: Path, runs: int, uri: str) -> float:
    from mammo_lightning.tracking.journal import Journal
    from mammo_lightning.tracking.publish import Publisher
    from mammo_lightning.tracking.store import Store, default_uri

    address = uri or default_uri(mlruns)
    Store(address, mlruns).experiment(EXPERIMENT)
    fill(mlruns, runs, trials=min(99, runs // 2), published=False)
    publisher = Publisher(Journal(mlruns), address, mlruns)
    return timed(lambda: publisher.publish_all())


if __name__ == "__main__":
    given = asked()
    if given["what"] == "big":
        answer(**_big(Path(given["mlruns"]), given["rounds"]))
    else:
        answer(seconds=_publish(Path(given["mlruns"]), given["runs"], given["uri"]))
