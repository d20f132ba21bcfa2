"""Model folders as MLflow's logged models: shown with their run, ready to be registered."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mammo_lightning.tracking.batch import chunks, clean, shown
from mammo_lightning.tracking.drop import delete_model
from mammo_lightning.tracking.journal import RunJournal
from mammo_lightning.tracking.patience import Gone, find_or_make
from mammo_lightning.tracking.shelf import Shelf
from mammo_lightning.tracking.state import Event

if TYPE_CHECKING:
    from mlflow import MlflowClient


def log_model(client: MlflowClient, experiment_id: str, mlflow_id: str, run: RunJournal, event: Event) -> None:
    """Make a model folder a logged model of its run, with the metrics that are its own; once."""
    from mlflow.entities import LoggedModelOutput, Metric

    folder = run.folder / event["folder"]
    if not (folder / "MLmodel").is_file():
        raise Gone(f"no MLmodel in {folder}")
    model = _model(client, experiment_id, mlflow_id, run, event)
    if str(model.status) != "READY":
        _upload(client, model, mlflow_id, folder)
        client.finalize_logged_model(model.model_id, "READY")

    def listed() -> bool:
        outputs = client.get_run(mlflow_id).outputs
        return model.model_id in [output.model_id for output in (outputs.model_outputs if outputs else [])]

    find_or_make(listed, lambda: client.log_outputs(mlflow_id, [LoggedModelOutput(model.model_id, step=0)]))
    dataset = _last_dataset(run)
    metrics = [
        Metric(clean(key), shown(value), time_ms, 0, model_id=model.model_id, run_id=mlflow_id, **dataset)
        for key, (value, time_ms) in event["metrics"].items()
        if math.isfinite(value)
    ]
    for part in chunks(metrics, 1000):
        client.log_batch(mlflow_id, metrics=part, synchronous=True)


def _model(client: MlflowClient, experiment_id: str, mlflow_id: str, run: RunJournal, event: Event) -> Any:
    """The logged model of an event; empty ones beside it, of creations whose reply was lost, are deleted."""
    identity = f"{run.run_id}/{event['name']}/{event['digest']}"
    found = find_or_make(
        lambda: client.search_logged_models([experiment_id], f"tags.journal = '{identity}'"),
        lambda: client.create_logged_model(
            experiment_id,
            name=clean(event["name"]).replace("/", "-").replace(":", "-").replace(".", "-"),
            source_run_id=mlflow_id,
            tags={"journal": identity, "study": run.identity["study"], "kind": run.identity["kind"]},
        ),
    )
    # one that was made for a run that is gone is none of ours
    order = sorted(
        found, key=lambda each: (each.source_run_id != mlflow_id, str(each.status) != "READY", each.model_id)
    )
    for other in order[1:]:
        delete_model(client, other)
    return order[0]


def _upload(client: MlflowClient, model: Any, mlflow_id: str, folder: Path) -> None:
    from mlflow.models import Model

    shelf = Shelf(client, model.artifact_location)
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / "MLmodel"):
        shelf.put(path, path.parent.relative_to(folder).as_posix())
    description = Model.load(str(folder))
    # the folder was written before MLflow had a name for it; a version is registered under that name
    description.run_id, description.model_id, description.model_uuid = mlflow_id, model.model_id, model.model_id
    description.artifact_path = model.artifact_location
    with tempfile.TemporaryDirectory() as scratch:
        description.save(str(Path(scratch) / "MLmodel"))
        shelf.put(Path(scratch) / "MLmodel")


def _last_dataset(run: RunJournal) -> dict[str, str]:
    events = [event for event in run.since(0)[0] if event["event"] == "dataset"]
    return {"dataset_name": events[-1]["name"], "dataset_digest": events[-1]["digest"][:36]} if events else {}
