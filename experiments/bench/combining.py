"""How fast ensembles are assembled from what runs logged: a thousand candidates over two hundred runs."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from experiments.bench.measure import Spread, in_turns, table, timed

RUNS, IMAGES, CANDIDATES = 200, 10_000, 1_000
SECONDS = 2  # asked


def measure(console: Console, quick: bool) -> None:
    """Print the table."""
    from mammo_lightning.ensembles.assemble import Wish, assemble
    from mammo_lightning.ensembles.members import pool
    from mammo_lightning.evaluation.combining import RULES, greedy_weights
    from mammo_lightning.runs import Runs

    runs, images, rounds = (8, 400, 2) if quick else (RUNS, IMAGES, 5)
    with tempfile.TemporaryDirectory() as name:
        _write(Path(name), runs, images)
        members = Runs(Path(name)).of_study("many")
        read = timed(partial(pool, members))
        found = pool(members)
    labels, folds, draws = found.rows.labels, found.rows.folds, max(1, CANDIDATES // RUNS)
    seconds = in_turns(rounds, candidates=lambda: timed(lambda: greedy_weights(found.raw, labels, folds, draws=draws)))
    shown = table(f"ensembles of {runs} runs of {images:,} images", "what", "seconds", "asked")
    shown.add_row("reading and aligning the predictions, digests checked", f"{read:.2f}", "")
    shown.add_row(f"judging {draws * runs:,} candidates", str(Spread(tuple(seconds["candidates"]))), f"{SECONDS}")
    for rule in RULES:
        wish = Wish(rule, 5, calibration="platt", operating_point="youden")
        shown.add_row(f"{rule}, 5 members, cross-fitted", f"{timed(partial(assemble, found, wish)):.2f}", "")
    console.print(shown)
    console.print("greedy calibrates all runs in every fold first; of the others only the chosen are calibrated\n")


def _write(mlruns: Path, runs: int, images: int) -> None:
    """A study whose trials kept predictions and nothing else."""
    from mammo_lightning import record
    from mammo_lightning.recipe import make_recipe
    from mammo_lightning.tracking.journal import Journal
    from mammo_lightning.types import Kind, Outcome, Predictions

    journal, rng = Journal(mlruns), np.random.default_rng(0)
    study = journal.run("many-000000")
    study.begin(kind=Kind.study, name="many", study="many", parent=None, experiment="bench", tags={})
    study.write("recipe.json", make_recipe({"name": "many", "mlruns": str(mlruns)}).model_dump_json())
    patient = np.arange(images) // 4
    names = np.char.add("p", patient.astype(str))
    labels = (patient % 3 == 0).astype(int)
    frame = pd.DataFrame({"image": np.arange(images).astype(str), "patient": names, "group": names, "view": ""})
    frame = frame.assign(fold=patient % 5, split="val", label=labels)
    for number in range(runs):
        run = journal.run(f"many-000000.t{number:03d}")
        run.begin(
            kind=Kind.trial, name=f"t{number:03d}", study="many", parent=study.run_id, experiment="bench", tags={}
        )
        scores = 1 / (1 + np.exp(-(2 * labels - 1 + rng.normal(scale=2, size=images))))
        record.keep(run, "val", Predictions(frame.assign(p_negative=1 - scores, p_positive=scores)))
        run.end(Outcome.completed)
    study.end(Outcome.completed)
