"""What paired tests add up to, in plain words."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mammo_lightning.comparison.entries import Entry

ALPHA = 0.05
WORDS = {"auc": "AUC", "pooled_auc": "pooled AUC", "tpr": "TPR", "fpr": "FPR"}
AREAS = ("auc", "pooled_auc")
NAMED = 4  # differences told in the sentence

Rows = Sequence[Mapping[Any, Any]]


@dataclass(frozen=True)
class _Told:
    """Differences in words, and the runs they speak for (none where only the threshold differs)."""

    words: str
    winners: tuple[str, ...] = ()


def sentence(entries: Sequence[Entry], tests: pd.DataFrame, chosen: Container[str] = ()) -> str:
    """Which differences are real, in one sentence; a second one says in whose favour the tests lean.

    Args:
        entries: The runs.
        tests: As `paired_tests` gives them.
        chosen: Names of runs that were chosen among others on these very rows.
    """
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
    told = _told(real)
    shown, more = told[:NAMED], len(told) - NAMED
    rest = (
        f"{more} more {'is' if more == 1 else 'are'} in the table of tests"
        if more > 0
        else "no other difference is shown"
    )
    words = "; ".join([*(each.words for each in shown), rest])
    if not real["figure"].isin(AREAS).any():
        counted = tests if real.empty else tests[tests["figure"].isin(AREAS)]
        least = probability(float(counted["holm"].min()))
        what = f"({len(counted)} test{'s' if len(counted) > 1 else ''}, smallest Holm-adjusted p = {least})"
        if real.empty:
            return f"No difference from {reference.name} is shown {what}."
        words = f"No difference in AUC from {reference.name} is shown {what}; at their operating points {words}"
    return f"{words}.{_leaning([name for each in shown for name in each.winners if name in chosen])}"


def _areas(real: pd.DataFrame) -> pd.DataFrame:
    """Real differences of areas; a pooled AUC that says the same as the mean of folds is not told twice."""
    areas = real[real["figure"].isin(AREAS)]
    means = {row["name"]: row["difference"] > 0 for row in areas[areas["figure"] == "auc"].to_dict("records")}
    again = [
        row["figure"] != "auc" and means.get(row["name"]) == (row["difference"] > 0) for row in areas.to_dict("records")
    ]
    return areas[~np.array(again, bool)]


def _leaning(winners: Sequence[str]) -> str:
    """That the best of many trials looks better than it is on the rows it was the best on."""
    names = list(dict.fromkeys(winners))
    if not names:
        return ""
    were, their = ("were", "their") if len(names) > 1 else ("was", "its")
    return f" {_listed(names)} {were} chosen on these rows: a p in {their} favour is too small (--test)."


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _told(real: pd.DataFrame) -> list[_Told]:
    """Every real difference: runs by their area, the rates of each beside it, then those of other runs."""
    areas, rates = _areas(real), real[~real["figure"].isin(AREAS)]
    beside = {str(name): rows.to_dict("records") for name, rows in rates.groupby("name", sort=False)}
    told = []
    for row in areas.to_dict("records"):
        told.append(_told_area(row, beside.pop(str(row["name"]), [])))
    moved = dict[bool, list[Rows]]()
    for rows in beside.values():
        if _moved(rows):
            moved.setdefault(rows[0]["difference"] > 0, []).append(rows)
            continue
        for row in rows:
            words = f"{row['name']} has {_rate(row)} than {row['reference']}: {_difference(row)}"
            told.append(_Told(words, (_winner(row),)))
    return told + [_told_moved(runs) for runs in moved.values()]


def _told_area(row: Mapping[Any, Any], rates: Rows) -> _Told:
    verb = "beats" if row["difference"] > 0 else "is worse than"
    words = f"{row['name']} {verb} {row['reference']} by {_difference(row, WORDS[row['figure']])}"
    if _moved(rates):
        words += f", calling {_more(rates)} rows positive ({_signs(rates)}; {_most(rates)})"
        return _Told(words, (_winner(row),))
    if rates:
        each = [f"{_rate(rate)} ({signed(rate['difference'])}, {_most([rate])})" for rate in rates]
        against = all(_winner(rate) != _winner(row) for rate in rates)
        words += f", {'but ' if against else ''}with {_listed(each)}"
    return _Told(words, tuple(_winner(each) for each in (row, *rates)))


def _winner(row: Mapping[Any, Any]) -> str:
    """In whose favour a difference is: less is better of the FPR alone."""
    return str(row["name"] if (row["difference"] > 0) == (row["figure"] != "fpr") else row["reference"])


def _moved(rates: Rows) -> bool:
    """Whether both rates move one way: it is the threshold that differs, not how good the run is."""
    return len(rates) > 1 and len({row["difference"] > 0 for row in rates}) == 1


def _rate(row: Mapping[Any, Any]) -> str:
    return f"a {'higher' if row['difference'] > 0 else 'lower'} {WORDS[row['figure']]}"


def _more(rates: Rows) -> str:
    return "more" if rates[0]["difference"] > 0 else "fewer"


def _signs(rates: Rows) -> str:
    return ", ".join(f"{WORDS[row['figure']]} {signed(row['difference'])}" for row in rates)


def _most(rates: Rows) -> str:
    p = max(row["holm"] for row in rates)
    return f"Holm p {'up to' if len(rates) > 1 and p >= 0.001 else _sign(p)} {probability(p)}"


def _told_moved(runs: Sequence[Rows]) -> _Told:
    names = [str(rows[0]["name"]) for rows in runs]
    each = "; ".join(
        f"{name} {_signs(rows)}" if len(runs) > 1 else _signs(rows) for name, rows in zip(names, runs, strict=True)
    )
    most = _most([row for rows in runs for row in rows])
    verb = "call" if len(runs) > 1 else "calls"
    words = f"{_listed(names)} {verb} {_more(runs[0])} rows positive than {runs[0][0]['reference']}"
    return _Told(f"{words} ({each}; {most})")


def _difference(row: Mapping[Any, Any], what: str = "") -> str:
    mark = f", {row['mark']}" if row["mark"] else ""
    how = f"{signed(row['lo'])} to {signed(row['hi'])}, Holm p {_sign(row['holm'])} {probability(row['holm'])}{mark}"
    return f"{signed(row['difference'])} {what} ({how})".replace("  ", " ")


def _sign(p: float) -> str:
    return "<" if p < 0.001 else "="


def signed(value: float) -> str:
    """A difference with its sign and three decimals; a zero has none."""
    if math.isnan(value):
        return "–"
    rounded = round(value, 3) + 0.0
    return f"{rounded:+.3f}".replace("-", "−") if rounded else "0.000"


def probability(value: float) -> str:
    """A p as papers print it."""
    return "–" if math.isnan(value) else "0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"
