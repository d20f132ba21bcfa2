"""What every run leaves: its Predictions, and everything that follows from them, in the journal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo_lightning.evaluation import curves, several
from mammo_lightning.evaluation.statistics import Estimate, intervals, mean_fold_auc_interval
from mammo_lightning.progress import Interrupted
from mammo_lightning.tracking.journal import RunJournal
from mammo_lightning.types import Level, OperatingPoint, Outcome, Predictions

HEADLINE = ("auc", "ap", "tpr", "fpr", "mcc", "accuracy")
CALIBRATION = ("brier", "calibration_slope", "calibration_intercept", "ece")
REPLICATES = 1000
#: the artifact that holds the predictions of each split
TABLES = {split: f"predictions{'' if split == 'val' else f'_{split}'}.parquet" for split in ("val", "test", "external")}
TABLES["reserve"] = "predictions_reserve.parquet"  # of patients kept from all fits, in folds of their own
DPI = 200  # twice what a screen shows; 300 would cost every trial another tenth of a second


class Described(Protocol):
    """What must be known of images beyond their predictions: a dataset tells it, and so does a run."""

    @property
    def levels(self) -> list[Level]:
        """The levels that mean something."""

    @property
    def synthetic(self) -> bool:
        """Whether the images are generated."""


Decide = Any  # Callable[[Predictions, Level], tuple[NDArray[np.bool_], float]]


def record(
    run: RunJournal,
    predictions: Predictions,
    *,
    split: str,
    level: Level,
    data: Described,
    decide: Decide,
    title: str,
    calibrated: Predictions | None = None,
    by_fold: bool = True,
) -> dict[str, Estimate]:
    """Metrics with intervals at every level, figures and curves at the study's; returns the study level's.

    Where the scores were `calibrated` afterwards, that table (of the same rows) is kept too and is judged wherever
    scores are read as probabilities; what ranks or decides is of the scores themselves. Where every fold was scored
    by the same networks (not `by_fold`), the AUC is of all rows together.
    """
    suffix = "" if split == "val" else f"_{split}"
    keep(run, split, predictions)
    if calibrated is not None:
        run.write(f"predictions{suffix}_calibrated.parquet", calibrated.frame.to_parquet(index=False))
    kept: dict[str, Estimate] = {}
    for each in data.levels:
        at = predictions.at(each)
        decisions, threshold = decide(predictions, each)
        if not by_fold:
            at = Predictions(at.frame.assign(fold=0))
        estimates = dict(intervals(at, decisions, replicates=REPLICATES))
        sure = at if calibrated is None else calibrated.at(each)
        if calibrated is not None:
            judged = intervals(sure, decisions, replicates=REPLICATES)
            estimates |= {name: judged[name] for name in CALIBRATION}
        headline = f"{split}_{'pooled_' if split == 'val' else ''}auc"
        if each is level:
            name = "threshold" if split == "val" else f"{split}_threshold"
            run.metrics(_finite({headline: estimates["auc"].value, name: threshold}))
        if split == "val" and len(set(at.folds)) > 1:
            estimates = {**estimates, "auc": mean_fold_auc_interval(at, replicates=REPLICATES)}
        for name, estimate in estimates.items():
            values = {"": estimate.value, "_lo": estimate.lo, "_hi": estimate.hi}
            run.metrics(_finite({f"{split}_{each}/{name}{suffix}": value for suffix, value in values.items()}))
            if each is level and name in HEADLINE:
                run.metrics(_finite({f"{split}_{name}{suffix}": value for suffix, value in values.items()}))
        if each is Level.patch and several.targets_of(at):
            _several(run, at, split=split, data=data, title=title)
        if each is level:
            kept = estimates
            _draw(run, at, sure, decisions, threshold, estimates, split=split, data=data, title=title)
    return kept


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    """The figures that there are: the slope of constant scores is none."""
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _several(run: RunJournal, at: Predictions, *, split: str, data: Described, title: str) -> None:
    """Finer classes: each against the rest, their mean, and which is taken for which."""
    macro = several.macro_auc_interval(at)
    values = {f"{split}_macro_auc": macro.value, f"{split}_macro_auc_lo": macro.lo, f"{split}_macro_auc_hi": macro.hi}
    run.metrics(_finite(values))
    told = {name: float(value[0]) for name, value in several.each_against_the_rest(at).items()}
    run.metrics(_finite({f"{split}_target/{name}_auc": value for name, value in told.items()}))
    suffix = "" if split == "val" else f"_{split}"
    png = curves.png(several.targets_figure(at, title, "SYNTHETIC" if data.synthetic else ""), dpi=DPI)
    run.write(f"figures/targets{suffix}.png", png)
    run.image(f"targets{suffix}", png)


def _draw(
    run: RunJournal,
    at: Predictions,
    sure: Predictions,
    decisions: NDArray[np.bool_],
    threshold: float,
    estimates: Mapping[str, Estimate],
    *,
    split: str,
    data: Described,
    title: str,
) -> None:
    suffix = "" if split == "val" else f"_{split}"
    false_rate, true_rate = curves.roc_points(at)
    sensitivity, precision = curves.pr_points(at)
    for key, values in {
        f"roc{suffix}/fpr": false_rate,
        f"roc{suffix}/tpr": true_rate,
        f"pr{suffix}/recall": sensitivity,
        f"pr{suffix}/precision": precision,
    }.items():
        run.series(key, values.tolist())
    stamp = "SYNTHETIC" if data.synthetic else ""
    name = "mean fold AUC" if len(set(at.folds)) > 1 else "AUC"
    figures = {
        "roc": curves.roc_figure(at, decisions, title=title, estimate=estimates["auc"], stamp=stamp, name=name),
        "pr": curves.pr_figure(at, decisions, title=title, estimate=estimates["ap"], stamp=stamp),
        "calibration": curves.calibration_figure(sure, title=title, stamp=stamp),
        "confusion": curves.confusion_figure(at, decisions, title=title, stamp=stamp),
    }
    for key, figure in figures.items():
        png = curves.png(figure, dpi=DPI)
        run.write(f"figures/{key}{suffix}.png", png)
        if key in ("roc", "confusion"):
            run.image(f"{key}{suffix}", png)


def keep(run: RunJournal, split: str, predictions: Predictions) -> None:
    """The table of a split as an artifact, from which everything else can be computed again."""
    run.write(TABLES[split], predictions.frame.to_parquet(index=False))


def first_line(error: BaseException) -> str:
    """An error in one line; some say nothing but their name."""
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])


@contextmanager
def ending(run: RunJournal) -> Iterator[None]:
    """Whatever happens inside, the run says how it ended."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt, SystemExit):  # Lightning turns Ctrl-C into an exit
        run.end(Outcome.interrupted, "signal")
        raise
    except Exception as error:
        run.end(Outcome.failed, f"exception: {first_line(error)}")
        raise
    else:
        run.end(Outcome.completed)


def record_settings(run: RunJournal, settings: Mapping[str, Any]) -> None:
    """Settings as parameters, with logarithms beside what is searched on a log axis, and typed as an artifact."""
    import json

    logs = {f"log10_{name}": round(math.log10(settings[name]), 4) for name in ("learning_rate",)}
    run.params({**settings, **logs})
    run.write("settings.json", json.dumps(dict(settings), indent=2, sort_keys=True))


def record_curves(run: RunJournal, fold: int, curve: pd.DataFrame) -> None:
    """The learning curves of one fold."""
    for column in curve.columns.drop("epoch"):
        run.series(f"epoch/{column}/f{fold}", curve[column].tolist())


def record_point(run: RunJournal, points: Mapping[str, OperatingPoint | float], origin: str) -> None:
    """The operating point as an artifact: threshold, level, rule, and how it came about."""
    import dataclasses
    import json

    table = {
        name: dataclasses.asdict(point) if isinstance(point, OperatingPoint) else point
        for name, point in points.items()
    }
    run.write("operating_point.json", json.dumps({"origin": origin, "points": table}, indent=2, default=str))


def copy_model(run: RunJournal, folder: Path, name: str) -> None:
    """Weights and configuration of one fit, as artifacts."""
    for file in ("model.safetensors", "config.json"):
        run.artifact(folder / file, f"models/{name}/{file}")
