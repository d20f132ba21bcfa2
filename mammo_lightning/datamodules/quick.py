"""A quick look at some patients of a dataset, and who must not be among them, or in a test split afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from filelock import FileLock

from mammo_lightning.types import digest


def frozen_patients(file: Path) -> set[str]:
    """Patients of the frozen test split; empty where none was made."""
    return set(json.loads(file.read_text())["patients"]) if file.exists() else set()


def looked_at(file: Path) -> set[str]:
    """Patients whom a quick look has shown before a test split was frozen: they cannot become part of one."""
    looked = file.with_suffix(".looked.json")
    return set(json.loads(looked.read_text())) if looked.exists() else set()


def remember_looked(file: Path, patients: Iterable[str]) -> None:
    """Add to `looked_at`."""
    looked = file.with_suffix(".looked.json")
    looked.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{looked}.lock"):
        part = looked.with_suffix(".part")
        part.write_text(json.dumps(sorted(looked_at(file) | set(patients))))
        part.replace(looked)


def quick_look(frame: pd.DataFrame, limit: int) -> pd.DataFrame:
    """About `limit` rows of whole patients of either class, never of an official test part."""
    frame = frame[frame["split"] != "test"]
    of_patient = frame.groupby("patient")["label"].agg(["max", "size"])
    order = of_patient.assign(draw=[digest("quick", patient) for patient in of_patient.index]).sort_values("draw")
    order["turn"] = order.groupby("max").cumcount()
    order = order.sort_values(["turn", "max"], kind="stable")
    kept = order.index[order["size"].cumsum() - order["size"] < limit]
    return frame[frame["patient"].isin(kept)].reset_index(drop=True)
