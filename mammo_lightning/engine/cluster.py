"""Fits computed on a Ray cluster that is there already; a node that dies loses no more than what it was computing."""

from __future__ import annotations

import logging
import shutil
import time
from collections import deque
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayError

from mammo_lightning.engine.base import CANCELLED, Job, OnEpoch, Result
from mammo_lightning.engine.joining import join, leave, places
from mammo_lightning.engine.node import Node, read_files, write_files
from mammo_lightning.engine.processes import Processes, Worker
from mammo_lightning.engine.shipping import shipped
from mammo_lightning.hardware import Hardware
from mammo_lightning.training import DONE

LOOK_SECONDS = 2.0  # between looks at which nodes there are
SAY_SECONDS = 30.0  # without a place in the cluster


class Cluster(Processes):
    """One actor a CPU, or a share of a GPU, of a Ray cluster; nodes may come and go.

    Args:
        hardware: What a fit runs on.
        workers: How many actors, or None for as many as the cluster holds.
        share: The part of a GPU that an actor gets.
    """

    def __init__(self, hardware: Hardware, *, workers: int | None = None, share: float = 1.0) -> None:
        super().__init__([])
        on_gpu = hardware.accelerator == "gpu"
        # Ray shows an actor no other GPU than its own
        self._hardware = replace(hardware, threads=1, device=0 if on_gpu else None)
        self._share, self._wanted = share if on_gpu else 0.0, workers
        self._waiting: deque[Job] = deque()
        self._parcels: dict[int, Any] = {}
        self._looked = -LOOK_SECONDS
        self._placed = time.monotonic()
        self._joined = join()
        self._look()

    def _look(self) -> None:
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self.workers = self._wanted or places(self._share)
            self._looked = time.monotonic()

    @property
    def room(self) -> int:
        """Places without a job."""
        busy = sum(bool(worker.jobs) for worker in self._pool)
        return max(0, max(self.workers, len(self._pool)) - busy - len(self._waiting))

    @property
    def ahead(self) -> int:
        """Every actor may have one more job in hand than it computes."""
        return 2 * max(self.workers, len(self._pool)) - len(self.jobs())

    def submit(self, job: Job) -> None:
        """Give the job to whoever is first to have nothing to do."""
        self._waiting.append(job)
        self._spread()

    def _spread(self) -> None:
        """Have as many actors as there is work for, and give it to those that have started."""
        while len(self._pool) < min(self.workers, len(self.jobs())):
            self._pool.append(Slot(self._hardware, self._share))
        ready = [slot for slot in self._pool if isinstance(slot, Slot) and slot.ready]
        while self._waiting and ready:
            slot = min(ready, key=lambda slot: len(slot.jobs))
            if len(slot.jobs) > 1:
                break
            job = self._waiting.popleft()
            slot.take(job, self._number(job), self._parcel)
        if ready or not self._waiting:
            self._placed = time.monotonic()
        elif time.monotonic() - self._placed > SAY_SECONDS:
            self._placed = time.monotonic()
            logging.getLogger(__name__).warning("the Ray cluster has no free place for a worker yet; waiting")

    def _parcel(self, number: int) -> Any:
        """A task in the object store; in a list, so that whoever needs it fetches it."""
        if number not in self._parcels:
            self._parcels[number] = ray.put(shipped(self._tasks[number], far=True))
        return [self._parcels[number]]

    def wait(self, on_epoch: OnEpoch, seconds: float = 0.5) -> list[Result]:
        """What has ended; actors that died are replaced where there is a place."""
        self._look()
        self._spread()
        heard = {slot.heard: slot for slot in self._pool if isinstance(slot, Slot)}
        patience = 0 if self._results else seconds
        if not heard:
            time.sleep(patience)
        else:
            ray.wait(list(heard), timeout=patience)
            ready, _ = ray.wait(list(heard), num_returns=len(heard), timeout=0)
            for answer in ready:
                self._read(heard[answer], on_epoch)
        results, self._results = self._results, []
        return results

    def _read(self, slot: Slot, on_epoch: OnEpoch) -> None:
        try:
            messages = ray.get(slot.heard)
        except RayError as error:
            self._pool.remove(slot)
            slot.end()
            self._waiting.extendleft(reversed(self._lost(slot, type(error).__name__)))
            return
        slot.listen()
        for message in messages:
            self._hear(slot, message, on_epoch)

    def _hear(self, worker: Worker, message: tuple[Any, ...], on_epoch: OnEpoch) -> None:
        kind, key, *rest, files = message
        folder = next((job.folder for job in worker.jobs if job.key == key), None)
        if folder is None:
            return  # it has only come to life
        if kind == "end":
            (folder / DONE).unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
        write_files(folder, files, last=DONE)
        super()._hear(worker, (kind, key, *rest), on_epoch)

    def cancel(self, job: Job) -> None:
        """Stop a job after its epoch."""
        if job in self._waiting:
            self._waiting.remove(job)
            self._results.append(Result(job, CANCELLED))
        else:
            super().cancel(job)

    def jobs(self) -> list[Job]:
        """What was submitted and has not ended."""
        return [*super().jobs(), *self._waiting]

    def close(self) -> None:
        """End the actors; the cluster stays."""
        super().close()
        self._pool.clear()
        if self._joined:
            leave()


class Slot(Worker):
    """One actor as the driver sees it."""

    def __init__(self, hardware: Hardware, share: float) -> None:
        self._share = share
        self.ready = False
        super().__init__(hardware)

    def _start(self) -> None:
        actor = ray.remote(concurrency_groups={"ears": 1})(Node)
        self._actor = actor.options(num_cpus=1, num_gpus=self._share, max_restarts=0).remote(self.hardware)
        self.heard: Any = None
        self.listen()

    def listen(self) -> None:
        """Ask for what the actor says next; it is ready once it has said something."""
        self.ready = self.heard is not None
        self.heard = self._actor.hear.options(concurrency_group="ears").remote()

    def send(self, *message: Any) -> None:
        """Say something to an actor that may have died: `wait` will find out."""
        if message[0] == "fit":  # with what there is of it already
            message = (*message, read_files(message[1].folder))
        self._actor.tell.remote(message)

    def end(self) -> None:
        """End the actor, at once."""
        ray.kill(self._actor)
