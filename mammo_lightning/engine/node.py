"""A worker on a node of a Ray cluster: messages come and go through Ray, fits go back as files."""

from __future__ import annotations

import os
import queue
import shutil
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray

from mammo_lightning.hardware import Hardware
from mammo_lightning.tracking.files import PART, write_whole


class Node:
    """The actor: what `tell` puts in is computed beside it, and what comes of it is fetched by `hear`."""

    def __init__(self, hardware: Hardware) -> None:
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for its version otherwise
        self._desk = Desk()
        threading.Thread(target=self._serve, args=(hardware,), daemon=True).start()

    def _serve(self, hardware: Hardware) -> None:
        try:
            from mammo_lightning.engine.worker import serve  # seconds

            self._desk.outbox.put(("ready", "", {}))
            serve(self._desk, hardware)
        finally:
            os._exit(1)  # nobody would answer any more

    def tell(self, message: tuple[Any, ...]) -> None:
        """Take an order."""
        self._desk.inbox.put(message)

    def hear(self) -> list[tuple[Any, ...]]:
        """What there is to say; waits for it."""
        messages = [self._desk.outbox.get()]
        while not self._desk.outbox.empty():
            messages.append(self._desk.outbox.get())
        return messages


class Desk:
    """The worker's connection. A fit stands in a folder of this node, and goes to whoever asked for it as files."""

    def __init__(self) -> None:
        self.inbox: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self.outbox: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._folders: dict[str, Path] = {}
        self._keys: dict[str, str] = {}
        self._kept: dict[str, int] = {}

    def recv(self) -> tuple[Any, ...]:
        """An order, in terms of this node."""
        kind, *rest = self.inbox.get()
        match kind:
            case "task":
                number, [parcel] = rest
                return (kind, number, ray.get(parcel))
            case "fit":
                job, number, files = rest
                self._folders[job.key] = folder = Path(tempfile.mkdtemp(prefix="mammo-")) / "fit"
                self._keys[str(folder)] = job.key
                write_files(folder, files)
                return (kind, replace(job, folder=folder), number)
            case "cancel":
                return (kind, str(self._folders.get(rest[0], "")))
        return (kind, *rest)

    def send(self, message: tuple[Any, ...], /) -> None:
        """Say something, in terms of whoever asked, with what has changed on disk since."""
        kind, here, *rest = message
        key, folder = self._keys[here], Path(here)
        if kind == "end":
            files = read_files(folder)
            del self._keys[here], self._folders[key]
            self._kept.pop(here, None)
            shutil.rmtree(folder.parent, ignore_errors=True)
        else:
            files = self._state(folder)
        self.outbox.put((kind, key, *rest, files))

    def _state(self, folder: Path) -> dict[str, bytes]:
        """What a fit can be taken up from elsewhere, if it has written that down since."""
        from mammo_lightning.training import STOPPED

        written = (folder / STOPPED).stat().st_mtime_ns if (folder / STOPPED).exists() else 0
        if written == self._kept.get(str(folder), 0):
            return {}
        self._kept[str(folder)] = written
        return read_files(folder)


def read_files(folder: Path) -> dict[str, bytes]:
    """All files below a folder, by name; none if it is not there."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != PART)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def write_files(folder: Path, files: dict[str, bytes], last: str = "") -> None:
    """Write what `read_files` gave, each file whole, the one that says that all are there at the end."""
    for name in sorted(files, key=lambda name: name == last):
        write_whole(folder / name, files[name])
