"""A whole study against a bare loop, and against the way it is usually written."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.bench.measure import Spread, child, ratio, table

ASKED = {"bare": "at least 1.6", "usual": "at least 1.6", "usual + autolog": "at least 2.0"}
Found = dict[str, list[float]]


def measure(console: Console, quick: bool) -> None:
    """Print the table of 20 epochs and that of 2."""
    patients, folds, trials, epochs = (24, 2, 2, [2, 1]) if quick else (110, 5, 6, [20, 2])
    fits = trials * folds
    found: list[Found] = [{} for _ in epochs]
    with tempfile.TemporaryDirectory() as folder:
        common = {"patients": patients, "folds": folds, "mlruns": str(Path(folder) / "mlruns"), "epochs": epochs}
        # half of the bare trials before ours and half after, so that a machine that drifts favours neither
        first = child("bare", **common, trials=trials // 2)["seconds"]
        ours = child("ours", **common, trials=trials)["seconds"]
        second = child("bare", **common, trials=trials // 2)["seconds"]
        for each, whole, *halves in zip(found, ours, first, second, strict=True):
            each["ours"] = [whole]
            each["bare"] = [2 * sum(half) for half in halves]
        for name, count, autolog in (("usual", folds, False), ("usual + autolog", 1, True)):
            # all fits do the same work: from these few the study is reckoned
            took = child("usual", fits=count, autolog=autolog, **common)["seconds"]
            for each, seconds in zip(found, took, strict=True):
                each[name] = [fits * second for second in seconds]
    for each, number in zip(found, epochs, strict=True):
        title = f"a study of {trials} trials x {folds} folds, {number} epochs"
        console.print(_shown(title, each, judged=number == 20))
    console.print(
        "ours: automatic settings, with reference, final, figures and MLflow; bare: one process, all cores, float32, "
        "nothing but training and scores, half of it before ours and half after; usual: reckoned from "
        f"{folds} fits, with autolog from 1. Each in a process of its own; starts, imports and the making of databases "
        "left out\n"
    )


def _shown(title: str, found: Found, *, judged: bool) -> Any:
    shown = table(title, "who", "seconds", "times ours", *(["asked"] if judged else []))
    for name, took in found.items():
        times = "" if name == "ours" else str(ratio(took, found["ours"] * len(took)))
        shown.add_row(name, str(Spread(tuple(took), 1)), times, *([ASKED.get(name, "")] if judged else []))
    return shown
