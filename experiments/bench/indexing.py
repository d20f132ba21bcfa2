"""How long the full histopathology set takes to be known and to be opened, and what memory that needs."""

from __future__ import annotations

import resource
import struct
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from experiments.bench.measure import answer, asked, child, table

PATIENTS, PATCHES, SIDE = 279, 277_524, 50
#: asked: seconds to the checked index, GiB at most
SECONDS, MEMORY = 20, 2


def measure(console: Console, quick: bool) -> None:
    """Print the table."""
    patches = 2_000 if quick else PATCHES
    with tempfile.TemporaryDirectory() as name:
        _write(Path(name) / "idc", patches)
        steps = ((False, "index"), (True, "mlruns"), (True, "mlruns"))
        root = f"{name}/idc"
        found = [child("indexing", root=root, mlruns=f"{name}/{runs}", whole=whole) for whole, runs in steps]
    title = f"{patches:,} patches of {PATIENTS} patients, one PNG each"
    shown = table(title, "what", "seconds", "most memory, GiB", "asked")
    rows = ("index: names, labels, patients, digests of files", "opened the first time: decoded too", "opened again")
    limits = (f"{SECONDS} s, {MEMORY} GiB", "", "")
    for what, each, limit in zip(rows, found, limits, strict=True):
        shown.add_row(what, f"{each['seconds']:.1f}", f"{each['memory']:.2f}", limit)
    console.print(shown)
    console.print("each in a process of its own; its start and imports left out of the seconds\n")


def _write(root: Path, patches: int) -> None:
    """Kaggle's layout; pixels repeat, bytes do not."""
    rng = np.random.default_rng(0)
    pool = [_png(rng.integers(120, 255, (SIDE, SIDE, 3), np.uint8) // 8 * 8) for _ in range(64)]
    for number in range(patches):
        patient, label = str(8863 + number % PATIENTS), str(int(number // PATIENTS % 7 < 2))
        folder = root / patient / label
        if number < 7 * PATIENTS:
            folder.mkdir(parents=True, exist_ok=True)
        name = f"{patient}_idx5_x{1 + 50 * (number // PATIENTS)}_y1_class{label}.png"
        head, tail = pool[number % len(pool)]
        (folder / name).write_bytes(head + _chunk(b"tEXt", f"Comment\0{number}".encode()) + tail)


def _png(pixels: Any) -> tuple[bytes, bytes]:
    """A PNG, cut where a comment may stand."""
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)
    head = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0))
    return head, _chunk(b"IDAT", zlib.compress(lines)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _open(root: Path, mlruns: Path, whole: bool) -> dict[str, float]:
    from mammo_lightning.datamodules.base import _checked
    from mammo_lightning.registry import DATASETS

    data = DATASETS.get("idc")(root=root, mlruns=mlruns)
    start = time.perf_counter()
    if whole:
        data.prepare_data()
    else:
        data.contents(_checked(data.index()))
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


if __name__ == "__main__":
    given = asked()
    answer(**_open(Path(given["root"]), Path(given["mlruns"]), given["whole"]))
