"""One run from its journal into MLflow, such that doing it twice changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from mammo_lightning.tracking.batch import Batch, chunks, first_tags, log
from mammo_lightning.tracking.journal import RunJournal
from mammo_lightning.tracking.models import log_model
from mammo_lightning.tracking.state import Event
from mammo_lightning.types import Outcome

if TYPE_CHECKING:
    from mlflow import MlflowClient

STATUS = {
    Outcome.completed: "FINISHED",
    Outcome.pruned: "KILLED",
    Outcome.failed: "FAILED",
    Outcome.interrupted: "KILLED",
}


def is_refused(error: Exception) -> bool:
    """Whether MLflow would refuse the same thing again, however often it is sent."""
    return getattr(error, "error_code", None) in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")


def find_or_create(
    client: MlflowClient, run: RunJournal, experiment_id: str, parent: str | None, begun: Event
) -> tuple[str, bool]:
    """MLflow id of a run, and whether it is still there: a run that somebody deleted stays deleted."""
    from mlflow.entities import ViewType

    query = f"tags.journal = '{run.run_id}'"
    for found in client.search_runs([experiment_id], query, run_view_type=ViewType.ALL, max_results=1):
        return found.info.run_id, found.info.lifecycle_stage == "active"
    tags = first_tags(run.run_id, begun["identity"], begun["tags"])
    if parent:
        tags["mlflow.parentRunId"] = parent
    created = client.create_run(experiment_id, begun["time"], tags, run_name=begun["identity"]["name"])
    return created.info.run_id, True


def deliver(client: MlflowClient, experiment_id: str, mlflow_id: str, run: RunJournal, events: list[Event]) -> None:
    """Send events: batches first, then files, then how the run ended."""
    from mlflow.exceptions import MlflowException

    batch = Batch()
    for event in events:
        batch.take(event)
    _send(client, mlflow_id, batch)
    last = {(event["event"], event.get("file", event.get("name"))): event for event in events}
    for event in last.values():
        try:
            _file(client, experiment_id, mlflow_id, run, event)
        except (MlflowException, OSError, ValueError) as error:
            gone = isinstance(error, FileNotFoundError | ValueError)
            if not (gone or is_refused(error)):
                raise
            log.warning("run %s: %s %r was left out: %s", run.run_id, event["event"], event.get("name"), error)
    _status(client, mlflow_id, events)


def _send(client: MlflowClient, mlflow_id: str, batch: Batch) -> None:
    from mlflow.entities import Metric, Param, RunTag

    if batch.dropped:
        log.warning("not finite, hence not published: %s", ", ".join(sorted(batch.dropped)))
        batch.tags["not_finite"] = ", ".join(sorted(batch.dropped))
    if batch.params:
        known = client.get_run(mlflow_id).data.params
        changed = [key for key, value in batch.params.items() if known.get(key, value) != value]
        if changed:
            log.warning("parameters cannot change; the former values stay: %s", ", ".join(changed))
        batch.params = {key: value for key, value in batch.params.items() if key not in known}
    for part in chunks([Metric(*point) for point in dict.fromkeys(batch.metrics)], 1000):
        client.log_batch(mlflow_id, metrics=part, synchronous=True)
    for part in chunks([Param(key, value[:6000]) for key, value in batch.params.items()], 100):
        client.log_batch(mlflow_id, params=part, synchronous=True)
    for part in chunks([RunTag(key, value[:8000]) for key, value in batch.tags.items()], 100):
        client.log_batch(mlflow_id, tags=part, synchronous=True)


def _file(client: MlflowClient, experiment_id: str, mlflow_id: str, run: RunJournal, event: Event) -> None:
    match event["event"]:
        case "artifact":
            name = Path(event["name"])
            folder = name.parent.as_posix()
            client.log_artifact(mlflow_id, str(run.artifacts / name), None if folder == "." else folder)
        case "image":
            _image(client, mlflow_id, run.folder / event["file"], event)
        case "dataset":
            _dataset(client, mlflow_id, event)
        case "model":
            log_model(client, experiment_id, mlflow_id, run, event)


def _image(client: MlflowClient, mlflow_id: str, path: Path, event: Event) -> None:
    from PIL import Image

    name = f"images/{event['key'].replace('/', '~')}+step+{event['step']}+timestamp+{event['time']}+"
    present = [file.path for file in client.list_artifacts(mlflow_id, "images")]
    if any(file.startswith(name) and file.endswith(".webp") for file in present):
        return  # every call writes under a new random name, the small copy last
    with Image.open(path) as image:
        client.log_image(
            mlflow_id,
            image.convert("RGB"),
            key=event["key"],
            step=event["step"],
            timestamp=event["time"],
            synchronous=True,
        )


def _dataset(client: MlflowClient, mlflow_id: str, event: Event) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    profile = {**event["profile"], **({"split": event["split"]} if event["split"] else {})}
    dataset = Dataset(
        name=event["name"],
        digest=event["digest"][:36],
        source_type="local",
        source=json.dumps({"uri": event["source"]}),
        profile=json.dumps(profile),
    )
    # the store keeps one input for a pair of run and dataset, however often it is told
    client.log_inputs(mlflow_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])


def _status(client: MlflowClient, mlflow_id: str, events: list[Event]) -> None:
    last = next((event for event in reversed(events) if event["event"] in ("end", "reopen")), None)
    if last is None:
        return
    if last["event"] == "end":
        for key in ("outcome", "reason"):
            if last[key]:
                client.set_tag(mlflow_id, key, last[key][:8000])
        client.set_terminated(mlflow_id, STATUS[Outcome(last["outcome"])], last["time"])
        return
    for key in ("outcome", "reason"):
        if key in client.get_run(mlflow_id).data.tags:
            client.delete_tag(mlflow_id, key)
    client.update_run(mlflow_id, status="RUNNING")
