"""Looking at a dataset: what is opened all the same, what stays unread, and what counts as a warning."""

from pathlib import Path

import cv2
import pytest
from fakes import dataset, write_folder

from mammo_lightning.auditing import look
from mammo_lightning.auditing.look import SIDE, Look, looked_at, warns
from mammo_lightning.errors import DataError
from mammo_lightning.recipe import Recipe


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictors, controls and pictures take their time and are tested where they live."""
    monkeypatch.setattr(look, "_try", lambda *_: None)
    monkeypatch.setattr(look, "_draw", lambda *_: None)


def of_folder(tmp_path: Path, **more: object) -> Recipe:
    return Recipe(dataset="folder", root=tmp_path / "data", patient_from=r"(p\d+)_", mlruns=tmp_path / "runs", **more)


def shrink(path: Path) -> None:
    cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path), -1), (20, 24)))


@pytest.mark.usefixtures("untried")
def test_images_of_several_sizes_are_brought_to_one_and_their_own_are_told(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", patients=6)
    shrink(tmp_path / "data" / "benign" / "p000_0.png")
    found = looked_at(of_folder(tmp_path))
    assert found.data.shape == (1, SIDE, SIDE)
    assert [line for line in found.lines if "a study needs --size" in line]
    sizes = found.tables["formats"][["width", "height", "images"]].to_numpy().tolist()
    assert sizes == [[32, 32, 17], [20, 24, 1]]


@pytest.mark.usefixtures("untried")
def test_a_size_that_was_asked_for_is_the_one_looked_at(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", patients=6)
    shrink(tmp_path / "data" / "benign" / "p000_0.png")
    found = looked_at(of_folder(tmp_path, size=16))
    assert found.data.shape == (1, 16, 16)
    assert not [line for line in found.lines if "a study needs --size" in line]


def test_what_no_size_mends_is_the_first_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        looked_at(of_folder(tmp_path))


def test_a_dataset_that_is_all_test_is_counted_and_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "data", patients=6)
    monkeypatch.setattr(look, "frozen_test_groups", lambda data: set(data.frame["group"]))
    found = looked_at(of_folder(tmp_path))
    assert found.lines[-2:] == [
        "note: 6 patients of the test split are counted, and not looked at",
        "note: every image is of the test split: none is looked at",
    ]
    assert not found.sheets
    assert not found.augmented
    assert set(found.tables) == {"counts", "formats"}
    assert found.metrics["count/images"] == 18


def test_pictures_predictors_and_controls_are_of_the_images_that_may_be_seen(tmp_path: Path) -> None:
    found = looked_at(Recipe(dataset="synthetic", patients=24, mlruns=tmp_path))
    assert list(found.sheets) == ["normal", "lesion"]
    assert found.augmented.startswith(b"\x89PNG")
    assert list(found.tables) == ["counts", "formats", "shortcuts", "controls"]
    tried = found.tables["shortcuts"]
    assert {"column source", "column density"} <= set(tried["what"])
    assert {f"shortcut/{key}" for key in tried["predictor"]} <= set(found.metrics)
    assert 0 <= found.metrics["control/as_it_is"] <= 1
    assert sum(line.startswith("control: ") for line in found.lines) == 4


def test_warnings_are_what_is_wrong_and_nothing_else(tmp_path: Path) -> None:
    found = Look(dataset("synthetic", tmp_path, patients=20), "synthetic")
    found.lines = ["leak: a", "note: leak: b", "label conflict: c", "control: d", "shortcut: e"]
    assert found.warnings == ["leak: a", "label conflict: c", "shortcut: e"]
    assert warns("unreadable: 'x'")
    assert not warns("leaks everywhere")
