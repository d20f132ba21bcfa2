"""A model that was registered is used as it was registered, or not at all."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pytest
from served_models import images, save_model, served_run
from servers import Server

from mammo_lightning.errors import DataError, TrackingError
from mammo_lightning.scoring.loading import find_servable
from mammo_lightning.tracking.journal import Journal, RunJournal
from mammo_lightning.tracking.loading import fetched
from mammo_lightning.tracking.registry import ModelRegistry
from mammo_lightning.tracking.servable import load_servable
from mammo_lightning.tracking.store import default_uri
from mammo_lightning.tracking.versions import MODEL, servable


def registry_of(mlruns: Path, uri: str | None = None) -> ModelRegistry:
    return ModelRegistry(Journal(mlruns), uri or default_uri(mlruns), mlruns)


@pytest.fixture
def run(mlruns: Path) -> RunJournal:
    return served_run(mlruns)


@pytest.fixture
def stored(mlruns: Path, run: RunJournal) -> Path:
    """What the registry keeps of version 1 of `mc`."""
    registry = registry_of(mlruns)
    version, _ = registry.register(run, "mc", tags={})
    registry.point(version, "champion")
    (folder,) = (mlruns / "artifacts").glob("models/*/artifacts")
    return folder


def own(run: RunJournal) -> Path:
    return run.folder / "models" / "final"


@pytest.mark.parametrize("word", ["mc@champion", "mc/1"])
def test_an_honest_copy_is_the_model_of_its_run(mlruns: Path, run: RunJournal, stored: Path, word: str) -> None:
    with fetched(word, mlruns) as (version, folder):
        assert (version.name, version.version, version.run_id) == ("mc", 1, run.run_id)
        assert folder.resolve() != stored.resolve()
        np.testing.assert_array_equal(load_servable(folder)(images(3)), load_servable(own(run))(images(3)))
    assert not folder.exists()
    _, about = find_servable(word, mlruns)
    assert about == {**find_servable(run.run_id, mlruns)[1], "name": "mc version 1", "version": "1"}


def test_a_model_that_was_served_from_where_it_lies_is_still_honest(
    mlruns: Path, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    mlflow.set_tracking_uri(default_uri(mlruns))
    mlflow.pyfunc.load_model("models:/mc@champion").predict(images(2))
    assert list(stored.rglob("__pycache__"))
    assert (stored / "registered_model_meta").is_file()
    assert find_servable("mc@champion", mlruns)[1]["version"] == "1"


def lower_threshold(stored: Path, scratch: Path) -> None:
    path = stored / "artifacts" / "servable" / "servable.json"
    path.write_text(path.read_text().replace('"threshold": 0.5', '"threshold": 0.0001'))


def swap_classes(stored: Path, scratch: Path) -> None:
    path = stored / "artifacts" / "servable" / "servable.json"
    swapped = path.read_text().replace("benign", "x").replace("malignant", "benign").replace("x", "malignant")
    path.write_text(swapped)


def replace_weights(stored: Path, scratch: Path) -> None:
    other = save_model(scratch / "other", scratch) / "artifacts" / "servable" / "members"
    shutil.copy(other / "1" / "model.safetensors", stored / "artifacts" / "servable" / "members" / "0")


def add_code(stored: Path, scratch: Path) -> None:
    (stored / "more.py").write_text("")


def lose_a_file(stored: Path, scratch: Path) -> None:
    (stored / "artifacts" / "servable" / "members" / "1" / "config.json").unlink()


@pytest.mark.parametrize("tamper", [lower_threshold, swap_classes, replace_weights, add_code, lose_a_file])
def test_what_was_changed_after_it_was_registered_is_refused(
    mlruns: Path, stored: Path, tmp_path: Path, tamper: Callable[[Path, Path], None]
) -> None:
    before = {path: path.read_bytes() for path in stored.rglob("*") if path.is_file()}
    tamper(stored, tmp_path / "scratch")
    assert before != {path: path.read_bytes() for path in stored.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match="the files of mc version 1 are not what was registered of run 'made-1.final'"):
        find_servable("mc@champion", mlruns)


def test_a_version_that_does_not_say_what_it_was_is_refused(mlruns: Path, stored: Path) -> None:
    client = mlflow.MlflowClient(default_uri(mlruns))
    client.create_model_version("mc", str(stored))
    with pytest.raises(DataError, match=r"mc version 2 was not registered from here, .* experiments.register RUN"):
        find_servable("mc/2", mlruns)
    client.delete_model_version_tag("mc", "1", MODEL)
    with pytest.raises(DataError, match="mc version 1 was not registered from here"):
        find_servable("mc/1", mlruns)


def test_files_that_are_gone_are_one_line(mlruns: Path, stored: Path) -> None:
    shutil.rmtree(stored)
    with pytest.raises((DataError, TrackingError), match="the files of mc version 1 cannot be had|are not what was"):
        find_servable("mc/1", mlruns)


def test_more_models_than_a_page_holds_hide_none(mlruns: Path, stored: Path) -> None:
    client = registry_of(mlruns).store.client
    for number in range(101):
        client.create_registered_model(f"aa{number:03d}")
    with pytest.raises(TrackingError, match="model 'mc' has no version 9; known: 1"):
        find_servable("mc/9", mlruns)
    with pytest.raises(TrackingError, match="no version of 'mc' has the alias 'best'; known: champion"):
        find_servable("mc@best", mlruns)
    with pytest.raises(TrackingError, match=r"no registered model 'md' in .*; known: mc\. Run"):
        find_servable("md/1", mlruns)


def test_a_run_of_another_machine_is_used_by_its_registered_name(mlruns: Path, run: RunJournal) -> None:
    (mlruns / "borrowed").mkdir()
    run.folder.rename(mlruns / "borrowed" / run.run_id)
    borrowed = Journal(mlruns, borrowed=True).run(run.run_id)
    shutil.rmtree(borrowed.folder / "models")
    with pytest.raises(TrackingError, match="no servable model here: it was made on another machine, .*NAME@ALIAS"):
        servable(borrowed)


def test_a_registry_that_is_not_there_is_named_and_not_made(tmp_path: Path, nowhere: str) -> None:
    mlruns = tmp_path / "empty"
    with pytest.raises(TrackingError, match="no folder '.*empty'"):
        find_servable("mc/1", mlruns)
    mlruns.mkdir()
    with pytest.raises(TrackingError, match="no registered model in '.*empty'"):
        find_servable("mc/1", mlruns)
    uri = f"sqlite:///{tmp_path / 'none.db'}"
    with pytest.raises(TrackingError, match=r"^--tracking-uri 'sqlite:.*none.db': there is no database '.*none.db'"):
        find_servable("mc/1", tmp_path / "nowhere", uri)
    with pytest.raises(TrackingError, match="does not answer .*Is the server running"):
        find_servable("mc/1", mlruns, nowhere)
    with pytest.raises(TrackingError, match="names no registered model"), fetched("mc", mlruns):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


@pytest.mark.proof
def test_a_server_gives_what_was_registered_or_nothing(tmp_path: Path, run: RunJournal, mlruns: Path) -> None:
    server = Server(tmp_path / "server")
    server.start()
    try:
        registry = registry_of(mlruns, server.uri)
        registry.register(run, "mc", tags={})
        found, about = find_servable("mc/1", tmp_path / "elsewhere", server.uri)
        assert about["run"] == run.run_id
        np.testing.assert_array_equal(found(images(3)), load_servable(own(run))(images(3)))
        (stored,) = (tmp_path / "server" / "artifacts").rglob("servable.json")
        stored.write_text(stored.read_text().replace('"threshold": 0.5', '"threshold": 0.0001'))
        with pytest.raises(DataError, match="are not what was registered"):
            find_servable("mc/1", mlruns, server.uri)
    finally:
        server.kill()
