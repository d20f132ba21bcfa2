"""What a long run tells of itself; a front end shows it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass
class RunningFit:
    """A fit as it is shown."""

    label: str
    epochs: int
    epoch: int = 0


class Progress:
    """Where a study stands. This one is silent; a front end overrides `say`, `show` and `loop`.

    `stopping` asks the study to stop at the end of the epoch.
    """

    def __init__(self) -> None:
        self.trials, self.done, self.folds, self.workers = 0, 0, 0, 1
        self.best = ""
        self.stopping = False
        self.fits: dict[str, RunningFit] = {}
        self._ended, self._began = 0, 0.0

    def update(self, **changes: Any) -> None:
        """Change some of what is shown."""
        for name, value in changes.items():
            setattr(self, name, value)
        self.show()

    def fit_started(self, key: str, label: str, epochs: int) -> None:
        """A fit was handed to a worker."""
        self._began = self._began or time.monotonic()
        self.fits[key] = RunningFit(label, epochs)
        self.show()

    def epoch(self, key: str, epoch: int) -> None:
        """A fit has finished an epoch."""
        if key in self.fits:
            self.fits[key].epoch = epoch
        self.show()

    def fit_ended(self, key: str, *, counts: bool = True) -> None:
        """A fit has ended; one that was read from disk or stopped says nothing of how long they take."""
        fit = self.fits.pop(key, None)
        self._ended += fit is not None and counts and fit.epoch > 0
        self.show()

    def seconds_left(self) -> float | None:
        """Time left, from the pace so far, or None before the first fit has ended."""
        if not self._ended or not self.folds:
            return None
        begun = sum(fit.epoch / max(1, fit.epochs) for fit in self.fits.values())
        pace = (time.monotonic() - self._began) / (self._ended + begun)
        return max(0.0, ((self.trials - self.done) * self.folds - begun) * pace)

    def say(self, line: str) -> None:
        """A line that stays."""

    def show(self) -> None:
        """What stands now has changed."""

    def loop(self, items: Iterable[Any], what: str, total: int) -> Iterable[Any]:
        """Wraps a long loop."""
        return items


class Interrupted(Exception):
    """The user asked to stop; what is finished is kept."""
