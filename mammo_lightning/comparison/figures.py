"""The figures of each run of a comparison, on all its rows and within subgroups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo_lightning.comparison.entries import Entry
from mammo_lightning.evaluation.proportions import share_of_groups
from mammo_lightning.evaluation.statistics import Estimate, fold_aucs, intervals, mean_fold_auc_interval
from mammo_lightning.evaluation.subgroups import varies_within
from mammo_lightning.types import CORE_COLUMNS, PLACE_COLUMNS

REPLICATES = 1000
SUBGROUP_VALUES = range(2, 13)
FIGURES = ("auc", "pooled_auc", "ap", "tpr", "fpr", "brier", "calibration_slope", "calibration_intercept", "ece")
NONE = Estimate(math.nan, math.nan, math.nan)

Bools = NDArray[np.bool_]


def figures(entry: Entry, replicates: int = REPLICATES) -> dict[str, Estimate]:
    """Every figure of a run with its interval from a bootstrap over groups."""
    table, blank = entry.table, np.zeros(len(entry.table), bool)
    found = intervals(table, blank if entry.decisions is None else entry.decisions, replicates=replicates)
    sure = found if entry.sure is entry.table else intervals(entry.sure, blank, replicates=replicates)
    kept = {name: sure[name] for name in FIGURES[5:]} | {"ap": found["ap"], "pooled_auc": found["auc"]}
    kept |= {} if entry.probable else dict.fromkeys(FIGURES[5:], NONE)
    kept["auc"] = mean_fold_auc_interval(table, replicates=replicates) if entry.folded else found["auc"]
    for name, label in (("tpr", 1), ("fpr", 0)):
        kept[name] = NONE if entry.decisions is None else found[name]
        if kept[name].value in (0.0, 1.0):  # a bootstrap of what never varies is empty
            kept[name] = _share(entry, table.labels == label)
    return {name: kept[name] for name in FIGURES}


def _share(entry: Entry, rows: Bools) -> Estimate:
    """The share of some rows that are called positive."""
    if entry.decisions is None or not rows.any():
        return NONE
    return share_of_groups(entry.decisions[rows], entry.table.groups[rows])


def row_of(entry: Entry, estimates: Mapping[str, Estimate]) -> dict[str, object]:
    """A run's row of the table."""
    frame, folds = entry.table.frame, list(fold_aucs(entry.table).values())
    positive = int(entry.table.labels.sum())
    row: dict[str, object] = {"name": entry.name, "run": entry.run.run_id, "kind": str(entry.run.kind)}
    row |= {"judged": entry.judged, "reference": entry.reference, "operating_point": entry.point}
    row |= {"threshold": entry.threshold, "positive": positive, "negative": len(frame) - positive}
    row |= {"patients": frame["patient"].nunique(), "groups": frame["group"].nunique()}
    for name, each in estimates.items():
        row |= {name: each.value, f"{name}_lo": each.lo, f"{name}_hi": each.hi}
    row |= dict(zip(("tp", "fn", "fp", "tn"), entry.cells(), strict=True))
    row |= {"fold_auc_min": np.nanmin(folds), "fold_auc_max": np.nanmax(folds)} if entry.folded else {}
    return row


def subgroups_of(entries: Sequence[Entry], replicates: int = REPLICATES) -> pd.DataFrame:
    """Each run within each value of each subgroup column, at its one threshold; no AUC where one class is."""
    rows = []
    for entry in entries:
        for column in subgroup_columns(entry):
            values = entry.table.frame[column].astype(object)
            told = values.where(values.notna(), "unknown").astype(str).to_numpy()
            for value in sorted(set(told)):
                mask = told == value
                rows.append(_subgroup(entry, column, value, mask, replicates))
    return pd.DataFrame(rows)


def subgroup_columns(entry: Entry) -> list[str]:
    """Columns with two to twelve values, each of which holds for all that a row stands for."""
    patches, table = entry.run.predictions(entry.split), entry.table.frame
    skip = {*CORE_COLUMNS, *PLACE_COLUMNS} - {"view"}
    columns = [name for name in table if name not in skip and not str(name).startswith(("p_", "q_"))]
    found = []
    for name in map(str, columns):
        if table[name].nunique(dropna=False) not in SUBGROUP_VALUES:
            continue
        if varies_within(patches, name, entry.level):
            continue
        found.append(name)
    return found


def _subgroup(entry: Entry, column: str, value: str, mask: Bools, replicates: int) -> dict[str, object]:
    part, labels = entry.table.where(mask), entry.table.labels
    positive = int(part.labels.sum())
    both = 0 < positive < len(part)
    called = np.zeros(len(part), bool)
    auc = intervals(part, called, replicates=replicates)["auc"] if both else NONE
    row: dict[str, object] = {"column": column, "value": value, "name": entry.name, "positive": positive}
    row |= {"negative": len(part) - positive, "patients": part.frame["patient"].nunique()}
    rates = {"tpr": _share(entry, mask & (labels == 1)), "fpr": _share(entry, mask & (labels == 0))}
    for name, each in {"auc": auc, **rates}.items():
        row |= {name: each.value, f"{name}_lo": each.lo, f"{name}_hi": each.hi}
    return row
