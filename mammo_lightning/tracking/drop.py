"""What a run no longer keeps goes away in MLflow, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mammo_lightning.tracking.batch import image_stem
from mammo_lightning.tracking.journal import RunJournal
from mammo_lightning.tracking.shelf import Shelf
from mammo_lightning.tracking.state import PLACES, Event, lies_below, place

if TYPE_CHECKING:
    from mlflow import MlflowClient


def undeliver(client: MlflowClient, experiment_id: str, mlflow_id: str, run: RunJournal, drops: list[str]) -> None:
    """Delete what lay below dropped prefixes and was not said again; what was never delivered is no matter."""
    gone, held = _gone(run.since(0)[0])
    gone = [event for event in gone if any(lies_below(prefix, event) for prefix in drops)]
    if not gone:
        return
    shelf = Shelf(client, client.get_run(mlflow_id).info.artifact_uri)
    names = {place(event) for event in gone if event["event"] == "artifact"}
    whole = [prefix for prefix in drops if not any(lies_below(prefix, event) for event in held)]
    # a folder at once where nothing in it is kept
    folders = [prefix for prefix in whole if any(name.startswith(f"{prefix}/") for name in names)]
    for name in [*folders, *(name for name in names if not any(name.startswith(f"{each}/") for each in folders))]:
        shelf.delete(name)
    for event in gone:
        if event["event"] == "image":
            for end in (".png", "+compressed.webp"):
                shelf.delete(f"images/{image_stem(event)}{end}")
        elif event["event"] == "model":
            identity = f"{run.run_id}/{event['name']}/{event['digest']}"
            for model in client.search_logged_models([experiment_id], f"tags.journal = '{identity}'"):
                if not _is_registered(client, model):
                    delete_model(client, model)


def _is_registered(client: MlflowClient, model: Any) -> bool:
    """Whether somebody gave the model a name in the registry: then it is theirs."""
    versions = client.search_model_versions(f"run_id = '{model.source_run_id}'")
    return any(f"models:/{model.model_id}" in (version.source, f"models:/{version.model_id}") for version in versions)


def delete_model(client: MlflowClient, model: Any) -> None:
    """A logged model with its files; the files first, for a deleted entry is not found again."""
    Shelf(client, model.artifact_location).delete()
    client.delete_logged_model(model.model_id)


def _gone(events: list[Event]) -> tuple[list[Event], list[Event]]:
    """Of all that was said of files, what was dropped and not said again, and what is kept."""
    said: dict[tuple[str, ...], Event] = {}
    gone: dict[tuple[str, ...], Event] = {}
    for event in events:
        if event["event"] in PLACES:
            # in MLflow an artifact replaces one of its name; images and models stand beside their former selves
            more = {"image": str(event["time"]), "model": str(event["digest"])}.get(event["event"], "")
            key = (event["event"], place(event), more)
            said[key] = event
            gone.pop(key, None)
        elif event["event"] == "drop":
            for each in [each for each, one in said.items() if lies_below(event["name"], one)]:
                gone[each] = said.pop(each)
    return list(gone.values()), list(said.values())
