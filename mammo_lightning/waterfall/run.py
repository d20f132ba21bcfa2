"""A waterfall as a run of its own: made, told in one sentence, drawn, kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mammo_lightning import record
from mammo_lightning.ensembles.networks import planned
from mammo_lightning.evaluation.canvas import png
from mammo_lightning.evaluation.resampling import Estimate
from mammo_lightning.evaluation.steps import Step
from mammo_lightning.evaluation.steps_figure import waterfall_figure
from mammo_lightning.progress import Progress
from mammo_lightning.runs import Runs
from mammo_lightning.tracking.journal import RunJournal
from mammo_lightning.types import Kind
from mammo_lightning.waterfall.steps import Waterfall, trial_of

REFITTED = (
    "each refitted step is one fit a fold with one seed: the intervals hold the luck of which patients were seen, not "
    "the noise of training"
)
SUBTITLE = "mean fold AUC, with 95 % intervals over patients"


def keep_waterfall(
    found: Runs, word: str, root: Path | None, progress: Progress
) -> tuple[RunJournal, list[Step], list[str]]:
    """Make the waterfall of a trial, or go on with one, as a run of kind `audit`; its run, steps and sentences.

    Args:
        found: The finished runs.
        word: The trial, or the study whose chosen trial is meant.
        root: Where the images are, if not where they were.
        progress: Told what is done; asked whether to stop.
    """
    trial = trial_of(found, word)
    plan = planned(trial, mlruns=found.mlruns, root=root, progress=progress)
    run = found.journal.run(f"waterfall-{trial.run_id}")
    synthetic = bool(plan.data.synthetic)
    tags = {"dataset": plan.recipe.dataset, "synthetic": str(synthetic).lower(), "audited": trial.run_id}
    tags |= {"folds": plan.splits.digest, "level": plan.recipe.level}
    name = f"waterfall {trial.name}"
    run.begin(kind=Kind.audit, name=name, study="", parent=None, experiment=plan.data.name, tags=tags)
    run.dataset(plan.data.name, plan.data.digest, str(plan.recipe.root or plan.data.name), split=plan.splits.digest)
    with record.ending(run):
        steps = Waterfall(found, trial, plan, run.folder / "folds", progress).make()
        refitted = [REFITTED] if any(step.auc and step.key in ("image", "patient") for step in steps) else []
        lines = [conclusion(steps), *refitted, *(f"{step.title}: {step.note}" for step in steps if step.note)]
        drawn = waterfall_figure(steps, trial.name, SUBTITLE, "SYNTHETIC" if synthetic else "")
        picture = png(drawn, record.DPI)
        run.write("waterfall.png", picture)
        run.image("waterfall", picture)
        run.write("waterfall.csv", table(steps).to_csv(index=False, float_format="%.4f"))
        run.metrics(_metrics(steps))
        run.note("\n\n".join(["SYNTHETIC images", *lines] if synthetic else lines))
    return run, steps, lines


def table(steps: Sequence[Step]) -> pd.DataFrame:
    """One row a step; empty where there is no figure."""
    rows = []
    for step in steps:
        auc, change = step.auc, step.difference
        values = (auc.value, auc.lo, auc.hi) if auc else (np.nan,) * 3
        changes = (change.value, change.lo, change.hi) if change else (np.nan,) * 3
        rows.append((step.key, step.title, *values, step.counts, *changes, step.taken, step.note))
    names = (
        "key",
        "step",
        "auc",
        "lo",
        "hi",
        "counts",
        "difference",
        "difference_lo",
        "difference_hi",
        "taken",
        "note",
    )
    return pd.DataFrame(rows, columns=list(names))


def _metrics(steps: Sequence[Step]) -> dict[str, float]:
    found = {f"step/{step.key}": round(step.auc.value, 4) for step in steps if step.auc and step.key != "external"}
    return found | {
        f"taken/{step.key}": round(0.0 - step.difference.value, 4)
        for step in steps
        if step.difference and step.key != "external"
    }


def conclusion(steps: Sequence[Step]) -> str:
    """One sentence: what of the first figure is what, and what is left."""
    judged = [step for step in steps if step.auc and not step.key.startswith("external")]
    first, last = judged[0], judged[-1]
    shown = [step for step in judged[1:] if step.lost]
    counted = [step for step in judged[1:] if step.difference and _counts(step.difference)]
    risen = [step for step in judged[1:] if step.gained or (step.difference and _counts(step.difference, rise=True))]
    rest = [step for step in judged[1:] if step not in (*shown, *counted, *risen)]
    parts = [f"{_share(step)} is {step.taken}" for step in (*shown, *counted)]
    told = f"of the AUC of {first.auc} that a {first.title} shows, {', '.join([*parts, f'{last.auc} is left'])}"
    if len(judged) == 1:
        told = f"AUC {first.auc} in a {first.title}; nothing else could be tried"
    if risen:
        told += "; rose by " + ", and by ".join(f"{_rise(step)} at {step.title}" for step in risen)
    if rest:
        told += "; not told from chance: " + ", ".join(f"{step.taken} {_share(step)}" for step in rest)
    for step in steps:
        if step.key == "external" and step.auc:
            told += f"; {step.title} {step.auc}"
    return told


def _counts(change: Estimate, *, rise: bool = False) -> bool:
    """Whether a difference without an interval is one at all."""
    return not np.isfinite(change.hi) and (change.value if rise else -change.value) > 0.0005


def _rise(step: Step) -> str:
    assert step.difference is not None
    change = step.difference
    return f"{change.value:.3f}" + (f" ({change.lo:.3f} to {change.hi:.3f})" if np.isfinite(change.hi) else "")


def _share(step: Step) -> str:
    assert step.difference is not None
    change = step.difference
    ends = f" ({0.0 - change.hi:.3f} to {0.0 - change.lo:.3f})" if np.isfinite(change.hi) else ""
    return f"{0.0 - change.value:.3f}{ends}"
