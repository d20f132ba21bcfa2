"""The same study as we run it, with automatic settings: reference, trials, final, tests and MLflow included."""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from experiments.bench.measure import answer, asked
from experiments.bench.work import CLASSIFIER, Work, make_work
from mammo_lightning.recipe import make_recipe
from mammo_lightning.registry import CLASSIFIERS
from mammo_lightning.study import run_study

SEARCHED = "learning_rate"


def study(given: dict[str, Any], work: Work, folder: Path, name: str, **changes: Any) -> float:
    """Seconds from the call to the summary."""
    keys: dict[str, Any] = {name: given[name] for name in ("patients", "trials", "folds")}
    # all but the learning rate stays as the others have it: a wider network would be other work
    keys["set"] = {name: work.settings[name] for name in CLASSIFIERS.get(CLASSIFIER).search_space if name != SEARCHED}
    more = {"workers": given["workers"]} if given.get("workers") else {}
    recipe = make_recipe(
        {
            **keys, "name": name, "dataset": "synthetic", "classifier": "hyper", "prune": False, "mlruns": folder,
            "search": {SEARCHED: "3e-4:1e-2:log"}, **more, **changes,
        }
    )  # fmt: skip
    start = time.perf_counter()
    run_study(recipe)
    return time.perf_counter() - start


class Memory(threading.Thread):
    """Watches what child processes hold while a study runs: private, and shared with others, in MiB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self.most: dict[int, tuple[float, float]] = {}

    def run(self) -> None:
        """Look twice a second."""
        while not self.ended.wait(0.5):
            for process in psutil.Process().children(recursive=True):
                try:
                    full = process.memory_full_info()
                except psutil.Error:  # it has just ended
                    continue
                own, shared = full.uss / 2**20, (full.rss - full.uss) / 2**20
                self.most[process.pid] = max(self.most.get(process.pid, (0.0, 0.0)), (own, shared))


if __name__ == "__main__":
    asked_for = asked()
    with tempfile.TemporaryDirectory() as where:
        # processes, databases and caches are made here; what follows finds them
        work = make_work(asked_for["patients"], Path(where), asked_for["folds"])
        study(asked_for, work, Path(where), "warm-up", trials=1, epochs=1)
        memory = Memory()
        memory.start()
        took = [study(asked_for, work, Path(where), f"epochs-{each}", epochs=each) for each in asked_for["epochs"]]
        memory.ended.set()
        held = sorted(memory.most.values(), reverse=True)
    answer(seconds=took, memory=held, main=psutil.Process().memory_full_info().uss / 2**20)
