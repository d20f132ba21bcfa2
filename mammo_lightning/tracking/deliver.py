"""One run from its journal into MLflow, such that doing it twice changes nothing."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mammo_lightning.tracking.batch import Batch, chunks, first_tags, image_stem, log
from mammo_lightning.tracking.drop import undeliver
from mammo_lightning.tracking.journal import RunJournal
from mammo_lightning.tracking.models import log_model
from mammo_lightning.tracking.patience import Gone, find_or_make, is_refused
from mammo_lightning.tracking.sharing import attempt, leave_out_known
from mammo_lightning.tracking.shelf import Shelf
from mammo_lightning.tracking.state import PLACES, Event, address, lies_below
from mammo_lightning.types import Outcome

if TYPE_CHECKING:
    from mlflow import MlflowClient

STATUS = {
    Outcome.completed: "FINISHED",
    Outcome.pruned: "KILLED",
    Outcome.failed: "FAILED",
    Outcome.interrupted: "KILLED",
}
#: says that a run is the one that is delivered to; the UI does not show tags of this prefix
KEPT = "mlflow.journal"
SMALL = 256  # pixels at most along a side of an image's small copy


def kept_of(found: Iterable[Any]) -> Any:
    """Of several runs of one journal id the one that counts, whoever asks: one delivered to, then the lowest id."""
    return min(found, key=lambda run: (KEPT not in run.data.tags, run.info.run_id))


def find_or_create(
    client: MlflowClient, run: RunJournal, experiment_id: str, parent: str | None, begun: Event
) -> tuple[str, bool]:
    """MLflow id of a run, and whether it is still there: a run that somebody deleted stays deleted.

    A creation whose reply was lost, or two machines creating at once, leave a second run: an empty one is deleted.
    """
    from mlflow.entities import ViewType

    tags = first_tags(run.run_id, begun["identity"], begun["tags"])
    if parent:
        tags["mlflow.parentRunId"] = parent
    found = find_or_make(
        lambda: client.search_runs([experiment_id], f"tags.journal = '{run.run_id}'", run_view_type=ViewType.ALL),
        lambda: client.create_run(experiment_id, begun["time"], tags, run_name=begun["identity"]["name"]),
    )
    kept = kept_of(found)
    for other in found:
        if other is not kept and other.info.lifecycle_stage == "active":
            client.delete_run(other.info.run_id)
    return kept.info.run_id, kept.info.lifecycle_stage == "active"


def deliver(
    client: MlflowClient,
    experiment_id: str,
    mlflow_id: str,
    run: RunJournal,
    events: list[Event],
    parent: str | None = None,
) -> None:
    """Send events: one batch first, then files, then how the run ended."""
    batch = Batch()
    files: dict[tuple[str, str], Event] = {}
    drops: list[str] = []
    for event in events:
        batch.take(event)
        if event["event"] == "drop":
            drops.append(event["name"])
            files = {key: kept for key, kept in files.items() if not lies_below(event["name"], kept)}
        elif event["event"] in (*PLACES, "dataset"):
            files[address(event)] = event
    if any(event["event"] == "begin" for event in events):
        batch.tags |= {KEPT: "kept", **({"mlflow.parentRunId": parent} if parent else {})}
    if (last := _last(events)) and last["event"] == "end":
        batch.tags |= {key: last[key] for key in ("outcome", "reason") if last[key]}
    if any(event["event"] == "image" for event in files.values()):
        batch.tags["mlflow.loggedImages"] = "True"
    if attempt(run):
        leave_out_known(client, mlflow_id, batch)
    _send(client, mlflow_id, batch)
    if drops:
        undeliver(client, experiment_id, mlflow_id, run, drops)
    if files or run.outcome:
        shelf = Shelf(client, client.get_run(mlflow_id).info.artifact_uri)
        for event in files.values():
            _file(client, experiment_id, mlflow_id, run, event, shelf)
        if run.outcome:  # with its journal a run can be read on another machine as it is read here
            shelf.put(run.events)
    _status(client, mlflow_id, events)


def _send(client: MlflowClient, mlflow_id: str, batch: Batch) -> None:
    from mlflow.entities import Metric, Param, RunTag

    if batch.dropped:
        log.warning("not finite, hence not published: %s", ", ".join(sorted(batch.dropped)))
        batch.tags["not_finite"] = ", ".join(sorted(batch.dropped))
    if batch.params:
        known = client.get_run(mlflow_id).data.params
        changed = [key for key, value in batch.params.items() if known.get(key, value[:6000]) != value[:6000]]
        if changed:
            log.warning("parameters cannot change; the former values stay: %s", ", ".join(changed))
        batch.params = {key: value for key, value in batch.params.items() if key not in known}
    metrics = [Metric(*point) for point in dict.fromkeys(batch.metrics)]
    params = [Param(key, value[:6000]) for key, value in batch.params.items()]
    tags = [RunTag(key, value[:8000]) for key, value in batch.tags.items()]
    # one request where all of it fits; words and settings first
    client.log_batch(mlflow_id, metrics=metrics[:800], params=params[:100], tags=tags[:100], synchronous=True)
    for part in chunks(metrics[800:], 1000):
        client.log_batch(mlflow_id, metrics=part, synchronous=True)
    for part in chunks(params[100:], 100):
        client.log_batch(mlflow_id, params=part, synchronous=True)
    for part in chunks(tags[100:], 100):
        client.log_batch(mlflow_id, tags=part, synchronous=True)


def _file(
    client: MlflowClient, experiment_id: str, mlflow_id: str, run: RunJournal, event: Event, shelf: Shelf
) -> None:
    try:
        match event["event"]:
            case "artifact":
                name = Path(event["name"])
                shelf.put(_here(run.artifacts / name), name.parent.as_posix())
            case "image":
                _image(shelf, _here(run.folder / event["file"]), event)
            case "dataset":
                _dataset(client, mlflow_id, event)
            case "model":
                log_model(client, experiment_id, mlflow_id, run, event)
    except Exception as error:
        if not (isinstance(error, Gone) or is_refused(error)):
            raise
        if event["event"] == "dataset" or run.holds(event):  # else it was dropped or replaced meanwhile
            log.warning("run %s: %s %r was left out: %s", run.run_id, event["event"], event.get("name"), error)


def _here(path: Path) -> Path:
    if not path.is_file():
        raise Gone(f"no file {path}")
    return path


def _image(shelf: Shelf, path: Path, event: Event) -> None:
    from PIL import Image, UnidentifiedImageError

    with tempfile.TemporaryDirectory() as scratch:
        full = Path(scratch) / f"{image_stem(event)}.png"
        full.symlink_to(path)
        small = Path(scratch) / f"{image_stem(event)}+compressed.webp"
        try:
            with Image.open(path) as image:
                copy = image.convert("RGB")
        except UnidentifiedImageError as error:
            raise Gone(str(error)) from None
        copy.thumbnail((SMALL, SMALL))
        copy.save(small)
        for file in (full, small):
            shelf.put(file, "images")


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
    last = _last(events)
    if last is None:
        return
    again = any(event["event"] == "reopen" for event in events)
    stale = [key for key in ("outcome", "reason") if again and not last.get(key)]
    if stale:
        known = client.get_run(mlflow_id).data.tags
        for key in stale:
            if key in known:
                client.delete_tag(mlflow_id, key)
    if last["event"] == "end":
        client.set_terminated(mlflow_id, STATUS[Outcome(last["outcome"])], last["time"])
    else:
        client.update_run(mlflow_id, status="RUNNING")


def _last(events: list[Event]) -> Event | None:
    """The last word on whether a run has ended."""
    return next((event for event in reversed(events) if event["event"] in ("end", "reopen")), None)
