"""Paired tests of runs against one that was named beforehand, where their rows can be paired."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import t

from mammo_lightning.comparison.entries import Entry
from mammo_lightning.evaluation.paired import PairedTest, compare_auc, compare_rates, holm
from mammo_lightning.evaluation.resampling import codes_of, groups_by_class
from mammo_lightning.evaluation.statistics import fold_aucs, paired_difference

OTHER_FOLDS = "other folds"
COLUMNS = ("name", "reference", "figure", "difference", "lo", "hi", "p", "holm", "method", "mark")


def hindrance(first: Entry, second: Entry) -> str:
    """Why two runs cannot be paired row by row; empty where they can."""
    ours, theirs = first.table.frame, second.table.frame
    if ours["image"].duplicated().any() or theirs["image"].duplicated().any():
        return f"a {first.level} stands in several folds"
    if alone := other_images(first, second):
        return f"other images ({alone:,} are in one of the two only)"
    if alone := len(set(ours["image"]) ^ set(theirs["image"])):
        return f"each {first.level} is told apart by other columns ({alone:,} are in one of the two only)"
    for column in ("label", "group"):
        if (differ := int((ours[column].to_numpy() != theirs[column].to_numpy()).sum())) > 0:
            return f"another {column} on {differ:,} of {len(ours):,} images"
    return ""


def other_images(first: Entry, second: Entry) -> int:
    """How many images only one of two runs has; a patient seen by other images is not the same row."""
    ours, theirs = (set(each.run.predictions(each.split).frame["image"]) for each in (first, second))
    return len(ours ^ theirs)


def paired_tests(entries: Sequence[Entry], replicates: int = 2000) -> tuple[pd.DataFrame, list[str]]:
    """Every test of every run against the reference, adjusted by Holm over all of them; and who was not tested."""
    reference = next((entry for entry in entries if entry.reference), None)
    rows: list[dict[str, object]] = []
    untested = []
    for entry in entries:
        if reference is None or entry is reference:
            continue
        if why := hindrance(entry, reference):
            untested.append(f"{entry.name} is not tested against {reference.name}: {why}.")
            continue
        same = bool((entry.table.folds == reference.table.folds).all())
        mark = "" if same else OTHER_FOLDS
        for figure, test in _tests(entry, reference, same, replicates).items():
            row: dict[str, object] = {"name": entry.name, "reference": reference.name, "figure": figure}
            row |= {"difference": test.difference.value, "lo": test.difference.lo, "hi": test.difference.hi}
            rows.append(row | {"p": test.p, "method": test.method, "mark": mark})
    table = pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "holm"])
    table.insert(COLUMNS.index("holm"), "holm", holm(table["p"].astype(float).tolist()) if rows else [])
    return table, untested


def _tests(entry: Entry, reference: Entry, same: bool, replicates: int) -> dict[str, PairedTest]:
    first, second = entry.table, reference.table
    folded = entry.folded or reference.folded
    found = {"pooled_auc" if folded else "auc": compare_auc(first, second)}
    if folded and same:
        found = {"auc": _mean_fold_test(entry, reference, replicates), **found}
    if entry.decisions is not None and reference.decisions is not None:
        found |= compare_rates(first.labels, first.groups, entry.decisions, reference.decisions)
    return found


def _mean_fold_test(entry: Entry, reference: Entry, replicates: int) -> PairedTest:
    """The difference of mean fold AUCs by the bootstrap over groups, with the p that its interval implies."""
    first = entry.table
    difference = paired_difference(first, reference.table, statistic="mean_fold_auc", replicates=replicates)
    both = [fold for fold, value in fold_aucs(first).items() if not np.isnan(value)]
    rows = np.isin(first.folds, both)
    groups = min(groups_by_class(codes_of(first.folds, first.groups)[rows], first.labels[rows]))
    freedom = max(1.0, groups - len(both))
    error = max(difference.hi - difference.value, difference.value - difference.lo) / float(t.ppf(0.975, freedom))
    if error > 0:
        p = 2 * float(t.sf(abs(difference.value) / error, freedom))
    else:
        p = float(difference.value == 0)
    return PairedTest(difference, p, "group bootstrap")
