"""How the bench measures: in fresh processes, in turns, with the spread beside every figure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from mammo_lightning.errors import MammoError

ROOT = Path(__file__).parents[2]
_QUIET = {"NO_ALBUMENTATIONS_UPDATE": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}


def machine() -> str:
    """Cores this process may use, and memory."""
    import psutil

    from mammo_lightning.hardware import cores

    count = cores()
    return f"{count} core{'s' if count > 1 else ''}, {psutil.virtual_memory().total / 2**30:.0f} GiB"


@dataclass(frozen=True)
class Spread:
    """Several measurements of one thing; prints as `1.05 (1.03-1.08)`."""

    values: tuple[float, ...]
    digits: int = 2

    @property
    def middle(self) -> float:
        """The median."""
        return median(self.values)

    def __str__(self) -> str:
        shown = f"{self.middle:.{self.digits}f}"
        if len(self.values) == 1:
            return shown
        return f"{shown} ({min(self.values):.{self.digits}f}-{max(self.values):.{self.digits}f})"


def ratio(over: Sequence[float], under: Sequence[float]) -> Spread:
    """Round by round, so that what slows the machine for a while slows both."""
    return Spread(tuple(above / below for above, below in zip(over, under, strict=False)))


def in_turns(rounds: int, **what: Callable[[], float]) -> dict[str, list[float]]:
    """Each measured once a round, in the given order; seconds by name."""
    found: dict[str, list[float]] = {name: [] for name in what}
    for _ in range(rounds):
        for name, measure in what.items():
            found[name].append(measure())
    return found


def timed(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds that something takes."""
    start = clock()
    work()
    return clock() - start


def child(module: str, **asked: Any) -> dict[str, Any]:
    """What `experiments.bench.<module>` answers in a process of its own; it leaves its start and imports out."""
    command = [sys.executable, "-m", f"experiments.bench.{module}", json.dumps(asked)]
    environment = {**os.environ, **_QUIET}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise MammoError(f"bench part {module!r} ended with exit code {done.returncode}: {last}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def asked() -> dict[str, Any]:
    """What the parent asked of this process."""
    given: dict[str, Any] = json.loads(sys.argv[1])
    return given


def answer(**found: Any) -> None:
    """Tell the parent."""
    print(json.dumps(found), flush=True)


def table(title: str, *columns: str) -> Table:
    """An empty table."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        made.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    return made
