"""What an engine is: it takes fits, and gives back how each ended."""

from __future__ import annotations

import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mammo_lightning import record
from mammo_lightning.errors import MammoError
from mammo_lightning.progress import Interrupted
from mammo_lightning.training import Task, fit, reason_of


@dataclass(frozen=True)
class Job:
    """One fit that is asked for."""

    task: Task = field(repr=False, compare=False)  # left out where a worker has it already
    fold: int
    settings: dict[str, Any] = field(compare=False)
    seed: int
    folder: Path
    slot: int = 0
    #: whether every epoch is to be shown to the search, which may say that it is enough
    asks: bool = False

    @property
    def key(self) -> str:
        """Names the job."""
        return str(self.folder)


@dataclass(frozen=True)
class Failure:
    """Why a fit did not finish: `reason` as it is tagged, `detail` as it is shown."""

    reason: str
    detail: str = ""
    #: bad input found late, as it is told to a person
    error: MammoError | None = None

    @property
    def is_bug(self) -> bool:
        """Whether the code is to blame: the study stops."""
        return self.reason.startswith("exception")


CANCELLED = Failure("cancelled")
#: how libraries that raise errors of their own say that the disk is full
FULL = ("No space left on device", "os error 28", "Disk quota exceeded", "PytorchStreamWriter failed")


@dataclass(frozen=True)
class Result:
    """How a job ended; its fit stands on disk if nothing failed."""

    job: Job
    failure: Failure | None = None


#: shown epoch and its figures, answers whether the fit shall go on
OnEpoch = Callable[[Job, int, dict[str, float]], bool]


class Engine(ABC):
    """Computes fits. One caller, one thread: `submit` while there is `room`, then `wait`."""

    workers: int = 1

    @property
    @abstractmethod
    def room(self) -> int:
        """How many more jobs can be computed at once."""

    @property
    @abstractmethod
    def ahead(self) -> int:
        """How many more jobs may be handed over, so that nobody waits for the next one."""

    @abstractmethod
    def submit(self, job: Job) -> None:
        """Take a job."""

    @abstractmethod
    def wait(self, on_epoch: OnEpoch, seconds: float = 0.5) -> list[Result]:
        """What has ended; waits a little for it."""

    @abstractmethod
    def cancel(self, job: Job) -> None:
        """Stop a job after its epoch; it ends as cancelled."""

    def stop(self) -> None:
        """Stop everything after its epoch."""
        for job in self.jobs():
            self.cancel(job)

    @abstractmethod
    def jobs(self) -> list[Job]:
        """What was submitted and has not ended."""

    @abstractmethod
    def close(self) -> None:
        """End all that it started, at once."""


def compute(job: Job, on_epoch: Callable[[int, dict[str, float]], bool]) -> Failure | None:
    """Compute one fit here; says why, if it did not finish."""

    def watched(epoch: int, row: dict[str, float]) -> None:
        if not on_epoch(epoch, row):
            raise Interrupted

    try:
        fit(job.task, fold=job.fold, settings=job.settings, seed=job.seed, folder=job.folder, on_epoch=watched)
    except Interrupted:
        return CANCELLED
    except MammoError as error:
        return Failure("error", str(error), error)
    except Exception as error:
        reason = reason_of(error)
        if reason.startswith("exception") and (isinstance(error, OSError) or any(word in str(error) for word in FULL)):
            named = getattr(error, "filename", None) or job.folder
            return Failure("disk", f"{getattr(error, 'strerror', None) or record.first_line(error)} ({named})")
        return Failure(reason, traceback.format_exc() if reason.startswith("exception") else str(error))
    return None
