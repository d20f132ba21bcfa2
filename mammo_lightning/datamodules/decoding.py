"""Every image of an index read once, in order, by several threads, into one file that grows; stopped, it goes on."""

from __future__ import annotations

import json
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.lib import format as npy
from numpy.typing import NDArray

from mammo_lightning.errors import DataError
from mammo_lightning.hardware import cores
from mammo_lightning.types import digest

Read = Callable[[Mapping[str, Any]], NDArray[Any]]
Noticed = Callable[[], list[str]]
Progress = Callable[[Iterable[Any], str, int], Iterable[Any]]
Result = tuple[NDArray[Any] | DataError, list[str]]
KINDS = {1: "grey", 3: "colour"}
#: rows that one thread takes at a time; rows of one file stay together as far as the second number
TOGETHER, ONE_FILE = 16, 512


def decode(
    folder: Path,
    frame: pd.DataFrame,
    read: Read,
    *,
    size: int | None,
    lenient: bool,
    progress: Progress,
    noticed: Noticed = list,
) -> None:
    """Write images.npy, frame.parquet and meta.json of an index into `folder`, or go on with what stands there.

    Args:
        folder: Where to write; what an earlier, interrupted call left there is kept.
        frame: One row an image.
        read: From a row to its pixels, H x W or H x W x C.
        size: Side of a square to resize to.
        lenient: Leave out what cannot be read, instead of refusing all.
        progress: Wraps the loop.
        noticed: What `read` noticed in this thread since it was last asked.
    """
    folder.mkdir(exist_ok=True)
    grown, names = _Grown(folder), frame["image"].astype(str).tolist()
    try:
        results = _ahead(frame.iloc[len(grown.rows) :], read, noticed)
        for result, notices in progress(results, "decoding", len(frame) - len(grown.rows)):
            grown.add(result, notices, names[len(grown.rows)], size)
    finally:
        grown.close()
    kept = [position for position, row in enumerate(grown.rows) if not row.why]
    unreadable = [(names[position], row.why) for position, row in enumerate(grown.rows) if row.why]
    if unreadable and not lenient:
        more = f" (and {len(unreadable) - 1} more; the audit lists all)" if len(unreadable) > 1 else ""
        raise DataError(f"{unreadable[0][1].rstrip('.')}{more}. Mend or remove it, or pass --skip-unreadable")
    if not kept:
        raise DataError(f"none of {len(frame)} images can be read; the first: {unreadable[0][1]}")
    table = frame.iloc[kept].reset_index(drop=True)
    table["pixels"] = [grown.rows[position].pixels for position in kept]
    table["flags"] = ["; ".join(grown.rows[position].notices) for position in kept]
    table.to_parquet(folder / "frame.parquet")
    seen = Counter(notice for row in grown.rows for notice in row.notices)
    meta = {"shape": [len(kept), *grown.shape], "unreadable": unreadable, "seen": seen}
    (folder / "meta.json").write_text(json.dumps(meta))


LOG = "rows.jsonl"


class _Row(NamedTuple):
    pixels: str  # its digest
    why: str  # it has none
    notices: list[str]


class _Grown:
    """images.npy as far as it has been written, and a line a row beside it."""

    def __init__(self, folder: Path) -> None:
        self.file, self.log = folder / "images.npy", folder / LOG
        self.rows: list[_Row] = []
        self.shape: tuple[int, ...] = ()
        self.dtype = np.dtype(np.uint8)
        self.first = ""
        self.written = 0
        self._take_up()
        self._pixels: IO[bytes] = self.file.open("r+b" if self.file.exists() else "w+b")
        self._lines = self.log.open("a")
        if self.shape:
            self._pixels.seek(self._start + self.written * self._bytes)
            self._pixels.truncate()

    def _take_up(self) -> None:
        """What an earlier call wrote whole; of the rest nothing is kept."""
        try:
            text = self.log.read_text().split("\n")[:-1]  # what has no end of line was being written
            lines = [_Row(*json.loads(line)) for line in text]
            with self.file.open("rb") as stream:
                npy.read_magic(stream)
                shape, _, self.dtype = npy.read_array_header_1_0(stream)
                self.shape, self._start = tuple(shape[1:]), stream.tell()
            whole = (self.file.stat().st_size - self._start) // self._bytes
        except (OSError, ValueError, TypeError):
            lines, whole, self.shape = [], 0, ()
            self.file.unlink(missing_ok=True)
        for row in lines:
            if not row.why and self.written == whole:
                break
            self.rows.append(row)
            self.written += not row.why
        self.log.write_text("".join(json.dumps(row) + "\n" for row in self.rows))

    @property
    def _bytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def add(self, result: NDArray[Any] | DataError, notices: list[str], name: str, size: int | None) -> None:
        """One more row."""
        pixels, why = "", ""
        if isinstance(result, DataError):
            why = str(result)
        elif result.min() == result.max():
            why = f"'{name}' is constant ({result.flat[0]}); an image needs contrast"
        else:
            planes = resized(result[None] if result.ndim == 2 else np.moveaxis(result, -1, 0), size)
            self._check(planes, name)
            content = np.ascontiguousarray(planes).tobytes()
            pixels = digest(planes.shape, planes.dtype, content)
            self._pixels.write(content)
            self.written += 1
        self.rows.append(_Row(pixels, why, notices))
        self._lines.write(json.dumps(self.rows[-1]) + "\n")

    def _check(self, planes: NDArray[Any], name: str) -> None:
        if not self.shape:
            self.shape, self.dtype, self.first = planes.shape, planes.dtype, name
            self._header()
            self._start = self._pixels.tell()
            return
        first = self.first or "the first"
        if planes.dtype != self.dtype:
            listed = ", ".join(
                f"{kind} ('{each}')" for kind, each in sorted([(str(self.dtype), first), (str(planes.dtype), name)])
            )
            raise DataError(f"images of several depths: {listed}; all must share one. Convert them to one depth")
        if planes.shape[0] != self.shape[0]:
            kinds = ", ".join(
                f"{_kind(shape)} ('{each}')" for shape, each in sorted([(self.shape, first), (planes.shape, name)])
            )
            raise DataError(f"images of several kinds: {kinds}; all must be of one. Make all grey or all RGB")
        if planes.shape != self.shape:
            some = ", ".join(f"{h}x{w} ('{each}')" for (_, h, w), each in [(self.shape, first), (planes.shape, name)])
            raise DataError(
                f"images of several sizes: {some}; all must share one. Pass --size N to resize all to N x N"
            )

    def _header(self) -> None:
        """The head of the file; NumPy leaves room in it for a first axis that grows."""
        about = {"descr": npy.dtype_to_descr(self.dtype), "fortran_order": False, "shape": (self.written, *self.shape)}
        npy.write_array_header_1_0(self._pixels, about)

    def close(self) -> None:
        """Bring the head up to date, and everything to disk."""
        if self.shape:
            self._pixels.seek(0)
            self._header()
        for stream in (self._pixels, self._lines):
            stream.flush()
            os.fsync(stream.fileno())  # a name without its content would be trained on
            stream.close()


def _ahead(frame: pd.DataFrame, read: Read, noticed: Noticed) -> Iterator[Result]:
    """What `read` gives or refuses for each row, in order, a few rows ahead of who asks."""

    def one(row: dict[str, Any]) -> Result:
        noticed()  # what another row that was given up in this thread has left
        try:
            return read(row), noticed()
        except DataError as error:
            return error, noticed()

    def work(rows: list[dict[str, Any]]) -> list[Result]:
        return [one(row) for row in rows]

    threads = cores()
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[list[Result]]] = deque()
    try:
        for rows in _portions(frame):
            waiting.append(pool.submit(work, rows))
            if len(waiting) > threads:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _portions(frame: pd.DataFrame) -> Iterator[list[dict[str, Any]]]:
    """Rows as dicts, a few at a time; those of one file are together, for it is opened once."""
    columns = list(frame.columns)
    rows: list[dict[str, Any]] = []
    for values in frame.itertuples(index=False, name=None):
        row = dict(zip(columns, values, strict=True))
        same = bool(rows) and row.get("path") is not None and row.get("path") == rows[-1].get("path")
        if len(rows) >= (ONE_FILE if same else TOGETHER):
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows


def resized(planes: NDArray[Any], size: int | None) -> NDArray[Any]:
    """C x H x W at C x size x size, by area where it shrinks."""
    if size is None or planes.shape[1:] == (size, size):
        return planes
    import cv2

    way = cv2.INTER_AREA if max(planes.shape[1:]) > size else cv2.INTER_LINEAR
    return np.stack([cv2.resize(channel, (size, size), interpolation=way) for channel in planes])


def _kind(shape: tuple[int, ...]) -> str:
    channels, height, width = shape
    return f"{KINDS.get(channels, f'{channels} channels')} {height}x{width}"
