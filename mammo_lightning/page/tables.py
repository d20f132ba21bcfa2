"""Figures as tables, with intervals drawn beside the numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

import pandas as pd

from mammo_lightning.comparison.compare import Comparison
from mammo_lightning.comparison.recalibration import recalibrations
from mammo_lightning.comparison.sentence import ALPHA, AREAS, WORDS, probability, signed
from mammo_lightning.evaluation.statistics import Estimate
from mammo_lightning.page.charts import swatch
from mammo_lightning.page.svg import marker, nice_ticks, of_run

SPAN, TALL = 150.0, 20.0
INSET = 8.0
OPEN = 60  # rows of a subgroup column that are shown at once


def span(estimate: Estimate, ends: tuple[float, float], number: int, rule: float | None = None) -> str:
    """An interval drawn on a common scale."""
    place = _scale(ends)
    middle, drawn = TALL / 2, ""
    if not math.isnan(estimate.lo + estimate.hi):
        lo, hi = (place(min(max(bound, ends[0]), ends[1])) for bound in (estimate.lo, estimate.hi))
        drawn = f'<line class="whisker" {of_run(number)} x1="{lo:.1f}" x2="{hi:.1f}" y1="{middle:g}" y2="{middle:g}"/>'
    if rule is not None and ends[0] < rule < ends[1]:
        drawn = f'<line class="rule" x1="{place(rule):.1f}" x2="{place(rule):.1f}" y1="0" y2="{TALL:g}"/>' + drawn
    if ends[0] <= estimate.value <= ends[1]:
        drawn += marker(round(place(estimate.value), 1), middle, number, size=4.4)
    return f'<svg class="span" viewBox="0 0 {SPAN:g} {TALL:g}" aria-hidden="true">{drawn}</svg>'


def scale(ends: tuple[float, float]) -> str:
    """The numbers over a column of intervals."""
    place = _scale(ends)
    texts = "".join(
        f'<text x="{place(value):.1f}" y="13" text-anchor="middle">{f"{value + 0.0:g}".replace("-", "−")}</text>'
        for value in nice_ticks(*ends, 4)
    )
    return f'<svg class="span" viewBox="0 0 {SPAN:g} 16" aria-hidden="true">{texts}</svg>'


def _scale(ends: tuple[float, float]) -> Callable[[float], float]:
    return lambda value: INSET + (value - ends[0]) / (ends[1] - ends[0]) * (SPAN - 2 * INSET)


def run_table(comparison: Comparison) -> str:
    """One row a run: AUC, rates at the operating point, calibration."""
    table = comparison.table
    ends = (_floor(float(table["auc_lo"].min())), 1.0)
    folded = all(entry.folded for entry in comparison.entries)
    auc = "AUC, mean of folds" if folded else "AUC"
    heads = [("left", "Run"), ("left drawn", scale(ends)), ("", f"{auc}<small>95 % interval</small>")]
    heads += [("", f"{name}<small>95 % interval</small>") for name in ("TPR", "FPR", "Average precision")]
    heads += [("", "Brier"), ("", "ECE")]
    rows, mixed = [], table["judged"].nunique() > 1
    for number, entry in enumerate(comparison.entries):
        row = table.iloc[number]
        kinds = ("the reference" if entry.reference else "", str(row["judged"]) if mixed else "")
        about = " · ".join(filter(None, (*kinds, str(row["operating_point"]), str(row["spread"]))))
        cells = [f'<td class="left name">{swatch(number)} {escape(entry.name)}<small>{escape(about)}</small></td>']
        estimate = comparison.estimate(number, "auc")
        cells.append(f'<td class="left drawn">{span(estimate, ends, number, 0.5)}</td>')
        cells.append(_cell(estimate))
        of = {"tpr": f"{row['tp']}/{row['positive']}", "fpr": f"{row['fp']}/{row['negative']}"}
        cells += [_cell(comparison.estimate(number, name), of[name]) for name in ("tpr", "fpr")]
        cells.append(_cell(comparison.estimate(number, "ap")))
        for name, digits in (("brier", 3), ("ece", 3)):
            cells.append(f"<td>{_number(float(row[name]), digits)}</td>")
        rows.append(f"<tr {of_run(number)}>{''.join(cells)}</tr>")
    return _table(heads, rows)


def _floor(value: float) -> float:
    """A round end to the left of every interval, but no more than half of the scale for one wide one."""
    return 0.5 if math.isnan(value) else max(0.0, math.floor(min(value, 0.9) * 10) / 10)


def _cell(estimate: Estimate, of: str = "") -> str:
    if math.isnan(estimate.value):
        return "<td>–</td>"
    about = " · ".join(filter(None, (_ends(estimate, 3), of)))
    return f"<td>{estimate.value:.3f}<small>{about}</small></td>"


def _ends(estimate: Estimate, digits: int) -> str:
    """An interval; nothing where it is not known."""
    if math.isnan(estimate.lo + estimate.hi):
        return ""
    return f"{estimate.lo:.{digits}f}–{estimate.hi:.{digits}f}"


def _number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def _table(heads: list[tuple[str, str]], rows: list[str], kind: str = "") -> str:
    head = "".join(f'<th class="{side}" scope="col">{text}</th>' for side, text in heads)
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="wide"><table class="{kind}">{body}</table></div>'


def test_table(comparison: Comparison) -> str:
    """Every paired test, what is real after Holm's adjustment in bold; areas and rates on scales of their own."""
    ranks = comparison.tests["figure"].isin(AREAS)
    parts = [(title, comparison.tests[mask]) for title, mask in (("Areas", ranks), ("Rates", ~ranks)) if mask.any()]
    return "".join(_tests(comparison, title, tests) for title, tests in parts)


def _tests(comparison: Comparison, title: str, tests: pd.DataFrame) -> str:
    numbers = {entry.name: number for number, entry in enumerate(comparison.entries)}
    reach = max(0.01, 1.05 * float(tests[["lo", "hi"]].abs().max().max()))
    ends = (-min(1.0, reach), min(1.0, reach))
    heads = [("left", title), ("left", ""), ("left", scale(ends)), ("", "Difference"), ("", "95 % interval")]
    heads += [("", "p"), ("", "Holm p"), ("left wideleft", "Test")]
    rows, before = [], ""
    for row in tests.to_dict("records"):
        number, name = numbers[str(row["name"])], str(row["name"])
        estimate = Estimate(float(row["difference"]), float(row["lo"]), float(row["hi"]))
        told = f"{swatch(number)} {escape(name)}" if name != before else ""
        kinds = ["" if name == before else "first", "real" if float(row["holm"]) < ALPHA else ""]
        before = name
        cells = [f'<td class="left name">{told}</td><td class="left">{WORDS[str(row["figure"])]}</td>']
        cells.append(f'<td class="left">{span(estimate, ends, number, 0.0)}</td><td>{signed(estimate.value)}</td>')
        cells.append(f"<td>{signed(estimate.lo)} to {signed(estimate.hi)}</td>")
        cells += [f"<td>{_p(float(row[key]))}</td>" for key in ("p", "holm")]
        mark = f" ({escape(str(row['mark']))})" if row["mark"] else ""
        cells.append(f'<td class="left wideleft">{escape(str(row["method"]))}{mark}</td>')
        rows.append(f'<tr class="{" ".join(filter(None, kinds))}" {of_run(number)}>{"".join(cells)}</tr>')
    return _table(heads, rows, "dense")


def _p(value: float) -> str:
    return f"{'&lt; ' if value < 0.001 else ''}{probability(value)}"


def calibration_table(comparison: Comparison) -> str:
    """Slope, intercept, ECE and Brier score of each run, before and after each way of calibration."""
    found = recalibrations(comparison.entries)
    if found.empty:
        return ""
    numbers = {entry.name: number for number, entry in enumerate(comparison.entries)}
    heads = [("left", "Run"), ("left", "Calibration, by other folds"), ("", "Slope"), ("", "Intercept"), ("", "ECE")]
    rows, before = [], ""
    for row in found.to_dict("records"):
        name = str(row["name"])
        told = f"{swatch(numbers[name])} {escape(name)}" if name != before else ""
        kind = "first" if name != before else ""
        before = name
        cells = f'<td class="left name">{told}</td><td class="left">{escape(str(row["calibration"]))}</td>'
        digits = {"calibration_slope": 2, "calibration_intercept": 2, "ece": 3, "brier": 4}
        cells += "".join(f"<td>{_number(float(row[key]), places)}</td>" for key, places in digits.items())
        rows.append(f'<tr class="{kind}" {of_run(numbers[name])}>{cells}</tr>')
    return _table([*heads, ("", "Brier")], rows, "dense")


def confusions(comparison: Comparison) -> str:
    """What each run calls what, shaded by the share of the class."""
    drawn = []
    names = [escape(name) for name in comparison.classes]
    for number, entry in enumerate(comparison.entries):
        if entry.decisions is None:
            continue
        tp, fn, fp, tn = entry.cells()
        body = ""
        for name, (low, high) in zip(names, ((tn, fp), (fn, tp)), strict=True):
            cells = "".join(_confused(count, max(low + high, 1)) for count in (low, high))
            body += f'<tr><th scope="row">{name}</th>{cells}</tr>'
        head = "".join(f'<th scope="col">called {name}</th>' for name in names)
        matrix = f'<table class="confusion"><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>'
        about = f"<figcaption>{swatch(number)} {escape(entry.name)}</figcaption>"
        drawn.append(f'<figure {of_run(number)}><div class="wide">{matrix}</div>{about}</figure>')
    return f'<div class="grid4 matrices">{"".join(drawn)}</div>'


def _confused(count: int, of: int) -> str:
    share = count / of
    kind = ' class="full"' if share > 0.55 else ""
    return f'<td{kind} style="--share:{0.05 + 0.85 * share:.2f}">{count:,}<small>{share:.1%}</small></td>'


def subgroup_tables(comparison: Comparison) -> str:
    """For each subgroup column: every run within every value, at its one frozen threshold."""
    if comparison.subgroups.empty:
        return ""
    numbers = {entry.name: number for number, entry in enumerate(comparison.entries)}
    parts = []
    for column, table in comparison.subgroups.groupby("column", sort=False):
        heads = [("left", escape(str(column))), ("left", "Rows"), ("left", "Run"), ("left", scale((0.5, 1.0)))]
        heads += [("", "AUC"), ("", "TPR"), ("", "FPR")]
        rows = []
        for value, block in table.groupby("value", sort=False):
            for place, row in enumerate(block.to_dict("records")):
                number = numbers[str(row["name"])]
                counts = f"{row['positive']}+/{row['negative']}− · {row['patients']} patients" if not place else ""
                told = escape(str(value)) if not place else ""
                auc = _estimate(row, "auc")
                drawn = "" if math.isnan(auc.value) else span(auc, (0.5, 1.0), number)
                run = f"{swatch(number)} {escape(str(row['name']))}"
                cells = f'<td class="left"><b>{told}</b></td><td class="left">{counts}</td><td class="left">{run}</td>'
                cells += f'<td class="left">{drawn}</td>'
                cells += "".join(_line(_estimate(row, name)) for name in ("auc", "tpr", "fpr"))
                kind = "" if place else ' class="first"'
                rows.append(f"<tr{kind} {of_run(number)}>{cells}</tr>")
        is_open = " open" if len(rows) <= OPEN else ""
        body = _table(heads, rows, "dense")
        summary = f"<summary>{escape(str(column))}, {table['value'].nunique()} values</summary>"
        parts.append(f"<details{is_open}>{summary}{body}</details>")
    return "".join(parts)


def _line(estimate: Estimate) -> str:
    """A figure and its interval in one line."""
    if math.isnan(estimate.value):
        return "<td>–</td>"
    return f"<td>{estimate.value:.2f} <i>{_ends(estimate, 2)}</i></td>"


def _estimate(row: Mapping[Any, Any], name: str) -> Estimate:
    return Estimate(*(float(str(row[key])) for key in (name, f"{name}_lo", f"{name}_hi")))
