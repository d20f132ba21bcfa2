"""The wall before the test split: the only place its rows come from, and every read is counted."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from mammo_lightning.datamodules.folds import TEST, Splits
from mammo_lightning.tracking import lines

READS = "test_reads.jsonl"


@dataclass(frozen=True)
class TestRead:
    """One read: the rows, and the how-manieth of this test set it is, over how many studies."""

    __test__ = False  # not a test class

    rows: NDArray[np.int64]
    count: int
    studies: int

    def __str__(self) -> str:
        times = "once" if self.count == 1 else f"{self.count} times"
        return f"test split read {times}, by {self.studies} {'study' if self.studies == 1 else 'studies'}"


def reads(path: Path, test: str) -> list[dict[str, Any]]:
    """Every read of a test split that is noted in a file."""
    found, _ = lines.read(path)
    return [entry for line in found if (entry := lines.parse(line)) and entry.get("test") == test]


def read_test(mlruns: Path, splits: Splits, *, study: str, run: str) -> TestRead:
    """Open the test split for one frozen run and count it; the same run is one read, however often resumed."""
    path = mlruns / READS
    path.parent.mkdir(parents=True, exist_ok=True)
    name = splits.test_digest
    with FileLock(f"{path}.lock"):
        found = reads(path, name)
        if all(entry["run"] != run for entry in found):
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            entry = {"event": "test_read", "test": name, "study": study, "run": run, "time": now}
            lines.append(path, json.dumps(entry).encode() + b"\n", flush=True)
            found.append(entry)
    rows = np.flatnonzero(splits.fold == TEST)
    return TestRead(rows, len(found), len({entry["study"] for entry in found}))
