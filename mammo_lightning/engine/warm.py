"""A head start for worker processes: what they import is imported once, beside what the parent does first."""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing import forkserver, resource_tracker

PRELOADED = ["mammo_lightning.engine.worker"]


def warm_up() -> None:
    """Start the process that workers are forked from; it imports what they need. Again it does nothing."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for its version otherwise
    multiprocessing.set_forkserver_preload(PRELOADED)
    resource_tracker.ensure_running()  # before, as it unblocks signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # a scheduler signals all processes at once
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
