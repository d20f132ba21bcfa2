"""MLflow's model registry: versions of our models under a name, made once each, with aliases that move."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from filelock import FileLock

from mammo_lightning.errors import TrackingError
from mammo_lightning.tracking.courier import Courier, line
from mammo_lightning.tracking.journal import Journal, RunJournal
from mammo_lightning.tracking.patience import find_or_make, is_missing
from mammo_lightning.tracking.store import public, without_user
from mammo_lightning.tracking.versions import LONGEST, MODEL, OWNER, Version, check_names, servable

PATIENCE = 60.0  # seconds to wait for another process that registers or publishes
SHOWN = 12  # names in a message


class ModelRegistry:
    """The registry of one store, as far as it concerns the runs of one tracking folder."""

    def __init__(self, journal: Journal, uri: str, mlruns: Path) -> None:
        self.journal, self.mlruns = journal, Path(mlruns).resolve()
        self.courier = Courier(journal, uri, mlruns)
        self.store = self.courier.store

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One process of this folder at a time; a store that does not answer ends in one line."""
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        self.journal.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.journal.folder / f".registry-{self.store.key}.lock", timeout=PATIENCE):
                yield
        except TimeoutError:
            raise TrackingError(
                f"another process is at the registry of {public(self.store.uri)}; wait for it"
            ) from None
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise TrackingError(
                f"the registry of {public(self.store.uri)} does not answer as expected: {line(error)}. Is the server "
                "running? The same command goes on"
            ) from error

    def claim(self, name: str) -> None:
        """Make the registered model, or find that it is ours."""
        from mlflow.exceptions import MlflowException

        def make() -> None:
            try:
                self.store.client.create_registered_model(name, tags=dict(OWNER))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                if self._model(name) is None:  # else another machine made it in between
                    raise self._foreign(name, "a prompt") from None

        model = find_or_make(lambda: self._model(name), make)
        if OWNER.items() <= model.tags.items():
            return
        strangers = [each.version for each in self.versions(name) if not each.run_id]
        if strangers:
            raise self._foreign(name, f"version {strangers[0]}, which was not registered from here")
        for key, value in OWNER.items():
            self.store.client.set_registered_model_tag(name, key, value)

    def register(self, run: RunJournal, name: str, *, tags: Mapping[str, str]) -> tuple[Version, bool]:
        """The version of a run's servable model under a name, and whether it was made now.

        Every step looks for what it would make, so the same call finishes what a killed one began.
        """
        check_names(name)
        event = servable(run)
        identity = f"{run.run_id}/{event['name']}/{event['digest']}"
        self.claim(name)
        model = self._published(run, identity)
        words = {**OWNER, "journal": run.run_id, MODEL: identity, **tags}
        made: list[bool] = []

        def make() -> None:
            made.append(True)
            with _addressed(self.store.uri):  # a database looks the model up at the address that is set for all
                self.store.client.create_model_version(
                    name, f"models:/{model.model_id}", run_id=model.source_run_id, tags=words, model_id=model.model_id
                )

        found = find_or_make(lambda: [each for each in self.versions(name) if each.tags.get(MODEL) == identity], make)
        version = min(found, key=lambda each: each.version)
        for other in found:
            if other is not version:  # of a reply that was lost, or of a machine that registered at the same moment
                self.store.client.delete_model_version(name, str(other.version))
        self._linked(model, version)
        self.tag(version, words)
        return self.version(name, version.version), bool(made)

    def publish(self, run: RunJournal, *, anew: bool = False) -> None:
        """Deliver what is new of one run."""
        with self.courier.locked(PATIENCE):
            self.courier.publish(run.run_id, anew=anew)
            self.courier.save_views()

    def link(self, version: Version, run: RunJournal, artifact: str) -> str:
        """The address of an artifact of a version's run, within MLflow's pages."""
        experiment_id, _ = self.store.experiment(run.identity["experiment"])
        return f"#/experiments/{experiment_id}/runs/{version.mlflow_run}/artifacts/{artifact}"

    def names(self) -> list[str]:
        """The registered models that were made from here."""
        found, token = [], None
        while True:
            page = self.store.client.search_registered_models(max_results=100, page_token=token)
            found += [each.name for each in page if OWNER.items() <= each.tags.items()]
            token = page.token
            if not token:
                return found

    def model(self, name: str) -> Any:
        """A registered model, with its tags, aliases and description; one that is not ours is refused."""
        check_names(name)
        model = self._model(name)
        if model is None or not OWNER.items() <= model.tags.items():
            known = self.names()
            listed = ", ".join(known[:SHOWN]) or "none"
            raise TrackingError(
                f"no registered model {name!r} in {public(self.store.uri)}; known: {listed}. Run `python -m "
                "experiments.register RUN --name NAME`"
            )
        return model

    def aliases(self, name: str) -> dict[str, int]:
        """The aliases of a model and the versions they stand for."""
        return {alias: int(version) for alias, version in self.model(name).aliases.items()}

    def versions(self, name: str) -> list[Version]:
        """All versions of a model, in order."""
        found, token = [], None
        while True:
            page = self.store.client.search_model_versions(f"name = '{name}'", page_token=token)
            found += [self._version(each) for each in page]
            token = page.token
            if not token:
                return sorted(found, key=lambda each: each.version)

    def version(self, name: str, number: int) -> Version:
        """One version of a model."""
        found = {each.version: each for each in self.versions(name)}
        if number not in found:
            known = ", ".join(map(str, found)) or "none"
            raise TrackingError(f"model {name!r} has no version {number}; known: {known}")
        return found[number]

    def at(self, name: str, alias: str) -> Version:
        """The version an alias stands for."""
        aliases = self.aliases(name)
        if alias not in aliases:
            known = ", ".join(f"{each} (version {number})" for each, number in sorted(aliases.items())) or "none"
            raise TrackingError(
                f"no version of {name!r} has the alias {alias!r}; known: {known}. Give it with `python -m "
                f"experiments.register RUN --name {name} --alias {alias}`"
            )
        return self.version(name, aliases[alias])

    def point(self, version: Version, alias: str) -> None:
        """Make an alias stand for a version."""
        check_names(version.name, alias)
        if self.aliases(version.name).get(alias) != version.version:
            self.store.client.set_registered_model_alias(version.name, alias, str(version.version))

    def tag(self, version: Version, tags: Mapping[str, str]) -> None:
        """Say words of a version that it does not have yet."""
        known = self.version(version.name, version.version).tags
        for key, value in tags.items():
            if known.get(key) != value:
                self.store.client.set_model_version_tag(version.name, str(version.version), key, value)

    def tag_model(self, name: str, key: str, value: str) -> None:
        """Say a word of a model."""
        if self.model(name).tags.get(key) != value:
            self.store.client.set_registered_model_tag(name, key, value)

    def describe(self, version: Version, text: str) -> None:
        """What the page of a version says."""
        if version.description != text:
            self.store.client.update_model_version(version.name, str(version.version), text[:LONGEST])

    def describe_model(self, name: str, text: str) -> None:
        """What the page of a model says."""
        if (self.model(name).description or "") != text:
            self.store.client.update_registered_model(name, text[:LONGEST])

    def _foreign(self, name: str, what: str) -> TrackingError:
        return TrackingError(
            f"the name {name!r} is in use in {public(self.store.uri)} by somebody else ({what}); choose another --name"
        )

    def _model(self, name: str) -> Any:
        try:
            return self.store.client.get_registered_model(name)
        except Exception as error:
            if not is_missing(error):
                raise
            return None

    def _published(self, run: RunJournal, identity: str) -> Any:
        """The logged model of a run, published first where it is not there, or not whole."""
        experiment_id, _ = self.store.experiment(run.identity["experiment"])
        for anew in (None, False, True):
            if anew is not None:
                self.publish(run, anew=anew)
            found = self.store.client.search_logged_models([experiment_id], f"tags.journal = '{identity}'")
            for model in found:
                if str(model.status) == "READY":
                    return model
        raise TrackingError(
            f"the model of run '{run.run_id}' cannot be published to {public(self.store.uri)}; was the run deleted "
            "there? Restore it in MLflow"
        )

    def _linked(self, model: Any, version: Version) -> None:
        """Name the version at its logged model, as MLflow's pages look for it."""
        key = "mlflow.modelVersions"
        known = json.loads(self.store.client.get_logged_model(model.model_id).tags.get(key, "[]"))
        entry = {"name": version.name, "version": version.version}
        if not any(each.get("name") == version.name and int(each["version"]) == version.version for each in known):
            self.store.client.set_logged_model_tags(model.model_id, {key: json.dumps([*known, entry])})

    def _version(self, found: Any) -> Version:
        base = without_user(self.store.uri) if self.store.is_server else "http://127.0.0.1:5000"
        page = f"{base.rstrip('/')}/#/models/{quote(found.name)}/versions/{found.version}"
        return Version(
            found.name, int(found.version), dict(found.tags), found.description or "", found.run_id or "", page
        )


@contextmanager
def _addressed(uri: str) -> Iterator[None]:
    import mlflow

    before: Any = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
