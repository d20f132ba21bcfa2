"""Fits computed by long-lived processes of this machine; one that dies is replaced, and its fit begun again."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any, cast

import threadpoolctl
import torch

from mammo_lightning.engine.base import CANCELLED, Engine, Failure, Job, OnEpoch, Result
from mammo_lightning.engine.shipping import shipped
from mammo_lightning.engine.warm import warm_up
from mammo_lightning.errors import TrackingError
from mammo_lightning.hardware import Hardware
from mammo_lightning.training import Task

KEPT_TASKS = 2  # that a worker holds; each may hold prepared images
LOSSES = 5  # of one fit, before it is taken to be the reason
SILENT = 12  # of processes in a row, before it is taken that none can work here


class Processes(Engine):
    """One process for each entry of `hardware`."""

    def __init__(self, hardware: Sequence[Hardware]) -> None:
        self.workers = len(hardware)
        self._tasks: list[Task] = []
        self._losses: Counter[str] = Counter()
        self._results: list[Result] = []
        self._silent = 0
        self._pool: list[Worker] = []
        if hardware:
            warm_up()
            # this process works beside them: threads that spin while they wait would take the cores from the workers
            torch.set_num_threads(hardware[0].threads or 1)
            threadpoolctl.threadpool_limits(hardware[0].threads or 1)
        try:
            self._pool.extend(Worker(each) for each in hardware)
        except BaseException:  # those begun would hold up the end of this process
            self.close()
            raise

    @property
    def room(self) -> int:
        """Idle processes."""
        return sum(not worker.jobs for worker in self._pool)

    @property
    def ahead(self) -> int:
        """Every process may have one more job in hand than it computes."""
        return sum(2 - len(worker.jobs) for worker in self._pool)

    def submit(self, job: Job) -> None:
        """Give the job to whoever has least to do."""
        worker = min(self._pool, key=lambda worker: len(worker.jobs))
        worker.take(job, self._number(job), self._parcel)

    def _number(self, job: Job) -> int:
        """What the job's task is called among the processes."""
        if not any(task is job.task for task in self._tasks):
            self._tasks.append(job.task)
        return next(number for number, task in enumerate(self._tasks) if task is job.task)

    def _parcel(self, number: int) -> Any:
        """A task as it is sent."""
        return shipped(self._tasks[number])

    def wait(self, on_epoch: OnEpoch, seconds: float = 0.5) -> list[Result]:
        """What has ended; processes that died are replaced here."""
        deadline = time.monotonic() + seconds
        while not self._results and (left := deadline - time.monotonic()) > 0:
            by_handle: dict[Any, Worker] = {}
            for worker in self._pool:
                by_handle |= {worker.connection: worker, worker.process.sentinel: worker}
            for worker in {by_handle[handle] for handle in connection.wait(list(by_handle), left)}:
                if not self._listen(worker, on_epoch):
                    self._replace(worker)
        results, self._results = self._results, []
        return results

    def _listen(self, worker: Worker, on_epoch: OnEpoch) -> bool:
        """Hear a process out; False if it has died."""
        while True:
            try:
                if not worker.connection.poll():
                    return worker.process.is_alive()
                message = worker.connection.recv()
            except (EOFError, OSError):
                return False
            self._hear(worker, message, on_epoch)

    def _hear(self, worker: Worker, message: tuple[Any, ...], on_epoch: OnEpoch) -> None:
        self._silent = 0
        kind, key, *rest = message
        job = next(job for job in worker.jobs if job.key == key)
        if kind == "end":
            worker.jobs.remove(job)
            worker.cancelled.discard(key)
            self._results.append(Result(job, rest[0]))
            return
        go_on = on_epoch(job, *rest)
        if job.asks:
            worker.send("answer", go_on)
        elif not go_on:
            self.cancel(job)

    def _replace(self, worker: Worker) -> None:
        worker.end()
        code = worker.process.exitcode or 0
        self._silent += 1
        if self._silent > SILENT:
            raise TrackingError(
                f"{self._silent} worker processes ended one after another before they had said a word (the last with "
                f"exit code {code}); pass --workers 1 to see why"
            )
        self._pool[self._pool.index(worker)] = fresh = Worker(worker.hardware)
        for job in self._lost(worker, signal.Signals(-code).name if code < 0 else f"exit code {code}"):
            fresh.take(job, self._number(job), self._parcel)

    def _lost(self, worker: Worker, why: str) -> list[Job]:
        """The jobs of a dead process that are to be done again; of the others it is said how they ended."""
        again: list[Job] = []
        for position, job in enumerate(worker.jobs):
            self._losses[job.key] += position == 0  # the others had not begun
            if job.key in worker.cancelled:
                self._results.append(Result(job, CANCELLED))
            elif self._losses[job.key] >= LOSSES:
                failure = Failure(f"signal: {why}, {LOSSES} times", "the process died with the fit")
                self._results.append(Result(job, failure))
            else:
                again.append(job)
        worker.jobs.clear()
        return again

    def cancel(self, job: Job) -> None:
        """Stop a job after its epoch."""
        for worker in self._pool:
            if job in worker.jobs and job.key not in worker.cancelled:
                worker.cancelled.add(job.key)
                worker.send("cancel", job.key)

    def jobs(self) -> list[Job]:
        """What was submitted and has not ended."""
        return [job for worker in self._pool for job in worker.jobs]

    def close(self) -> None:
        """End all processes, at once."""
        for worker in self._pool:
            worker.end()


class Worker:
    """One process as its parent sees it."""

    def __init__(self, hardware: Hardware) -> None:
        self.hardware = hardware
        self.jobs: list[Job] = []
        self.cancelled: set[str] = set()
        self._sent: list[int] = []
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("forkserver")
        self.connection, theirs = multiprocessing.Pipe()
        self.process = context.Process(target=_main, args=(theirs, self.hardware), daemon=True, name="fits")
        self.process.start()
        theirs.close()

    def take(self, job: Job, number: int, parcel: Callable[[int], Any]) -> None:
        """Send a job, and its task if it is not there yet."""
        self.jobs.append(job)
        if number not in self._sent:
            self._sent = [*self._sent, number][-KEPT_TASKS:]
            self.send("task", number, parcel(number))
        self.send("fit", replace(job, task=cast(Task, None)), number)

    def send(self, *message: Any) -> None:
        """Say something to a process that may have died."""
        try:
            self.connection.send(message)
        except OSError:
            pass  # it has died: `wait` will find out, and give its jobs to another

    def end(self) -> None:
        """End the process, at once."""
        self.process.kill()
        self.process.join(10)
        self.connection.close()


def _main(theirs: Connection, hardware: Hardware) -> None:
    from mammo_lightning.engine import worker  # seconds, in the fork server only

    worker.main(theirs, hardware)
