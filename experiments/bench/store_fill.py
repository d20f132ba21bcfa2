"""A tracking folder with many small runs, in journal and MLflow, written directly: delivering them would take hours."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EXPERIMENT = "synthetic"
METRICS = ("val_auc", "val_auc_lo", "val_auc_hi", "val_tpr", "val_fpr", "val_ap", "val_mcc", "threshold", "objective")
#: insertions per table: runs, tags, params, metrics, latest_metrics
Rows = tuple[list[Any], list[Any], list[Any], list[Any], list[Any]]


def fill(mlruns: Path, runs: int = 10_000, *, trials: int = 99, published: bool = True) -> list[str]:
    """Write studies of `trials` trials each, `runs` runs in all; returns the ids of their runs.

    Args:
        mlruns: The tracking folder; it should hold no runs yet.
        runs: Runs in all, studies included.
        trials: Trials of one study.
        published: Whether MLflow's database has them already, and the publisher knows.
    """
    names = []
    if published:
        from mammo_lightning.tracking.store import Store, default_uri

        store = Store(default_uri(mlruns), mlruns)
        experiment_id, mark = store.experiment(EXPERIMENT)
    rows: Rows = ([], [], [], [], [])
    lines = []
    for run_id, events in _journals(runs, trials):
        text = "".join(json.dumps(event) + "\n" for event in events)
        folder = mlruns / "journal" / run_id
        folder.mkdir(parents=True)
        (folder / "events.jsonl").write_text(text)
        names.append(run_id)
        if published:
            mlflow_id = uuid.uuid5(uuid.NAMESPACE_OID, run_id).hex
            _rows(rows, mlflow_id, run_id, events, experiment_id, (mlruns / "artifacts").resolve().as_uri())
            place = {"mlflow_id": mlflow_id, "store": mark, "experiment": EXPERIMENT, "active": True, "doubt": 0.0}
            lines.append(json.dumps({"run": run_id, "offset": len(text), **place}) + "\n")
    if published:
        (mlruns / "journal" / f"published-{store.key}.jsonl").write_text("".join(lines))
        _insert(mlruns / "mlflow.db", rows)
    return names


def _journals(runs: int, trials: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    start = int(time.time() * 1000) - 86_400_000
    for number in range(runs):
        study, slot = divmod(number, trials + 1)
        parent = f"fill{study:04d}"
        run_id, kind, name = parent, "study", parent
        if slot:
            run_id, kind, name = f"{parent}.t{slot - 1:03d}", "trial", f"t{slot - 1:03d} hyper"
        now = start + 100 * number
        identity = {"kind": kind, "name": name, "study": parent, "parent": parent if slot else None}
        tags = {"study": parent, "dataset": EXPERIMENT, "classifier": "hyper", "trial": str(slot - 1)}
        auc = 0.7 + 0.25 * (number * 7919 % 1000) / 1000
        yield (
            run_id,
            [
                {
                    **{"time": now, "event": "begin", "identity": {**identity, "experiment": EXPERIMENT}},
                    **{"tags": tags, "order": now * 1_000_000},
                },
                {"time": now + 1, "event": "params", "values": {f"setting{key}": str(key + slot) for key in range(15)}},
                {"time": now + 2, "event": "metrics", "step": 0, "values": dict.fromkeys(METRICS, auc)},
                {"time": now + 3, "event": "series", "key": "fold/val_auc", "points": [[f, auc] for f in range(5)]},
                {
                    **{"time": now + 4, "event": "series", "key": "epoch/train_loss/f0"},
                    "points": [[epoch, 1 / (1 + epoch)] for epoch in range(20)],
                },
                {"time": now + 90, "event": "end", "outcome": "completed", "reason": ""},
            ],
        )


def _rows(
    rows: Rows, mlflow_id: str, run_id: str, events: list[dict[str, Any]], experiment_id: str, artifacts: str
) -> None:
    begun, params, metrics, *curves, ended = events
    identity, (to_runs, to_tags, to_params, to_metrics, to_latest) = begun["identity"], rows
    where = f"{artifacts}/{mlflow_id}/artifacts"
    times = (begun["time"], ended["time"])
    fixed = ("UNKNOWN", "", "", "bench", "FINISHED", *times, "", "active", where, int(experiment_id))
    to_runs.append((mlflow_id, identity["name"], *fixed))
    tags = {**begun["tags"], "journal": run_id, "kind": identity["kind"], "outcome": "completed"}
    tags |= {"mlflow.journal": "kept", "mlflow.runName": identity["name"]}
    if identity["parent"]:
        tags["mlflow.parentRunId"] = uuid.uuid5(uuid.NAMESPACE_OID, identity["parent"]).hex
    to_tags.extend((key, value, mlflow_id) for key, value in tags.items())
    to_params.extend((key, value, mlflow_id) for key, value in params["values"].items())
    points = [(key, value, metrics["time"], 0) for key, value in metrics["values"].items()]
    points += [(curve["key"], value, curve["time"], step) for curve in curves for step, value in curve["points"]]
    to_metrics.extend((key, value, when, mlflow_id, step) for key, value, when, step in points)
    last = {key: (value, when, step) for key, value, when, step in points}
    to_latest.extend((key, value, when, step, mlflow_id) for key, (value, when, step) in last.items())


def _insert(database: Path, rows: Rows) -> None:
    columns = {
        "runs": "run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time, end_time, "
        "source_version, lifecycle_stage, artifact_uri, experiment_id",
        "tags": "key, value, run_uuid",
        "params": "key, value, run_uuid",
        "metrics": "key, value, timestamp, run_uuid, step, is_nan",
        "latest_metrics": "key, value, timestamp, step, run_uuid, is_nan",
    }
    with sqlite3.connect(database, timeout=60) as connection:
        for (table, names), values in zip(columns.items(), rows, strict=True):
            more = [(*row, 0) for row in values] if names.endswith("is_nan") else values
            slots = ", ".join("?" * (names.count(",") + 1))
            connection.executemany(f"insert into {table} ({names}) values ({slots})", more)
    connection.close()
