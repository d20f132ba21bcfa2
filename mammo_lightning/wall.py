"""What must be one for all machines that share a storage: the frozen test split, and the count of its reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mammo_lightning.datamodules.base import MammoDataModule
from mammo_lightning.datamodules.folds import Splits
from mammo_lightning.errors import TrackingError
from mammo_lightning.ledger import Ledger
from mammo_lightning.opening import check_storage
from mammo_lightning.tracking import lines
from mammo_lightning.tracking.files import write_whole
from mammo_lightning.tracking.test_reads import READS, TestRead, read_test, reads


@contextmanager
def opened(storage: str | None, mlruns: Path) -> Iterator[Ledger | None]:
    """The ledger of a storage that machines share, where one is named."""
    ledger = Ledger(check_storage(storage), mlruns) if storage else None
    try:
        yield ledger
    finally:
        if ledger is not None:
            ledger.close()


def bring_split(ledger: Ledger, data: MammoDataModule) -> None:
    """Have the test split here that was frozen elsewhere; one that was frozen here otherwise stops the study."""
    path = data.split_file
    shared = ledger.note(f"split {path.stem}")
    if shared is None:
        return
    if path.exists() and json.loads(path.read_text()) != json.loads(shared):
        raise TrackingError(
            f"the test split of these images in '{path.parent}' is not the one that the machines of --storage share: "
            "patients trained on in one would be tested on in the other. Use another --mlruns, or another --storage"
        )
    write_whole(path, shared.encode())


def share_split(ledger: Ledger, data: MammoDataModule) -> None:
    """Let all machines have the test split that was frozen here, unless another was quicker."""
    path = data.split_file
    if path.exists():
        ledger.keep(f"split {path.stem}", path.read_text())
        bring_split(ledger, data)


def read_counted(storage: str | None, mlruns: Path, splits: Splits, *, study: str, run: str) -> TestRead:
    """Open the test split for one frozen run; counted for all machines that share a storage, where one is named."""
    with opened(storage, mlruns) as ledger:
        if ledger is None:
            return read_test(mlruns, splits, study=study, run=run)
        return read_shared_test(ledger, mlruns, splits, study=study, run=run)


def read_shared_test(ledger: Ledger, mlruns: Path, splits: Splits, *, study: str, run: str) -> TestRead:
    """Open the test split for one frozen run, and count what all machines have read of it."""
    key, path = f"test {splits.test_digest} ", mlruns / READS
    read_test(mlruns, splits, study=study, run=run)
    here = {entry["run"]: entry for entry in reads(path, splits.test_digest)}
    for name, entry in here.items():
        ledger.keep(key + name, json.dumps(entry))
    for text in ledger.notes(key):
        if json.loads(text)["run"] not in here:
            lines.append(path, text.encode() + b"\n", flush=True)
    return read_test(mlruns, splits, study=study, run=run)
