"""The model that a word means: a run of this folder, or a version in the MLflow registry."""

from __future__ import annotations

from pathlib import Path

from mammo_lightning.errors import TrackingError
from mammo_lightning.runs import Runs
from mammo_lightning.tracking.files import tree_digest
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.tracking.loading import fetched, is_registered_name
from mammo_lightning.tracking.servable import Servable, load_servable
from mammo_lightning.tracking.versions import servable as kept_model


def find_servable(word: str, mlruns: Path, tracking_uri: str | None = None) -> tuple[Servable, dict[str, str]]:
    """A model ready to score, and what is known of it.

    That is `name`, `run` (a journal id), `version` (in the registry, or empty) and `digest`; where the run is kept
    here, also `dataset` (the digest of what it learned from) and `leaky`.

    Args:
        word: A run's id, STUDY/t003, the name of a study (its final), NAME@ALIAS or NAME/VERSION.
        mlruns: The tracking folder.
        tracking_uri: A server or database other than the folder's own; only the registry is asked there.
    """
    if is_registered_name(word):
        with fetched(word, mlruns, tracking_uri) as (version, folder):
            servable = load_servable(folder)
            about = {"name": str(version), "version": str(version.version)}
            about |= {"run": servable.about.run, "digest": _digest(folder)}
        return servable, about | _known(mlruns, servable.about.run)
    try:
        (scored,) = Runs(mlruns).named([word])
    except TrackingError as error:
        hint = "" if "/" in word else f"; a registered model is asked for as {word}@champion or {word}/1"
        raise TrackingError(f"{error}{hint}") from None
    run = scored.run
    folder = run.folder / kept_model(run)["folder"]
    about = {"name": scored.name, "version": "", "run": run.run_id, "digest": _digest(folder)}
    return load_servable(folder), about | _known(mlruns, run.run_id)


def _known(mlruns: Path, run_id: str) -> dict[str, str]:
    """What the journal says of the run behind a model, if it is kept here."""
    try:
        run = Journal(mlruns).run(run_id)
        events = [event for event in run.since(0)[0] if event["event"] == "dataset"] if run.begun() else []
    except TrackingError:  # of a name that no run here can have
        return {}
    tags = run.read_tags() if events else {}
    return {"dataset": str(events[-1]["digest"]), "leaky": tags.get("leaky", "false")} if events else {}


def _digest(folder: Path) -> str:
    """Names weights and manifest: the same for a run's folder and for its copy in the registry."""
    inside = folder / "artifacts" / "servable"
    return tree_digest(inside if inside.is_dir() else folder)
