"""What a person sees of a running study: one live line at a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mammo_lightning.evaluation.resampling import Estimate
from mammo_lightning.progress import Progress
from mammo_lightning.reports import Summary

QUIET_SECONDS = 15  # between two plain lines
WARNINGS = ("shortcut:", "leak:", "duplicate:", "straddle:", "label conflict:", "unreadable:", "warning:")
SHOWN_FITS = 3  # one by one; more are counted
PLAIN_WIDTH = 130  # where there is no terminal to ask


class Display(Progress):
    """Progress shown with rich: `with Display() as progress: ...`."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        # names of classes, files and runs are printed as they are: a bracket in one is no style
        plain: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
        self.console = console or Console(**plain, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
        self._live = Live(console=self.console, refresh_per_second=4, transient=True)
        self._last = 0.0

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, line: str) -> None:
        """A line that stays; warnings stand out."""
        warn = line.startswith(WARNINGS)
        self.console.print(Text(line, style="yellow" if warn else "dim"))

    def show(self) -> None:
        """The line of what stands now."""
        if not self.trials:
            return
        line = f"{self.done} of {self.trials} trials"
        begun = [fit for fit in self.fits.values() if fit.epoch]
        if 0 < len(begun) <= SHOWN_FITS:
            line += " · " + ", ".join(f"{fit.label} epoch {fit.epoch}/{fit.epochs}" for fit in begun)
        elif begun:
            line += f" · {len(begun)} fits running"
        line += f" · best {self.best}" if self.best else ""
        left = self.seconds_left()
        line += f" · {_clock(left)} left" if left is not None else ""
        if self.console.is_terminal:
            self._live.update(Text(line, style="bold"))
        elif time.monotonic() - self._last > QUIET_SECONDS:
            self._last = time.monotonic()
            self.console.print(line)

    def loop(self, items: Iterable[Any], what: str, total: int) -> Iterable[Any]:
        """A long loop, with its count."""
        for count, item in enumerate(items):
            if self.console.is_terminal and count % 50 == 0:
                self._live.update(Text(f"{what} {count}/{total}", style="bold"))
            yield item

    def conclude(self, summary: Summary, way_in: str = "") -> None:
        """The last thing printed: the table, its sentences, and the link, with what must run for it to open."""
        self._live.stop()
        table = Table(title=f"{summary.kind} {summary.title}", title_justify="left", box=None, pad_edge=False)
        wide = self.console.width >= 115
        table.add_column(f"at {summary.rule}", overflow="fold", min_width=12)
        for head in (
            "AUC (95 % CI)",
            "sensitivity (TPR)" if wide else "TPR",
            "1-specificity (FPR)" if wide else "FPR",
            "counts",
        ):
            table.add_column(head, no_wrap=True, min_width=len(head))
        judged = ""
        for row in summary.rows:
            if row.judged_on != judged:
                judged = row.judged_on
                table.add_row(judged, style="dim")
            cells = [figure(each, wide=wide) if each else "" for each in (row.auc, row.tpr, row.fpr)]
            table.add_row(Padding(row.what, (0, 0, 0, 2)), *cells, row.counts, style="bold" * (row.what == "final"))
        self.console.print(table)
        for line in summary.lines:
            self.console.print(line, soft_wrap=True)
        if summary.link:
            how = f"run {way_in}, then open" if way_in else "open"
            self.console.print(Text(f"look at it: {how}\n{summary.link}"), soft_wrap=True)


def figure(estimate: Estimate, *, wide: bool) -> str:
    """A figure with its interval, which stands below it where there is little room."""
    return str(estimate) if wide else str(estimate).replace(" (", "\n(")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {rest:02d} s"
