"""Where MLflow keeps the files of a run or a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mammo_lightning.tracking.patience import Patient, is_missing, is_refused

if TYPE_CHECKING:
    from mlflow import MlflowClient


class Shelf:
    """One artifact folder. A client's own methods would ask for its place, and remember an answer cut to nothing."""

    def __init__(self, client: MlflowClient, place: str) -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        known: Any = client  # a `Patient` in all but its type
        self._store = Patient(get_artifact_repository(place, tracking_uri=client.tracking_uri), known.patience)

    def put(self, path: Path, folder: str = ".") -> None:
        """Put a file into a folder, in the place of one of its name."""
        self._store.log_artifact(str(path), None if folder == "." else folder)

    def get(self, name: str, folder: Path) -> Path:
        """Copy a file into a folder of this machine, under its own name."""
        return Path(self._store.download_artifacts(name, str(folder)))

    def delete(self, name: str | None = None) -> None:
        """Delete a file or folder, or all there is; what is not there, or may not be deleted, is no matter."""
        try:
            self._store.delete_artifacts(name)
        except Exception as error:
            # some kinds of artifact store cannot delete, and say so in this way
            harmless = isinstance(error, FileNotFoundError | NotImplementedError)
            if not (harmless or is_missing(error) or is_refused(error)):
                raise
