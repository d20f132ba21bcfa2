"""Fits computed in this process, one after another."""

from __future__ import annotations

from mammo_lightning.engine.base import Engine, Job, OnEpoch, Result, compute


class Inline(Engine):
    """The engine of one worker: no other process, nothing to send."""

    def __init__(self) -> None:
        self._job: Job | None = None

    @property
    def room(self) -> int:
        """One job at a time."""
        return int(self._job is None)

    @property
    def ahead(self) -> int:
        """Nobody waits while this process does something else."""
        return self.room

    def submit(self, job: Job) -> None:
        """Take a job."""
        self._job = job

    def wait(self, on_epoch: OnEpoch, seconds: float = 0.5) -> list[Result]:
        """Compute the job."""
        job = self._job
        if job is None:
            return []
        try:
            failure = compute(job, lambda epoch, row: on_epoch(job, epoch, row))
        finally:
            self._job = None
        return [Result(job, failure)]

    def cancel(self, job: Job) -> None:
        """Forget the job; a running one is told so by what `on_epoch` answers."""
        self._job = None

    def jobs(self) -> list[Job]:
        """The job, if it has not begun."""
        return [self._job] if self._job is not None else []

    def close(self) -> None:
        """Nothing was started."""
