"""Quick looks and the wall around the test split."""

from pathlib import Path

import pytest
from fakes import WRITERS, dataset

from mammo_lightning.datamodules.folds import TEST, freeze, frozen_test_groups, make_splits
from mammo_lightning.datamodules.table import Table
from mammo_lightning.errors import DataError
from mammo_lightning.extraction import extract
from mammo_lightning.progress import Progress
from mammo_lightning.registry import DATASETS


def quick(tmp_path: Path, limit: int, patients: int = 60):  # type: ignore[no-untyped-def]
    data = DATASETS.get("folder")(
        mlruns=tmp_path / "mlruns", limit=limit, **WRITERS["folder"](tmp_path / "data", patients=patients)
    )
    data.prepare_data()
    return data


def test_a_quick_look_never_shows_a_frozen_test_patient(tmp_path: Path) -> None:
    data = dataset("folder", tmp_path, patients=60)
    splits = make_splits(data, folds=3, test=0.4)
    freeze(data, splits, 0.4)
    tested = set(data.frame["patient"][splits.fold == TEST])
    assert len(tested) >= 20
    looked = quick(tmp_path, 100)
    assert len(looked.frame) >= 90
    assert not set(looked.frame["patient"]) & tested
    assert (make_splits(looked, folds=3).fold != TEST).all()


def test_who_was_looked_at_first_cannot_be_tested_on_later(tmp_path: Path) -> None:
    looked = set(quick(tmp_path, 60).frame["patient"])
    assert len(looked) == 20
    data = dataset("folder", tmp_path, patients=60)
    splits = make_splits(data, folds=3, test=0.4)
    tested = set(data.frame["patient"][splits.fold == TEST])
    assert len(tested) == pytest.approx(24, abs=5)
    assert not tested & looked
    quick(tmp_path, 1000)
    with pytest.raises(DataError, match="a quick look has shown every patient.*Pass --test 0"):
        make_splits(data, folds=3, test=0.4)


def test_a_quick_look_freezes_nothing(tmp_path: Path) -> None:
    looked = quick(tmp_path, 60)
    freeze(looked, make_splits(looked, folds=3), None)
    assert not looked.split_file.exists()


def test_extracted_images_keep_the_test_split_of_where_they_come_from(tmp_path: Path) -> None:
    data = dataset("folder", tmp_path, patients=40)
    splits = make_splits(data, folds=3, test=0.3)
    freeze(data, splits, 0.3)
    table = Table(table=extract(data, tmp_path / "out", Progress()), mlruns=data.mlruns)
    table.prepare_data()
    assert frozen_test_groups(table) == frozen_test_groups(data)
    assert make_splits(table, folds=3).fold.tolist() == splits.fold.tolist()
