"""A slot while it is worked on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mammo_lightning.tracking.journal import RunJournal
from mammo_lightning.training import Fit
from mammo_lightning.tuning import Trial


class StudyBug(Exception):
    """The code failed in a fit; the message is what the worker saw."""


@dataclass
class Running:
    """A slot that is being worked on."""

    trial: Trial
    run: RunJournal
    settings: dict[str, Any]
    waiting: list[int]
    done: dict[int, Fit] = field(default_factory=dict)
    #: folds told to the pruner, in order whatever order they ended in
    told: int = 0

    @property
    def slot(self) -> int:
        """Where it stands."""
        return int(self.trial.number)
