"""Charts as inline SVG: axes, lines and markers whose colours the page's style decides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

WIDTH, HEIGHT = 400.0, 360.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 8.0, 10.0, 40.0
EDGE = 3.0  # a line that runs along the frame is not cut in half


@dataclass
class Plot:
    """One chart in the making; `render` gives its SVG."""

    label: str
    x: tuple[float, float] = (0.0, 1.0)
    y: tuple[float, float] = (0.0, 1.0)
    x_label: str = ""
    y_label: str = ""
    width: float = WIDTH
    height: float = HEIGHT
    ticks: int = 5
    stamp: str = ""
    #: what a reader's pointer is told of a line
    hover: bool = True
    left: float = LEFT
    bottom: float = BOTTOM
    inside: list[str] = field(default_factory=list)
    above: list[str] = field(default_factory=list)

    def px(self, value: float) -> float:
        """Where a value stands from left to right."""
        share = (value - self.x[0]) / (self.x[1] - self.x[0])
        return round(self.left + share * (self.width - self.left - RIGHT), 1)

    def py(self, value: float) -> float:
        """Where a value stands from top to bottom."""
        share = (value - self.y[0]) / (self.y[1] - self.y[0])
        return round(self.height - self.bottom - share * (self.height - self.bottom - TOP), 1)

    def line(self, xs: Iterable[float], ys: Iterable[float], number: int, *, kind: str = "line") -> None:
        """The curve of a run."""
        points = " ".join(f"{self.px(a):g},{self.py(b):g}" for a, b in zip(xs, ys, strict=True) if np.isfinite(b))
        self.inside.append(f'<polyline class="{kind}" {of_run(number)} points="{points}"/>')

    def rule(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """A line of the chart's own: chance, perfection, nobody."""
        (a, b), (c, d) = start, end
        self.inside.append(
            f'<line class="rule" x1="{self.px(a):g}" y1="{self.py(b):g}" x2="{self.px(c):g}" y2="{self.py(d):g}"/>'
        )

    def mark(self, x: float, y: float, number: int, title: str = "") -> None:
        """The marker of a run, in its own shape."""
        self.above.append(marker(self.px(x), self.py(y), number, title))

    def bar(self, x: tuple[float, float], y: tuple[float, float], number: int, kind: str) -> None:
        """A bar from one corner to the other."""
        left, right, low, high = self.px(x[0]), self.px(x[1]), self.py(y[0]), self.py(y[1])
        top, width = min(low, high), max(right - left - 0.6, 0.4)
        self.inside.append(
            f'<rect class="{kind}" {of_run(number)} x="{left:g}" y="{top:g}" width="{width:.1f}" '
            f'height="{abs(high - low):.1f}"/>'
        )

    def note(self, x: float, y: float, text: str, *, anchor: str = "start", kind: str = "note") -> None:
        """Words at a place of the chart."""
        self.above.append(
            f'<text class="{kind}" x="{self.px(x):g}" y="{self.py(y):g}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    def render(self) -> str:
        """The chart as SVG."""
        right, floor = self.width - RIGHT, self.height - self.bottom
        corner, size = (self.left - EDGE, TOP - EDGE), (right - self.left + 2 * EDGE, floor - TOP + 2 * EDGE)
        window = " ".join(f"{value:g}" for value in (*corner, *size))
        cut = f'<svg x="{corner[0]:g}" y="{corner[1]:g}" width="{size[0]:g}" height="{size[1]:g}" viewBox="{window}">'
        parts = [*self._axes(right, floor), cut, *self.inside, "</svg>", *self.above]
        if self.stamp:
            middle, centre = (self.left + right) / 2, (TOP + floor) / 2
            parts.append(f'<text class="stamp" x="{middle:g}" y="{centre:g}">{escape(self.stamp)}</text>')
        about = f'data-x="{self.x[0]:g},{self.x[1]:g}" data-y="{self.y[0]:g},{self.y[1]:g}" ' if self.hover else ""
        about += f'data-box="{self.left:g},{right:g},{TOP:g},{floor:g}" ' if self.hover else ""
        names = f'data-names="{escape(self.x_label)}|{escape(self.y_label)}"' if self.hover else ""
        return (
            f'<svg class="plot" viewBox="0 0 {self.width:g} {self.height:g}" role="img" '
            f'aria-label="{escape(self.label)}" {about}{names}>{"".join(parts)}</svg>'
        )

    def _axes(self, right: float, floor: float) -> Iterable[str]:
        for value in nice_ticks(*self.y, self.ticks) if self.ticks else ():
            place = self.py(value)
            yield f'<line class="grid" x1="{self.left:g}" x2="{right:g}" y1="{place:g}" y2="{place:g}"/>'
            yield f'<text class="tick" x="{self.left - 6:g}" y="{place + 4:g}" text-anchor="end">{_short(value)}</text>'
        for value in nice_ticks(*self.x, self.ticks or 3):
            place, at_end = self.px(value), abs(value - self.x[1]) < 1e-9 * max(1.0, abs(value))
            anchor = "end" if at_end else "middle"
            yield f'<text class="tick" x="{place:g}" y="{floor + 16:g}" text-anchor="{anchor}">{_short(value)}</text>'
        yield f'<line class="axis" x1="{self.left:g}" x2="{right:g}" y1="{floor:g}" y2="{floor:g}"/>'
        middle, centre = (self.left + right) / 2, (TOP + floor) / 2
        if self.x_label:
            place = self.height - 6
            yield f'<text class="name" x="{middle:g}" y="{place:g}" text-anchor="middle">{escape(self.x_label)}</text>'
        if self.y_label:
            turn = f'transform="rotate(-90 12 {centre:g})"'
            yield f'<text class="name" x="12" y="{centre:g}" {turn} text-anchor="middle">{escape(self.y_label)}</text>'


def of_run(number: int) -> str:
    """What ties an element to a run: its number for the script, its colour for the style."""
    return f'data-run="{number}"' if number >= 0 else ""


def marker(x: float, y: float, number: int, title: str = "", size: float = 5.0) -> str:
    """The shape of a run: with its colour, two ways to tell it from the others."""
    about = f"<title>{escape(title)}</title>" if title else ""
    shape = number % 4 if number >= 0 else 3
    start = f'<{"circle" if shape == 0 else "path"} class="mark" {of_run(number)}'
    if shape == 0:
        return f'{start} cx="{x:g}" cy="{y:g}" r="{size:g}">{about}</circle>'
    s = size * (0.92 if shape == 1 else 1.25)
    corners: Sequence[tuple[float, float]] = {
        1: ((-s, -s), (s, -s), (s, s), (-s, s)),
        2: ((0.0, -s), (s, 0.8 * s), (-s, 0.8 * s)),
        3: ((0.0, -s), (s, 0.0), (0.0, s), (-s, 0.0)),
    }[shape]
    path = "L".join(f"{x + a:.1f} {y + b:.1f}" for a, b in corners)
    return f'{start} d="M{path}Z">{about}</path>'


def nice_ticks(low: float, high: float, wanted: int) -> list[float]:
    """About so many round values between two ends."""
    span = high - low
    if not span > 0:
        return [low]
    raw = span / max(wanted, 1)
    power = 10.0 ** np.floor(np.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first = np.ceil(low / step - 1e-9)
    return [float(round(value * step, 10)) for value in np.arange(first, np.floor(high / step + 1e-9) + 1)]


def _short(value: float) -> str:
    text = f"{value + 0.0:g}".replace("-", "−")
    return text.replace("0.", ".", 1) if abs(value) < 1 else text
