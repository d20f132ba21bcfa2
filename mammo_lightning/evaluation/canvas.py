"""Paper-quality figures by matplotlib's object interface: one column wide, titled, counted, stamped."""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 3.4  # inches: one column of a two-column paper
BLUE, ORANGE, GREY, DARK = "#0072B2", "#D55E00", "#8A8A8A", "#222222"  # told apart by colour-blind readers too
TEXT, SMALL = 7.5, 6.5  # points


def figure(height: float, title: str, subtitle: str, stamp: str) -> Figure:
    """An empty figure with its title, the counts under it, and a watermark where `stamp` is not empty."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(WIDTH, height), facecolor="white")
    FigureCanvasAgg(drawn)
    lines = textwrap.wrap(title, 46)[:2]
    drawn.text(
        0.035, 1 - 0.07 / height, "\n".join(lines), va="top", size=8.5, weight="bold", color=DARK, linespacing=1.15
    )
    top = 0.09 + 0.145 * len(lines)
    drawn.text(0.035, 1 - top / height, subtitle, va="top", size=SMALL, color="#555555")
    if stamp:
        # The longest side of the word fits the diagonal of the page.
        size = min(46.0, 330.0 / max(len(stamp), 4))
        drawn.text(
            0.55, 0.5, stamp, ha="center", va="center", rotation=35, size=size, weight="bold", color="#C00000",
            alpha=0.16, zorder=10,
        )  # fmt: skip
    return drawn


def axes(drawn: Figure, box: tuple[float, float, float, float], **settings: Any) -> Axes:
    """Axes at `box` = left, bottom, width, height in inches."""
    width, height = drawn.get_size_inches()
    found = drawn.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height), **settings)
    found.tick_params(labelsize=SMALL, length=2.5, width=0.6, color=DARK)
    for side, spine in found.spines.items():
        spine.set_linewidth(0.6)
        spine.set_visible(side in ("left", "bottom"))
    found.grid(color="#E6E6E6", linewidth=0.5)
    found.set_axisbelow(True)
    return found


def unit_square(found: Axes, across: str, up: str) -> None:
    """Limits, ticks and labels of a curve between 0 and 1."""
    ticks = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    found.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xticks=ticks, yticks=ticks)
    found.set_xlabel(across, size=TEXT, labelpad=2)
    found.set_ylabel(up, size=TEXT, labelpad=2)


def legend(
    found: Axes, place: Literal["lower left", "lower right", "upper left", "upper center"], columns: int = 1
) -> None:
    """A legend that hides no curve entirely."""
    shown = found.legend(
        loc=place, fontsize=SMALL, frameon=True, framealpha=0.88, edgecolor="none", borderpad=0.3, handlelength=1.6,
        labelspacing=0.35, handletextpad=0.6, ncols=columns, columnspacing=1.2,
    )  # fmt: skip
    shown.set_zorder(9)


def png(drawn: Figure, dpi: int = 300) -> bytes:
    """The figure as PNG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()
