"""A model by its name in the MLflow registry, brought here to be loaded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mammo_lightning.errors import DataError, MammoError, TrackingError
from mammo_lightning.tracking.courier import line
from mammo_lightning.tracking.files import remove, tree_digest
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.tracking.registry import ModelRegistry
from mammo_lightning.tracking.store import default_uri, public
from mammo_lightning.tracking.versions import MODEL, Version

#: NAME@ALIAS or NAME/VERSION; the id of a run holds neither sign, and no run of a study is called by a number alone
NAMED = re.compile(r"(?P<name>[^@]+?)(?:@(?P<alias>[^@/]+)|/(?P<version>\d+))")
#: written into the stored folder itself where a local one is served
LEFT_BY_MLFLOW = "registered_model_meta"


def is_registered_name(word: str) -> bool:
    """Whether a word has the form NAME@ALIAS or NAME/VERSION."""
    return NAMED.fullmatch(word) is not None


@contextmanager
def fetched(word: str, mlruns: Path, tracking_uri: str | None = None) -> Iterator[tuple[Version, Path]]:
    """The version that NAME@ALIAS or NAME/VERSION stands for, and its model folder, as long as the context lasts.

    Args:
        word: What is meant.
        mlruns: The tracking folder.
        tracking_uri: A server or database other than the folder's own.
    """
    match = NAMED.fullmatch(word)
    if match is None:
        raise TrackingError(f"{word!r} names no registered model; expected NAME@ALIAS or NAME/VERSION")
    registry = _registry(mlruns, tracking_uri)
    with _answering(registry):
        registry.model(match["name"])
        if match["alias"]:
            version = registry.at(match["name"], match["alias"])
        else:
            version = registry.version(match["name"], int(match["version"]))
    with TemporaryDirectory(prefix="mammo-model-") as scratch:
        folder = _downloaded(registry, version, Path(scratch))
        _check_content(version, folder)
        yield version, folder


def _registry(mlruns: Path, tracking_uri: str | None) -> ModelRegistry:
    """The registry that is meant; a database that is not there is not made by looking for it."""
    if tracking_uri is None and not Path(mlruns).is_dir():
        raise TrackingError(f"no folder '{mlruns}'; pass --mlruns, or --tracking-uri of a server")
    registry = ModelRegistry(Journal(mlruns), tracking_uri or default_uri(mlruns), mlruns)
    database = Path(registry.store.uri.partition(":///")[2])
    if registry.store.is_shared or database.is_file():
        return registry
    if tracking_uri is None:
        raise TrackingError(f"no registered model in '{mlruns}': nothing was published there. Register a run first")
    raise TrackingError(f"--tracking-uri {tracking_uri!r}: there is no database '{database}'; pass one that is there")


@contextmanager
def _answering(registry: ModelRegistry) -> Iterator[None]:
    """Whatever a server or a driver raises, in one line."""
    try:
        yield
    except MammoError:
        raise
    except Exception as error:
        raise TrackingError(
            f"the registry at {public(registry.store.uri)} does not answer ({line(error)}). Is the server running?"
        ) from None


def _downloaded(registry: ModelRegistry, version: Version, scratch: Path) -> Path:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    client = registry.store.client
    try:
        where = client.get_model_version_download_uri(version.name, str(version.version))
        if match := re.fullmatch(r"models:/(m-[0-9a-f]+)", where):
            where = client.get_logged_model(match[1]).artifact_location
        return Path(download_artifacts(artifact_uri=where, dst_path=str(scratch), tracking_uri=registry.store.uri))
    except (MlflowException, OSError) as error:
        raise TrackingError(
            f"the files of {version} cannot be had ({line(error)}); was the model deleted? Register it again"
        ) from None


def _check_content(version: Version, folder: Path) -> None:
    """Refuse what is not, byte for byte, what was registered."""
    registered = version.tags.get(MODEL, "").rpartition("/")[2]
    if not version.run_id or not registered:
        raise DataError(
            f"{version} was not registered from here, and what it was made as is not known; register its run with "
            f"`python -m experiments.register RUN --name {version.name}`"
        )
    for path in list(folder.rglob(LEFT_BY_MLFLOW)):
        remove(path)
    if tree_digest(folder) != registered:
        raise DataError(
            f"the files of {version} are not what was registered of run '{version.run_id}'; restore them, or name that "
            "run itself where it was made"
        )
