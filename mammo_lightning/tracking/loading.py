"""A model by its name in the MLflow registry, brought here to be loaded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from mammo_lightning.errors import DataError, TrackingError
from mammo_lightning.tracking.manifest import MANIFEST
from mammo_lightning.tracking.store import Store, default_uri, public, told

#: NAME@ALIAS or NAME/VERSION; the id of a run holds neither sign, and no run of a study is called by a number alone
NAMED = re.compile(r"(?P<name>[^@]+?)(?:@(?P<alias>[^@/]+)|/(?P<version>\d+))")
SHOWN = 8


class Version(NamedTuple):
    """A version in the registry, and the folder it was brought to."""

    folder: Path
    name: str
    version: str
    run: str  # MLflow's id
    tags: dict[str, str]


def is_registered_name(word: str) -> bool:
    """Whether a word has the form NAME@ALIAS or NAME/VERSION."""
    return NAMED.fullmatch(word) is not None


@contextmanager
def fetched(word: str, mlruns: Path, tracking_uri: str | None = None) -> Iterator[Version]:
    """The model folder of NAME@ALIAS or NAME/VERSION, here as long as the context lasts.

    Args:
        word: What is meant.
        mlruns: The tracking folder.
        tracking_uri: A server or database other than the folder's own.
    """
    match = NAMED.fullmatch(word)
    if match is None:
        raise TrackingError(f"{word!r} names no registered model; expected NAME@ALIAS or NAME/VERSION")
    if tracking_uri is None and not Path(mlruns).is_dir():
        raise TrackingError(f"no folder '{mlruns}'; pass --mlruns, or --tracking-uri of a server")
    store = Store(tracking_uri or default_uri(mlruns), mlruns)
    if not store.is_shared and not Path(store.uri.partition(":///")[2]).is_file():
        raise TrackingError(f"no registered model in '{mlruns}': nothing was published there. Register a run first")
    found = _version(store, match["name"], match["alias"], match["version"])
    if str(found.status) != "READY":
        raise TrackingError(f"version {found.version} of {found.name!r} is {found.status}; wait, or register it again")
    with TemporaryDirectory(prefix="mammo-model-") as scratch:
        folder = _downloaded(store, found, Path(scratch))
        if not any((folder / below / MANIFEST).is_file() for below in ("artifacts/servable", ".")):
            raise DataError(
                f"version {found.version} of {found.name!r} has no {MANIFEST}: it was made by another program, and "
                "what images it takes is not known"
            )
        yield Version(folder, str(found.name), str(found.version), str(found.run_id or ""), dict(found.tags or {}))


def _version(store: Store, name: str, alias: str | None, version: str | None) -> Any:
    """The version, or one line on what there is instead."""
    from mlflow.exceptions import MlflowException

    client = _client(store)
    try:
        if alias is not None:
            return client.get_model_version_by_alias(name, alias)
        return client.get_model_version(name, str(version))
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise _unreachable(store, error) from None
    where = public(store.uri)
    try:
        names = [each.name for each in client.search_registered_models(max_results=100)]
        if name not in names:
            raise TrackingError(
                f"no registered model {name!r} at {where}; known: {_listed(names)}. `python -m experiments.register` "
                "makes one of a run"
            )
        if alias is not None:
            known = sorted(client.get_registered_model(name).aliases)
            raise TrackingError(f"model {name!r} has no alias {alias!r}; known: {_listed(known)}")
        versions = sorted(int(each.version) for each in client.search_model_versions(f"name = '{name}'"))
    except MlflowException as error:
        raise _unreachable(store, error) from None
    raise TrackingError(f"model {name!r} has no version {version}; known: {_listed(list(map(str, versions)))}")


def _downloaded(store: Store, found: Any, scratch: Path) -> Path:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    client = _client(store)
    try:
        where = client.get_model_version_download_uri(found.name, found.version)
        if match := re.fullmatch(r"models:/(m-[0-9a-f]+)", where):
            where = client.get_logged_model(match[1]).artifact_location
        return Path(download_artifacts(artifact_uri=where, dst_path=str(scratch), tracking_uri=store.uri))
    except (MlflowException, OSError) as error:
        raise TrackingError(
            f"the files of version {found.version} of {found.name!r} cannot be had ({_line(error)}); was the model "
            "deleted? Register it again"
        ) from None


def _client(store: Store) -> Any:
    try:
        return store.client
    except TrackingError:
        raise
    except Exception as error:  # whatever a server or a driver raises
        raise _unreachable(store, error) from None


def _unreachable(store: Store, error: Exception) -> TrackingError:
    return TrackingError(
        f"the registry at {public(store.uri)} does not answer ({_line(error)}). Is the server running?"
    )


def _line(error: Exception) -> str:
    return told(next(iter(str(error).splitlines()), type(error).__name__))[:200]


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN]) + (" ..." if len(names) > SHOWN else "")
    return shown or "none"
