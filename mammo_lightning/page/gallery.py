"""The images that runs get wrong, side by side with what each run said."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from typing import Any

import pandas as pd

from mammo_lightning.comparison.compare import Comparison
from mammo_lightning.page.svg import of_run

WIDE = 150.0


def gallery(comparison: Comparison, rows: pd.DataFrame, pictures: Mapping[str, bytes]) -> str:
    """Missed positives, then false alarms; an image without a picture stands by its name.

    Args:
        comparison: The runs.
        rows: As `comparison.hardest.hardest` gives them.
        pictures: PNG files by the name of the row.
    """
    negative, positive = comparison.classes
    parts = []
    for label, title in ((1, f"{positive}, called {negative}"), (0, f"{negative}, called {positive}")):
        found = rows[rows["label"] == label]
        if len(found):
            cards = "".join(_card(comparison, row, pictures) for row in found.to_dict("records"))
            parts.append(f'<h3>{escape(title)}</h3><div class="wall">{cards}</div>')
    return "".join(parts)


def _card(comparison: Comparison, row: Mapping[Any, Any], pictures: Mapping[str, bytes]) -> str:
    name = str(row["image"])
    if name in pictures:
        data = base64.b64encode(pictures[name]).decode()
        picture = f'<img alt="{escape(name)}" src="data:image/png;base64,{data}">'
    else:
        picture = '<div class="none">no image here</div>' if pictures else ""
    wrong = f"{row['missed']} of {row['of']} wrong"
    words = f'<figcaption title="{escape(name)}">{escape(_tail(name))}<br>{escape(wrong)}</figcaption>'
    return f"<figure>{picture}{_strip(comparison, row)}{words}</figure>"


def _strip(comparison: Comparison, row: Mapping[Any, Any]) -> str:
    """The scores of the runs from 0 to 1, a line each, with its threshold."""
    numbers = [n for n in range(len(comparison.entries)) if pd.notna(row.get(f"score_{n}"))]
    tall = 9.0 * len(numbers) + 4
    drawn = []
    for place, number in enumerate(numbers):
        entry, y = comparison.entries[number], 6.0 + 9.0 * place
        x = 4 + float(str(row[f"score_{number}"])) * (WIDE - 8)
        title = f"<title>{escape(entry.name)}: {float(str(row[f'score_{number}'])):.3f}</title>"
        body = f'<line class="grid" x1="4" x2="{WIDE - 4:g}" y1="{y:g}" y2="{y:g}"/>'
        if 0 <= entry.threshold <= 1:
            at = 4 + entry.threshold * (WIDE - 8)
            body += f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{y - 3.5:g}" y2="{y + 3.5:g}"/>'
        body += f'<circle class="mark" {of_run(number)} cx="{x:.1f}" cy="{y:g}" r="4.2">{title}</circle>'
        drawn.append(f"<g {of_run(number)}>{body}</g>")
    return f'<svg class="strip" viewBox="0 0 {WIDE:g} {tall:g}">{"".join(drawn)}</svg>'


def _tail(name: str) -> str:
    """The end of a long path says which file it is."""
    return name if len(name) <= 24 else f"…{name[-23:]}"
