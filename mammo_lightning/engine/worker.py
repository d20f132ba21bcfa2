"""A worker process: computes the fits it is sent, and ends with the process that sent them."""

from __future__ import annotations

import ctypes
import gc
import os
import queue
import signal
import threading
import traceback
from dataclasses import replace
from typing import Any, Protocol

# these are what makes a worker slow to start: the fork server imports them once for all
import albumentations  # noqa: F401
import sklearn.linear_model  # noqa: F401
import threadpoolctl
import torch

from mammo_lightning.engine.base import CANCELLED, Failure, Job, compute
from mammo_lightning.engine.processes import KEPT_TASKS
from mammo_lightning.hardware import Hardware
from mammo_lightning.training import Task

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
KEPT_BYTES = 2**30


class Channel(Protocol):
    """A way to whoever asks for fits, and back."""

    def recv(self) -> Any:
        """Wait for what is said here."""

    def send(self, message: Any, /) -> None:
        """Say something."""


def main(connection: Channel, hardware: Hardware) -> None:
    """Be a process that does nothing else than `serve`."""
    # a terminal and a scheduler signal all processes at once; a handler would be Lightning's again with the first fit
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    gc.freeze()  # what was imported before the fork is not looked through again, and stays shared
    _keep_memory()
    serve(connection, hardware)


def _keep_memory() -> None:
    """Keep freed memory for the next batch; glibc would return it, and the kernel clear as much for every batch."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # not on macOS
        for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            libc.mallopt(option, KEPT_BYTES)


def serve(connection: Channel, hardware: Hardware) -> None:
    """Compute what comes through the connection until it is closed."""
    if hardware.threads:
        torch.set_num_threads(hardware.threads)
        threadpoolctl.threadpool_limits(hardware.threads)
    inbox = _Inbox(connection)
    threading.Thread(target=inbox.read, daemon=True).start()
    tasks: dict[int, Task] = {}
    while True:
        kind, *rest = inbox.orders.get()
        if kind == "task":
            number, task = rest
            task.hardware = hardware
            tasks[number] = task
            while len(tasks) > KEPT_TASKS:
                tasks.pop(next(iter(tasks)))
        else:
            job, number = rest
            connection.send(("end", job.key, _computed(connection, inbox, replace(job, task=tasks[number]))))


def _computed(connection: Channel, inbox: _Inbox, job: Job) -> Failure | None:
    def on_epoch(epoch: int, row: dict[str, float]) -> bool:
        connection.send(("epoch", job.key, epoch, row))
        go_on: bool = inbox.answers.get() if job.asks else True
        return go_on and job.key not in inbox.cancelled

    if job.key in inbox.cancelled:
        return CANCELLED
    try:
        return compute(job, on_epoch)
    except BaseException:  # nothing may pass in silence
        return Failure("exception", traceback.format_exc())


class _Inbox:
    """What the parent says, read by a thread so that it is heard during a fit."""

    def __init__(self, connection: Channel) -> None:
        self.connection = connection
        self.orders: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self.cancelled: set[str] = set()

    def read(self) -> None:
        while True:
            try:
                kind, *rest = self.connection.recv()
            except (EOFError, OSError):
                os._exit(1)  # the parent is gone: a fit that nobody waits for only holds a core or a GPU
            except BaseException:  # what was sent cannot be read here: nobody may wait for an answer
                traceback.print_exc()
                os._exit(1)
            if kind == "fit":
                self.cancelled.discard(rest[0].key)  # said of an earlier one
            if kind == "cancel":
                self.cancelled.add(rest[0])
            elif kind == "answer":
                self.answers.put(rest[0])
            else:
                self.orders.put((kind, *rest))
