"""What stands in files, by digest; a file whose size and time of change are known is not read again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from mammo_lightning.datamodules.files import shown
from mammo_lightning.errors import DataError
from mammo_lightning.types import digest

#: from so many files on it is worth remembering
MANY = 1000


def file_digests(
    paths: Iterable[str], folder: Path, progress: Callable[[Iterable[Any], str, int], Iterable[Any]]
) -> list[str]:
    """A digest of the bytes of each file, remembered in `folder` where there are many.

    Args:
        paths: The files, some of them perhaps several times.
        folder: Where digests are kept from start to start.
        progress: Wraps the loop.
    """
    named = [os.path.abspath(path) for path in paths]  # noqa: PTH100 - see below
    files = list(dict.fromkeys(named))
    known, memory = {}, folder / f"{digest(os.path.commonpath(files) if files else '')}.parquet"
    if len(files) >= MANY:
        known = _recalled(memory)
    found: dict[str, tuple[int, int, str]] = {}
    for path in progress(files, "reading", len(files)):
        found[path] = _one(path, known.get(path))
    if len(files) >= MANY and found != known:
        _remember(memory, found)
    return [found[path][2] for path in named]


def state_of(path: str) -> str:
    """What changes with a file: its size and the time it was written."""
    try:
        about = os.stat(path)  # noqa: PTH116
    except OSError as error:
        raise DataError(f"'{shown(path)}' cannot be opened ({error.strerror}). Check its permissions") from None
    return f"{about.st_size}|{about.st_mtime_ns}"


def _one(path: str, known: tuple[int, int, str] | None) -> tuple[int, int, str]:
    """Size, time of change and digest, by bare system calls: of 300,000 small files the rest would take longest."""
    try:
        if known is not None:
            about = os.stat(path)  # noqa: PTH116
            if known[:2] == (about.st_size, about.st_mtime_ns):
                return known
        handle = os.open(path, os.O_RDONLY)
        try:
            about = os.fstat(handle)
            parts = [os.read(handle, about.st_size + 1)]
            while parts[-1]:  # one more read tells the end; large files come in several
                parts.append(os.read(handle, 2**24))
        finally:
            os.close(handle)
        return about.st_size, about.st_mtime_ns, digest(b"".join(parts))
    except OSError as error:
        raise DataError(f"'{path}' cannot be opened ({error.strerror}). Check the file and its permissions.") from None


def _recalled(memory: Path) -> dict[str, tuple[int, int, str]]:
    try:
        table = pd.read_parquet(memory)
        return {path: (size, changed, name) for path, size, changed, name in table.itertuples(index=False)}
    except (OSError, ValueError):  # not there, or cut short
        return {}


def _remember(memory: Path, found: dict[str, tuple[int, int, str]]) -> None:
    table = pd.DataFrame([(path, *about) for path, about in found.items()], columns=["path", "size", "changed", "name"])
    memory.parent.mkdir(parents=True, exist_ok=True)
    part = memory.with_suffix(f".{os.getpid()}.part")
    table.to_parquet(part, index=False)
    part.replace(memory)
