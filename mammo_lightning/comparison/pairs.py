"""Paired tests of runs against one that was named beforehand, and what they add up to in plain words."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t

from mammo_lightning.comparison.entries import Entry
from mammo_lightning.evaluation.paired import PairedTest, compare_auc, compare_rates, holm
from mammo_lightning.evaluation.resampling import codes_of, groups_by_class
from mammo_lightning.evaluation.statistics import fold_aucs, paired_difference

ALPHA = 0.05
OTHER_FOLDS = "other folds"
WORDS = {"auc": "AUC", "pooled_auc": "pooled AUC", "tpr": "TPR", "fpr": "FPR"}
COLUMNS = ("name", "reference", "figure", "difference", "lo", "hi", "p", "holm", "method", "mark")
AREAS = ("auc", "pooled_auc")
NAMED = 4  # differences told in the sentence


def hindrance(first: Entry, second: Entry) -> str:
    """Why two runs cannot be paired row by row; empty where they can."""
    ours, theirs = first.table.frame, second.table.frame
    if ours["image"].duplicated().any() or theirs["image"].duplicated().any():
        return f"a {first.level} stands in several folds"
    alone = set(ours["image"]) ^ set(theirs["image"])
    if alone:
        return f"other images ({len(alone):,} are in one of the two only)"
    for column in ("label", "group"):
        if (differ := int((ours[column].to_numpy() != theirs[column].to_numpy()).sum())) > 0:
            return f"another {column} on {differ:,} of {len(ours):,} images"
    return ""


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


def sentence(entries: Sequence[Entry], tests: pd.DataFrame) -> str:
    """Which differences are real, in one sentence."""
    reference = next((entry for entry in entries if entry.reference), None)
    if reference is None:
        if len(entries) == 1:
            return f"{entries[0].name} stands alone: there is no other run to compare it with."
        return (
            "Which differences are real is not tested: no reference was named beforehand "
            "(--reference RUN, or --reference linear)."
        )
    if tests.empty:
        return f"No run could be tested against {reference.name}."
    real = tests[tests["holm"] < ALPHA].sort_values("p", kind="stable")
    areas, rates = real[real["figure"].isin(AREAS)], real[~real["figure"].isin(AREAS)]
    # the pooled AUC is told only where it is all there is
    areas = areas[(areas["figure"] == "auc") | ~areas["name"].isin(areas.loc[areas["figure"] == "auc", "name"])]
    told = [_told_area(row) for row in areas.to_dict("records")]
    others = [name for name in rates["name"].unique() if name not in set(areas["name"])]
    told += _told_rates([tests[tests["name"] == name] for name in others])
    shown, more = told[:NAMED], len(told) - NAMED
    rest = (
        f"{more} more {'is' if more == 1 else 'are'} in the table of tests"
        if more > 0
        else "no other difference is shown"
    )
    if len(areas):
        return f"{'; '.join(shown)}; {rest}."
    counted = tests if rates.empty else tests[tests["figure"].isin(AREAS)]
    least = probability(float(counted["holm"].min()))
    what = f"({len(counted)} test{'s' if len(counted) > 1 else ''}, smallest Holm-adjusted p = {least})"
    if rates.empty:
        return f"No difference from {reference.name} is shown {what}."
    return f"No difference in AUC from {reference.name} is shown {what}; at their operating points {'; '.join(shown)}."


def _told_area(row: Mapping[Any, Any]) -> str:
    verb = "beats" if row["difference"] > 0 else "is worse than"
    return f"{row['name']} {verb} {row['reference']} by {_difference(row, WORDS[row['figure']])}"


def _told_rates(runs: Sequence[pd.DataFrame]) -> list[str]:
    """Rates that differ; where both of a run move one way it is the threshold that differs, not how good the run is."""
    told, moved = [], dict[str, list[dict[Hashable, Any]]]()
    for tests in runs:
        rates = {row["figure"]: row for row in tests.to_dict("records") if row["figure"] not in AREAS}
        if rates["tpr"]["difference"] * rates["fpr"]["difference"] > 0:
            word = "more" if rates["tpr"]["difference"] > 0 else "fewer"
            moved.setdefault(word, []).append(min(rates.values(), key=lambda row: row["holm"]))
            continue
        for row in (row for row in rates.values() if row["holm"] < ALPHA):
            direction = "higher" if row["difference"] > 0 else "lower"
            told.append(
                f"{row['name']} has a {direction} {WORDS[row['figure']]} than {row['reference']}: {_difference(row)}"
            )
    for word, rows in moved.items():
        names = " and ".join(filter(None, (", ".join(row["name"] for row in rows[:-1]), rows[-1]["name"])))
        verb = "call" if len(rows) > 1 else "calls"
        each = ", ".join(f"{WORDS[row['figure']]} {signed(row['difference'])}" for row in rows)
        p = max(row["holm"] for row in rows)
        most = "Holm p up to" if len(rows) > 1 else f"Holm p {_sign(p)}"
        told.append(
            f"{names} {verb} {word} rows positive than {rows[0]['reference']} ({each}; {most} {probability(p)})"
        )
    return told


def _difference(row: Mapping[Any, Any], what: str = "") -> str:
    mark = f", {row['mark']}" if row["mark"] else ""
    how = f"{signed(row['lo'])} to {signed(row['hi'])}, Holm p {_sign(row['holm'])} {probability(row['holm'])}{mark}"
    return f"{signed(row['difference'])} {what} ({how})".replace("  ", " ")


def _sign(p: float) -> str:
    return "<" if p < 0.001 else "="


def signed(value: float) -> str:
    """A difference with its sign and three decimals; a zero has none."""
    rounded = round(value, 3) + 0.0
    return f"{rounded:+.3f}".replace("-", "−") if rounded else "0.000"


def probability(value: float) -> str:
    """A p as papers print it."""
    return "0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"
