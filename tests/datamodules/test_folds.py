import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo_lightning.datamodules.folds import DROPPED, RESERVE, TEST, TRAIN_ONLY, FitRows, Splits, make_splits
from mammo_lightning.errors import DataError, LeakError, SettingsError
from mammo_lightning.types import digest


def data(patients: int, tmp_path: Path, *, official: bool = False, **columns: Any) -> Any:
    patient = np.repeat([f"p{number:03d}" for number in range(patients)], 3)
    frame = pd.DataFrame({"image": [f"{name}/{index}" for index, name in enumerate(patient)], "patient": patient})
    frame = frame.assign(group=patient, label=(np.arange(len(frame)) // 3) % 2, split="", pixels=frame["image"])
    frame = frame.assign(**columns)
    content = digest(frame.to_csv())
    return SimpleNamespace(frame=frame, digest=content, mlruns=tmp_path, name="fake", official=official)


@settings(max_examples=25, deadline=None)
@given(patients=st.integers(14, 90), folds=st.integers(2, 5), seed=st.integers(0, 10), inner=st.booleans())
def test_no_group_stands_on_two_sides(tmp_path_factory: Any, patients: int, folds: int, seed: int, inner: bool) -> None:
    made = make_splits(data(patients, tmp_path_factory.mktemp("s")), folds=folds, fold_seed=seed, test=0.2)
    scored: list[int] = []
    for fold in made.folds:
        rows = made.rows(fold, inner=inner)
        parts = [set(made.frame["group"].iloc[part]) for part in (rows.train, rows.inner, rows.score)]
        tested = set(made.frame.loc[made.fold == TEST, "group"])
        assert not (parts[0] & parts[1])
        assert not (parts[0] & parts[2])
        assert not (parts[1] & parts[2])
        assert not tested & set.union(*parts)
        assert bool(parts[1]) == inner
        scored.extend(rows.score)
    assert sorted(scored) == list(np.flatnonzero(made.fold >= 0))


def test_folds_follow_from_content_number_and_seed_alone(tmp_path: Path) -> None:
    one = make_splits(data(40, tmp_path / "a"), folds=5)
    other = make_splits(data(40, tmp_path / "b"), folds=5)
    assert one.digest == other.digest
    assert one.digest != make_splits(data(40, tmp_path), folds=5, fold_seed=1).digest
    assert one.digest != make_splits(data(40, tmp_path), folds=4).digest
    assert one.test_digest == make_splits(data(40, tmp_path), folds=4).test_digest


def test_both_classes_stand_in_every_fold(tmp_path: Path) -> None:
    made = make_splits(data(30, tmp_path), folds=5)
    assert (made.frame.groupby("fold")["label"].nunique() == 2).all()


def test_a_test_split_comes_by_itself_with_many_groups_and_is_then_frozen(tmp_path: Path) -> None:
    assert not (make_splits(data(99, tmp_path), folds=3).fold == TEST).any()
    many = data(120, tmp_path)
    made = make_splits(many, folds=3)
    share = made.frame.loc[made.fold == TEST, "group"].nunique() / 120
    assert 0.15 < share < 0.25
    with pytest.raises(SettingsError, match=r"--test 0.4 differs from the 0.2 frozen"):
        make_splits(many, folds=3, test=0.4)
    frozen = json.loads(next((tmp_path / "splits").glob(f"fake-{many.digest}.json")).read_text())
    assert set(frozen["groups"]) == set(made.frame.loc[made.fold == TEST, "group"])


def test_the_leaky_grouping_keeps_the_test_split_by_patient(tmp_path: Path) -> None:
    many = data(120, tmp_path)
    leaky = make_splits(many, folds=3, grouping="image")
    honest = make_splits(many, folds=3)
    assert leaky.test_digest == honest.test_digest
    torn = many.frame.assign(fold=leaky.fold).groupby("patient")["fold"].nunique()
    assert (torn > 1).any(), "the leak it is there to show"
    assert leaky.digest != honest.digest


def test_straddling_patients_leave_the_training_part_by_name(tmp_path: Path) -> None:
    split = np.where(np.arange(120) < 30, "test", "train")
    split[30] = "test"  # p010 stands in both
    made = make_splits(data(40, tmp_path, official=True, split=split), folds=3)
    rows = made.frame["group"] == "p010"
    assert set(made.fold[rows]) <= {TEST, DROPPED}
    assert (made.fold[rows] == DROPPED).sum() == 2
    assert made.notes == ("straddle: 1 patients of the official test split left the training part: p010",)


@pytest.mark.parametrize(("official", "straddle"), [(True, "refuse"), (False, "drop")])
def test_straddling_patients_stop_the_run(tmp_path: Path, official: bool, straddle: str) -> None:
    split = np.where(np.arange(120) < 31, "test", "train")
    with pytest.raises(LeakError, match="1 patients stand in both train and test: p010"):
        make_splits(data(40, tmp_path, official=official, split=split), folds=3, straddle=straddle)


def test_a_fold_column_that_tears_a_patient_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(LeakError, match="group 'p000' stands in two folds"):
        make_splits(data(40, tmp_path, fold=np.arange(120) % 4), folds=4)
    kept = make_splits(data(40, tmp_path, fold=np.arange(120) // 3 % 4), folds=4)
    assert kept.folds == [0, 1, 2, 3]


def test_planted_leaks_are_refused_by_name(tmp_path: Path) -> None:
    frame = pd.DataFrame({"image": list("abcd"), "group": list("ppqr"), "label": [0, 1, 0, 1], "pixels": list("1234")})
    with pytest.raises(LeakError, match="group 'p' stands in two folds"):
        Splits(frame.assign(fold=[0, 1, 0, 1]), "d")
    with pytest.raises(LeakError, match="identical images 'b' and 'c' stand in two folds"):
        Splits(frame.assign(fold=[0, 0, 1, 1], pixels=list("1224")), "d")
    made = Splits(frame.assign(fold=[0, 0, 1, TEST]), "d")
    empty = np.array([], dtype=np.int64)
    with pytest.raises(LeakError, match="group 'p' stands in both train and score"):
        made.check(FitRows(np.array([0]), empty, np.array([1])))
    with pytest.raises(LeakError, match="'d' of the test split or reserve is in train"):
        made.check(FitRows(np.array([0, 3]), empty, np.array([2])))
    with pytest.raises(LeakError, match="group 'q' stands in both inner and score"):
        made.check(FitRows(np.array([0]), np.array([2]), np.array([2])))


def test_reserve_holdout_and_narrowing(tmp_path: Path) -> None:
    whole = data(60, tmp_path)
    reserved = make_splits(whole, folds=4, reserve=0.15)
    assert 0 < (reserved.fold == RESERVE).sum() < 50
    assert not set(reserved.rows(0, inner=True).train) & set(np.flatnonzero(reserved.fold == RESERVE))
    held = make_splits(whole, folds=4, holdout=True)
    assert held.folds == [0]
    assert set(held.fold) == {0, TRAIN_ONLY}
    outer = make_splits(whole, folds=4)
    inside = outer.narrowed(2, 0.25)
    assert inside.folds == [0]
    assert set(inside.fold[outer.fold == 2]) == {DROPPED}
    rows = inside.rows(0, inner=True)
    assert not set(np.concatenate([rows.train, rows.inner, rows.score])) & set(np.flatnonzero(outer.fold == 2))


def test_fewer_patients_than_folds(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"3 patients with positive images are fewer than 5 folds; pass --folds 3"):
        make_splits(data(6, tmp_path), folds=5)
