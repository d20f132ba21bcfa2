"""Files that are only appended to, one JSON object a line; a process may be killed in the middle of a line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def append(path: Path, data: bytes, *, flush: bool = False) -> None:
    """Append whole lines; half a line that a kill or a full disk left before them is ended first."""
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.lseek(handle, 0, os.SEEK_END)
        left = memoryview(b"\n" + data if size and os.pread(handle, 1, size - 1) != b"\n" else data)
        while left:
            left = left[os.write(handle, left) :]
        if flush:
            os.fsync(handle)
    finally:
        os.close(handle)


def read(path: Path, offset: int = 0) -> tuple[list[bytes], int]:
    """Whole lines that stand behind a byte offset, and the offset behind them; nothing where there is no file."""
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            data = stream.read()
    except FileNotFoundError:
        return [], offset
    end = data.rfind(b"\n") + 1
    return [line for line in data[:end].split(b"\n") if line], offset + end


def parse(line: bytes) -> dict[str, Any] | None:
    """The object of one line; None for a torn or overwritten one."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):  # also half a character, and a garbage of brackets
        return None
    return content if isinstance(content, dict) else None


def size(path: Path | str) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return os.stat(path).st_size  # noqa: PTH116 # ten thousand a second: a Path's own stat takes twice as long
    except OSError:
        return 0
