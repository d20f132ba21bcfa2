"""What a long run tells of itself; a front end shows it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any


class Progress:
    """Where a study stands. This one is silent; a front end overrides `say`, `show` and `loop`.

    `stopping` asks the study to stop at the end of the epoch.
    """

    def __init__(self) -> None:
        self.trial, self.trials = 0, 0
        self.fold, self.folds = 0, 0
        self.epoch, self.epochs = 0, 0
        self.best = ""
        self.stopping = False
        self._fits, self._spent, self._started = 0, 0.0, 0.0

    def update(self, **changes: Any) -> None:
        """Change some of what is shown."""
        for name, value in changes.items():
            setattr(self, name, value)
        self.show()

    def fit_started(self) -> None:
        """A fit begins: the time left is judged from the fits before."""
        self._started = time.monotonic()

    def fit_ended(self) -> None:
        """A fit that was trained now (not read from disk) has ended."""
        self._fits, self._spent = self._fits + 1, self._spent + time.monotonic() - self._started

    def seconds_left(self) -> float | None:
        """Time left, from the mean time of a fit, or None before the first has ended."""
        if not self._fits or not self.folds:
            return None
        left = (self.trials - self.trial - 1) * self.folds + self.folds - self.fold
        done = self.epoch / self.epochs if self.epochs else 0.0
        return max(0.0, (left - done) * self._spent / self._fits)

    def say(self, line: str) -> None:
        """A line that stays."""

    def show(self) -> None:
        """What stands now has changed."""

    def loop(self, items: Iterable[Any], what: str, total: int) -> Iterable[Any]:
        """Wraps a long loop."""
        return items


class Interrupted(Exception):
    """The user asked to stop; what is finished is kept."""
