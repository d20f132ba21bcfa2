"""A whole study against a bare loop, and against the way it is usually written."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.bench.measure import Spread, child, ratio, table

USUAL = 3  # fits
ASKED = {"bare": "at least 1.6", "usual": "at least 1.6", "usual + autolog": "at least 2.0"}
Found = dict[str, list[float]]


def measure(console: Console, quick: bool) -> None:
    """Print the table of 20 epochs and that of 2."""
    patients, folds, trials, epochs = (24, 2, 2, [2, 1]) if quick else (110, 5, 6, [20, 2])
    fits = trials * folds
    found: list[Found] = [{} for _ in epochs]
    with tempfile.TemporaryDirectory() as folder:
        common = {"patients": patients, "folds": folds, "mlruns": str(Path(folder) / "mlruns"), "epochs": epochs}
        # all fits do the same work, so that the others' study is reckoned from fewer of them; bare trials before and
        # after ours, so that a machine that drifts favours neither
        part = max(1, trials // 3)
        before = child("bare", **common, trials=part)["seconds"]
        ours = child("ours", **common, trials=trials)["seconds"]
        after = child("bare", **common, trials=part)["seconds"]
        for each, whole, *parts in zip(found, ours, before, after, strict=True):
            each["ours"] = [whole]
            each["bare"] = [trials / part * sum(took) for took in parts]
        for name, count, autolog in (("usual", USUAL, False), ("usual + autolog", 1, True)):
            took = child("usual", fits=count, autolog=autolog, **common)["seconds"]
            for each, seconds in zip(found, took, strict=True):
                each[name] = [fits * second for second in seconds]
    for each, number in zip(found, epochs, strict=True):
        title = f"a study of {trials} trials x {folds} folds, {number} epochs"
        console.print(_shown(title, each, judged=number == 20))
    console.print(
        "ours: automatic settings, with reference, final, figures and MLflow; bare: one process, all cores, float32, "
        f"nothing but training and scores, reckoned from {part} trials before ours and {part} after; usual: reckoned "
        f"from {USUAL} fits, with autolog from 1. Each in a process of its own; starts, imports and the making of "
        "databases left out\n"
    )


def _shown(title: str, found: Found, *, judged: bool) -> Any:
    shown = table(title, "who", "seconds", "times ours", *(["asked"] if judged else []))
    for name, took in found.items():
        times = "" if name == "ours" else str(ratio(took, found["ours"] * len(took)))
        shown.add_row(name, str(Spread(tuple(took), 1)), times, *([ASKED.get(name, "")] if judged else []))
    return shown
