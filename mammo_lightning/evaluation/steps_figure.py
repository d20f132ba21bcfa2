"""The figure of a waterfall: a line that falls from step to step, each with its interval and what it lost."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mammo_lightning.evaluation.canvas import BLUE, DARK, GREY, ORANGE, SMALL, TEXT, axes, figure
from mammo_lightning.evaluation.steps import Step

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Transform

WIDE, ROW, HEAD, FOOT = 6.8, 0.52, 0.52, 0.42  # inches; two columns of a paper
LEFT, RIGHT = 2.55, 1.62  # for the words on both sides of the bars
NOTE, TAKEN = 100, 44  # characters of a line


def waterfall_figure(steps: Sequence[Step], title: str, subtitle: str = "", stamp: str = "") -> Figure:
    """Each step's AUC with its interval below the one before, and between them the part that was taken away.

    Args:
        steps: From the careless to the strict; one without an AUC is drawn as a sentence.
        title: Over the figure.
        subtitle: Under it, what is compared.
        stamp: A word across the figure (`SYNTHETIC`).
    """
    from matplotlib.transforms import blended_transform_factory

    height = HEAD + ROW * len(steps) + FOOT
    drawn = figure(height, title, subtitle, stamp)
    drawn.set_size_inches(WIDE, height)
    found = axes(drawn, (LEFT, FOOT, WIDE - LEFT - RIGHT, ROW * len(steps)))
    found.set(xlim=_reach(steps), ylim=(len(steps), 0), yticks=[])
    found.spines["left"].set_visible(False)
    found.grid(axis="y", visible=False)
    found.set_xlabel("AUC", size=TEXT, labelpad=2)
    margin = 0.035 * WIDE  # as the title's
    rows = blended_transform_factory(drawn.dpi_scale_trans, found.transData)  # inches across, steps down
    last: tuple[int, float] | None = None
    for row, step in enumerate(steps):
        if row:
            found.plot(
                [margin, WIDE - margin], [row, row], transform=rows, color="#E2E2E2", linewidth=0.5, clip_on=False,
                zorder=0,
            )  # fmt: skip
        _words(found, row, step, rows, margin)
        if step.auc is not None:
            _bar(found, row, step, last)
            last = row, step.auc.value
    return drawn


def _reach(steps: Sequence[Step]) -> tuple[float, float]:
    """Limits of the axis: all intervals, chance where one comes near it, and room beside them."""
    low = min(step.auc.lo for step in steps if step.auc)
    low = min(low, 0.5) if low < 0.6 else low
    room = max(0.04 * (1.0 - low), 0.004)
    return low - room, 1.0 + room


def _bar(found: Axes, row: int, step: Step, last: tuple[int, float] | None) -> None:
    assert step.auc is not None
    at, value = row + 0.5, step.auc.value
    if last is not None:
        above, before = last
        colour = ORANGE if value < before else BLUE
        found.plot([before, before], [above + 0.5, at + 0.2], color=GREY, linewidth=0.6, linestyle=(0, (2, 2)))
        found.fill_betweenx(
            [at - 0.2, at + 0.2], min(value, before), max(value, before), color=colour, alpha=0.32, linewidth=0
        )
    found.plot([step.auc.lo, step.auc.hi], [at, at], color=BLUE, linewidth=1.4, solid_capstyle="round", zorder=4)
    found.plot(
        [value], [at], marker="o", markersize=5, color=BLUE, markeredgecolor="white", markeredgewidth=0.8, zorder=6,
        clip_on=False,
    )  # fmt: skip


def _words(found: Axes, row: int, step: Step, rows: Transform, margin: float) -> None:
    """What the step is and what it took away on the left, its figures on the right; or why there is no bar."""

    def say(x: float, down: float, words: str, size: float, colour: str, **how: Any) -> None:
        found.text(
            x, row + down, words, transform=rows, size=size, color=colour, va="center", zorder=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6} if how.pop("cover", False) else None, **how,
        )  # fmt: skip

    if step.auc is None:
        say(margin, 0.30, step.title, TEXT, GREY, weight="bold")
        note = "\n".join(textwrap.wrap(step.note, NOTE)[:2])
        say(margin, 0.66, note, SMALL, "#666666", style="italic", cover=True)
        return
    right, shown = WIDE - margin, step.lost
    say(margin, 0.22, step.title, TEXT, DARK, weight="bold")
    taken = textwrap.shorten(step.taken, TAKEN, placeholder=" …")
    say(margin, 0.51, f"− {taken}" if taken else step.counts, SMALL, ORANGE if shown else "#555555")
    if taken:
        say(margin, 0.78, step.counts, SMALL - 0.5, GREY)
    say(right, 0.36 if step.change else 0.5, str(step.auc).replace("-", "–"), TEXT, BLUE, weight="bold", ha="right")
    change = step.change.replace("-", "−")
    say(right, 0.66, change, SMALL, ORANGE if shown else "#555555", ha="right")
