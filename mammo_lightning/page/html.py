"""The page: the sentence first, then what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

import pandas as pd

from mammo_lightning.comparison.compare import Comparison
from mammo_lightning.page import charts, tables
from mammo_lightning.page.benefit import decision
from mammo_lightning.page.gallery import gallery
from mammo_lightning.page.svg import of_run

COLOURS = 8
LONG = 130  # letters of a sentence that is set smaller
MAKER = "mammo_lightning compare"
#: nothing but what stands in the file itself, whatever is in it
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def page(
    comparison: Comparison,
    *,
    prevalence: float | None = None,
    published: Mapping[str, tuple[float, float]] | None = None,
    hard: pd.DataFrame | None = None,
    pictures: Mapping[str, bytes] | None = None,
    about: str = "",
) -> str:
    """The comparison as one HTML file.

    Args:
        comparison: What is known of the runs.
        prevalence: Of the decision curve; None is that of the rows.
        published: FPR and TPR of points from elsewhere, by name.
        hard: The rows of the gallery; None leaves it out.
        pictures: PNG files by the name of the row.
        about: The last line: from what the page was made.
    """
    here = Path(__file__).parent
    title = f"{comparison.dataset}: {len(comparison.entries)} runs compared"
    style = (here / "page.css").read_text(encoding="utf-8") + _colours(comparison)
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="generator" content="{MAKER}">'
        f"<title>{escape(title)}</title><style>{style}</style>"
    )
    body = [_header(comparison), _chips(comparison), *_sections(comparison, prevalence, published or {})]
    if hard is not None and len(hard):
        body.append(_section("The hardest images", *_hard(comparison, hard, pictures or {})))
    body.append(f'<footer>{escape(about)}</footer><div id="tip" hidden></div>')
    script = (here / "page.js").read_text(encoding="utf-8")
    content = f"<head>{head}</head><body>{''.join(body)}<script>{script}</script></body>"
    return f'<!doctype html><html lang="en">{content}</html>'


def is_page(path: Path) -> bool:
    """Whether a file is a comparison that was written before."""
    with path.open("rb") as stream:
        return f'content="{MAKER}"'.encode() in stream.read(2000)


def _colours(comparison: Comparison) -> str:
    """One colour a run; from the ninth on the colours come again, dashed."""
    rules, place = [], 0
    for number, entry in enumerate(comparison.entries):
        own = f'[data-run="{number}"]'
        if entry.reference:
            rules.append(f"{own}{{--c:var(--ref)}}{own}.line{{stroke-dasharray:5 3}}")
            continue
        rules.append(f"{own}{{--c:var(--r{place % COLOURS})}}")
        if place >= COLOURS:
            rules.append(f"{own}.line{{stroke-dasharray:{9 - 2 * (place // COLOURS)} 4}}")
        place += 1
    return "".join(rules)


def _header(comparison: Comparison) -> str:
    entry = comparison.entries[0]
    judged = " and ".join(dict.fromkeys(str(each) for each in comparison.table["judged"]))
    facts = [f"{comparison.dataset}, {judged}", f"one row a {comparison.level}", entry.table.counts().replace("-", "−")]
    badge = ' <span class="badge">SYNTHETIC</span>' if comparison.synthetic else ""
    notes = "".join(f"<li>{escape(line)}</li>" for line in comparison.lines[1:])
    kind = ' class="long"' if len(comparison.sentence) > LONG else ""
    return (
        f"<header><p>{escape(' · '.join(facts))}{badge}</p><h1{kind}>{escape(comparison.sentence)}</h1>"
        f"{f'<ul class=notes>{notes}</ul>' if notes else ''}</header>"
    )


def _chips(comparison: Comparison) -> str:
    chips = "".join(
        f'<button type="button" aria-pressed="true" title="{escape(entry.run.name)}" {of_run(number)}>'
        f"{charts.swatch(number)}{escape(entry.name)}</button>"
        for number, entry in enumerate(comparison.entries)
    )
    return f'<nav id="runs" aria-label="Runs: click to hide, double-click to see one alone">{chips}</nav>'


def _section(title: str, about: str, content: str) -> str:
    lead = f"<p>{about}</p>" if about else "<p></p>"
    return f"<section><h2>{escape(title)}</h2>{lead}{content}</section>"


def _sections(
    comparison: Comparison, prevalence: float | None, published: Mapping[str, tuple[float, float]]
) -> list[str]:
    reference = comparison.reference
    each = "Intervals are from a bootstrap over groups of patients; at 0 and 1 they are exact, on the number of groups."
    parts = [_section("The runs", f"{each} Rates are at each run’s own operating point.", tables.run_table(comparison))]
    if reference is not None and len(comparison.tests):
        what = (
            f"Each run less {escape(reference.name)}, on the same rows. Holm’s adjustment is over all "
            f"{len(comparison.tests)} tests; what stays below 0.05 is in bold. Rates are tested at "
            "the thresholds as they are."
        )
        parts.append(_section("Paired tests", what, tables.test_table(comparison)))
    pair = charts.roc(comparison, published) + charts.precision(comparison)
    parts.append(_section("Discrimination", "How well scores rank rows.", f'<div class="grid2">{pair}</div>'))
    if any(entry.probable for entry in comparison.entries):
        pair = charts.calibration(comparison) + decision(comparison, prevalence)
        words = "Whether scores can be read as probabilities, and what acting on them is worth."
        beside = tables.calibration_table(comparison)
        parts.append(_section("Probabilities", words, f'<div class="grid2">{pair}</div>{beside}'))
    parts.append(_section("Scores", "", charts.histograms(comparison)))
    if any(entry.decisions is not None for entry in comparison.entries):
        words = "At the operating point; shares are of the class in the row."
        parts.append(_section("Confusion", words, tables.confusions(comparison)))
    if subgroups := tables.subgroup_tables(comparison):
        words = "At each run’s one operating point. Few patients make wide intervals, and none is tested here."
        parts.append(_section("Subgroups", words, subgroups))
    if curves := charts.learning(comparison):
        words = "Means over folds, of the runs that were trained by epochs."
        parts.append(_section("Learning", words, f'<div class="grid3">{curves}</div>'))
    return parts


def _hard(comparison: Comparison, hard: pd.DataFrame, pictures: Mapping[str, bytes]) -> tuple[str, str]:
    words = (
        f"Missed {escape(comparison.classes[1])} first. Under each image a line a run: its score from 0 to 1, "
        "the tick is its threshold. Each image has a grey scale of its own."
    )
    return words, gallery(comparison, hard, pictures)
