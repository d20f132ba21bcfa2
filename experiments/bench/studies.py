"""A whole study against a bare loop, and against the way it is usually written."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.bench.measure import Spread, child, ratio, table

SECONDS = 500  # a second round is begun only if it can be expected to end by then
ASKED = {"bare": "at least 1.6", "usual": "at least 1.6", "usual + autolog": "at least 2.0"}
Found = dict[str, list[float]]


def measure(console: Console, quick: bool) -> None:
    """Print the table of 20 epochs and that of 2."""
    patients, folds, trials, epochs = (24, 2, 2, [2, 1]) if quick else (110, 5, 6, [20, 2])
    fits, start = trials * folds, time.monotonic()
    found: list[Found] = [{name: [] for name in ("ours", "bare")} for _ in epochs]
    with tempfile.TemporaryDirectory() as folder:
        common = {"patients": patients, "folds": folds, "mlruns": str(Path(folder) / "mlruns"), "epochs": epochs}
        round_of = {**common, "trials": trials}
        _round(found, round_of)
        spent = time.monotonic() - start
        for name, count, autolog in (("usual", folds, False), ("usual + autolog", 1 if quick else 2, True)):
            # all fits do the same work: from these few the study is reckoned
            took = child("usual", fits=count, autolog=autolog, **common)["seconds"]
            for each, seconds in zip(found, took, strict=True):
                each[name] = [fits * second for second in seconds]
        if not quick and time.monotonic() - start + spent < SECONDS:
            _round(found, round_of)
    for each, number in zip(found, epochs, strict=True):
        title = f"a study of {trials} trials x {folds} folds, {number} epochs"
        console.print(_shown(title, each, judged=number == 20))
    console.print(
        "ours: automatic settings, with reference, final, figures and MLflow; bare: one process, all cores, float32, "
        f"nothing but training and scores; usual: reckoned from {folds} fits, with autolog from {1 if quick else 2}. "
        "Each in a process of its own; starts, imports and the making of databases left out\n"
    )


def _round(found: list[Found], asked: dict[str, Any]) -> None:
    ours, bare = child("ours", **asked)["seconds"], child("bare", **asked)["seconds"]
    for each, mine, theirs in zip(found, ours, bare, strict=True):
        each["ours"].append(mine)
        each["bare"].append(sum(theirs))


def _shown(title: str, found: Found, *, judged: bool) -> Any:
    shown = table(title, "who", "seconds", "times ours", *(["asked"] if judged else []))
    for name, took in found.items():
        ours = found["ours"] if name == "bare" else [Spread(tuple(found["ours"])).middle] * len(took)
        times = "" if name == "ours" else str(ratio(took, ours))
        shown.add_row(name, str(Spread(tuple(took), 1)), times, *([ASKED.get(name, "")] if judged else []))
    return shown
