"""Versions in a real MLflow registry: made once each, linked, and finished by the same call after a kill."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from registered import copied

from mammo_lightning.errors import SettingsError, TrackingError
from mammo_lightning.runs import Runs
from mammo_lightning.tracking.journal import RunJournal
from mammo_lightning.tracking.patience import Patient
from mammo_lightning.tracking.registry import ModelRegistry
from mammo_lightning.tracking.store import default_uri
from mammo_lightning.tracking.versions import MODEL, OWNER, check_names, servable

TAGS = {"val_auc": "0.9000"}


@pytest.fixture(scope="module")
def mlruns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(tmp_path_factory.mktemp("registry") / "mlruns")


@pytest.fixture(scope="module")
def registry(mlruns: Path) -> ModelRegistry:
    return ModelRegistry(Runs(mlruns).journal, default_uri(mlruns), mlruns)


@pytest.fixture(scope="module")
def final(mlruns: Path) -> RunJournal:
    (found,) = Runs(mlruns).named(["first"])
    return found.run


def test_a_version_is_linked_to_run_and_model_and_can_be_loaded(
    registry: ModelRegistry, final: RunJournal, mlruns: Path
) -> None:
    before = mlflow.get_tracking_uri()
    version, made = registry.register(final, "whole", tags=TAGS)
    assert mlflow.get_tracking_uri() == before, "the address of the whole process was left changed"
    assert made
    assert version.version == 1
    assert version.run_id == final.run_id
    assert version.tags.items() >= {**OWNER, **TAGS}.items()
    client = mlflow.MlflowClient(default_uri(mlruns))
    found = client.get_model_version("whole", "1")
    assert found.status == "READY"
    assert client.get_run(found.run_id).data.tags["journal"] == final.run_id
    model = client.get_logged_model(found.source.removeprefix("models:/"))
    assert model.tags["journal"] == version.tags[MODEL]
    assert model.tags["mlflow.modelVersions"] == '[{"name": "whole", "version": 1}]'
    mlflow.set_tracking_uri(default_uri(mlruns))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1, 32, 32)).astype(np.uint8)
    scores = mlflow.pyfunc.load_model("models:/whole/1").predict(pixels)
    assert list(scores.columns) == ["p_normal", "p_cluster", "positive"]


def test_the_same_run_is_the_same_version_and_another_name_another(registry: ModelRegistry, final: RunJournal) -> None:
    first, _ = registry.register(final, "same", tags=TAGS)
    second, made = registry.register(final, "same", tags={"val_auc": "0.8000"})
    assert not made
    assert second.version == first.version == 1
    assert second.tags["val_auc"] == "0.8000"
    assert [each.version for each in registry.versions("same")] == [1]
    other, made = registry.register(final, "other", tags=TAGS)
    assert made
    assert other.version == 1
    assert {"same", "other"} <= set(registry.names())


def test_another_run_is_the_next_version(registry: ModelRegistry, final: RunJournal, mlruns: Path) -> None:
    registry.register(final, "several", tags=TAGS)
    (other,) = Runs(mlruns).named(["second"])
    assert registry.register(other.run, "several", tags=TAGS)[0].version == 2
    registry.point(registry.version("several", 1), "challenger")
    registry.point(registry.version("several", 2), "challenger")
    assert registry.aliases("several") == {"challenger": 2}
    assert registry.at("several", "challenger").run_id == other.run_id
    with pytest.raises(TrackingError, match=r"has the alias 'best'; known: challenger \(version 2\)"):
        registry.at("several", "best")
    with pytest.raises(TrackingError, match="has no version 3; known: 1, 2"):
        registry.version("several", 3)


class Killed(BaseException):
    """Nobody catches it, as nobody catches a kill."""


def killed_at(monkeypatch: pytest.MonkeyPatch, number: int, *, after: bool) -> None:
    """Die at the n-th call that changes something, before or after it is carried out."""
    changes = iter(range(10_000))
    call: Callable[..., Any] = Patient._call

    def dying(self: Patient, name: str, function: Callable[..., Any], /, *args: Any, **more: Any) -> Any:
        if name.startswith(("get_", "search_", "list_")) or next(changes) != number:
            return call(self, name, function, *args, **more)
        if after:
            call(self, name, function, *args, **more)
        raise Killed

    monkeypatch.setattr(Patient, "_call", dying)


@pytest.mark.parametrize("after", [False, True])
def test_a_kill_at_any_step_is_finished_by_the_same_call(
    registry: ModelRegistry, final: RunJournal, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    steps = 0
    while True:
        name = f"killed-{after}-{steps}"
        with monkeypatch.context() as patched:
            killed_at(patched, steps, after=after)
            try:
                registry.register(final, name, tags=TAGS)
                break
            except Killed:
                steps += 1
        version, _ = registry.register(final, name, tags=TAGS)
        assert [each.version for each in registry.versions(name)] == [version.version] == [1]
        assert version.tags.items() >= TAGS.items()
    assert steps >= 3, "hardly anything was killed"


def test_a_version_that_was_made_twice_is_one(registry: ModelRegistry, final: RunJournal, mlruns: Path) -> None:
    version, _ = registry.register(final, "twice", tags=TAGS)
    client = mlflow.MlflowClient(default_uri(mlruns))
    client.create_model_version("twice", str(mlruns / "artifacts"), tags=version.tags)  # as after a lost reply
    assert len(registry.versions("twice")) == 2
    assert registry.register(final, "twice", tags=TAGS)[0].version == 1
    assert [each.version for each in registry.versions("twice")] == [1]


def test_a_name_of_somebody_else_is_refused_and_an_empty_one_taken(
    registry: ModelRegistry, final: RunJournal, mlruns: Path
) -> None:
    client = mlflow.MlflowClient(default_uri(mlruns))
    client.create_registered_model("theirs")
    client.create_model_version("theirs", str(mlruns / "artifacts"))
    with pytest.raises(TrackingError, match=r"'theirs' is in use in .* by somebody else \(version 1, which was not"):
        registry.register(final, "theirs", tags=TAGS)
    assert [each.run_id for each in registry.versions("theirs")] == [""]
    with pytest.raises(TrackingError, match="no registered model 'theirs'"):
        registry.model("theirs")
    client.register_prompt("asked", "what is {{this}}?")
    with pytest.raises(TrackingError, match=r"'asked' is in use in .* by somebody else \(a prompt\)"):
        registry.register(final, "asked", tags=TAGS)
    client.create_registered_model("empty")
    assert registry.register(final, "empty", tags=TAGS)[0].version == 1


def test_a_run_without_a_model_is_refused_before_anything_is_made(registry: ModelRegistry, mlruns: Path) -> None:
    study = next(each for each in registry.journal.runs() if "." not in each)
    with pytest.raises(TrackingError, match="has no servable model here: only finals"):
        registry.register(registry.journal.run(study), "nothing", tags=TAGS)
    assert "nothing" not in registry.names()
    run = registry.journal.run(next(each for each in registry.journal.runs() if ".t000" in each))
    kept = next(run.folder.glob("models/*/artifacts/servable/servable.json"))
    content = kept.read_bytes()
    kept.unlink()
    kept.write_bytes(content + b" ")
    with pytest.raises(TrackingError, match=f"is not what run '{run.run_id}' wrote"):
        servable(run)
    run.drop("models")
    with pytest.raises(TrackingError, match="has no servable model"):
        servable(run)


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "a@b", ".", "..", "-a", "ä", "a b", "x" * 101])
def test_names_that_could_not_be_said_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="is no model name; use letters"):
        check_names(name)


@pytest.mark.parametrize("alias", ["", "latest", "Latest", "3", "v3", "a.b", "a b"])
def test_aliases_that_mean_something_else_are_refused(alias: str) -> None:
    with pytest.raises(SettingsError, match=f"^'{alias}' is no alias; use letters"):
        check_names("name", alias)


def test_a_store_that_is_away_ends_in_one_line(mlruns: Path, nowhere: str, final: RunJournal) -> None:
    away = ModelRegistry(Runs(mlruns).journal, nowhere, mlruns)
    with pytest.raises(TrackingError, match="does not answer as expected: .* Is the server running"), away.alone():
        away.register(final, "away", tags=TAGS)
