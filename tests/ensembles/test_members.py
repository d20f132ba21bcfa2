"""Who may be combined, and what is chosen of them by which rows."""

from pathlib import Path

import numpy as np
import pytest
from fakes import predictions
from tracked import scores_of, study, trial

from mammo_lightning.ensembles.members import Pool, pool
from mammo_lightning.errors import DataError, SettingsError
from mammo_lightning.evaluation.statistics import mean_fold_auc
from mammo_lightning.runs import Runs, Scored
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.types import Level, Predictions

BASE = predictions(patients=60, folds=4)


def candidates(tmp_path: Path, *tables: Predictions) -> list[Scored]:
    study(tmp_path, "s", list(tables))
    return Runs(tmp_path).of_study("s")


def made(tmp_path: Path, count: int = 4) -> Pool:
    return pool(candidates(tmp_path, *(scores_of(BASE, noise=0.3 * n, seed=n) for n in range(count))))


def test_rows_in_another_order_are_put_in_one(tmp_path: Path) -> None:
    shuffled = Predictions(BASE.frame.sample(frac=1, random_state=0).reset_index(drop=True))
    found = pool(candidates(tmp_path, BASE, shuffled))
    np.testing.assert_array_equal(found.raw[0], found.raw[1])
    np.testing.assert_array_equal(found.rows.frame["image"], BASE.frame["image"])


def _changed(column: str, value: object, rows: int = 1) -> Predictions:
    frame = BASE.frame.copy()
    frame.loc[frame.index[:rows], column] = value
    return Predictions(frame)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (BASE.where(np.arange(len(BASE)) > 0), r"t001' has other images than 's-000000.t000': 'p000/0' and 0 more"),
        (_changed("label", 0), r"t001' has another label of image 'p000/0' than .* \(1 such\)"),
        (_changed("fold", 3, 6), r"another fold of image 'p000/0' .* \(6 such\); combine runs with the same folds"),
        (_changed("group", "x"), "another group of image"),
        (
            Predictions(BASE.frame.rename(columns={"p_positive": "p_malignant"})),
            "tells negative, malignant apart and 's-000000.t000' negative, positive",
        ),
    ],
)
def test_members_that_do_not_belong_together_are_refused_by_name(
    tmp_path: Path, other: Predictions, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        pool(candidates(tmp_path, BASE, other))


def test_members_that_read_the_images_in_another_way_are_refused(tmp_path: Path) -> None:
    above = study(tmp_path, "s", [BASE])
    trial(Journal(tmp_path), above, 1, scores_of(BASE, noise=1.0, seed=1), folds="another")
    with pytest.raises(DataError, match=r"t001' has read the images .* in another way \(folds another and abc\)"):
        pool(Runs(tmp_path).of_study("s"))


def test_a_table_that_cannot_be_used_names_its_run(tmp_path: Path) -> None:
    above = study(tmp_path, "s", [BASE, BASE])
    bad = trial(Journal(tmp_path), above, 2, BASE)
    bad.write("predictions.parquet", BASE.frame.drop(columns="label").to_parquet(index=False))
    with pytest.raises(DataError, match=r"run 's-000000.t002': predictions.parquet cannot be used: "):
        pool(Runs(tmp_path).of_study("s"))


@pytest.mark.parametrize("count", [0, 1])
def test_none_and_one_are_no_ensemble(tmp_path: Path, count: int) -> None:
    members = candidates(tmp_path, BASE)[:count]
    with pytest.raises(SettingsError, match=rf"{count} members?; an ensemble needs 2 or more"):
        pool(members * 2)  # the same run twice is one


def test_a_fold_is_calibrated_by_other_folds_and_never_by_the_one_left_out(tmp_path: Path) -> None:
    found = made(tmp_path)
    for without in (None, 0):
        scores = found.scores([1], without)[0]
        for fold in found.folds:
            turned = pool([_turned(each, found, fold) for each in found.members])
            again = turned.scores([1], without)[0]
            mine = found.rows.folds == fold
            np.testing.assert_array_equal(again[mine], scores[mine])
            if fold == without:
                np.testing.assert_array_equal(again, scores)
            else:
                assert not np.array_equal(again, scores)


class _Other(Scored):
    """A run with other labels than were logged."""

    def predictions(self, split: str = "val") -> Predictions:
        return self._tables["other"]


def _turned(member: Scored, found: Pool, fold: int) -> Scored:
    frame = member.predictions().frame
    frame = frame.assign(label=frame["label"].where(frame["fold"] != fold, 1 - frame["label"]))
    other = _Other(member.run, member.study)
    other._tables["other"] = Predictions(frame)
    return other


def test_the_best_are_ranked_by_the_other_folds(tmp_path: Path) -> None:
    found = made(tmp_path)
    by_hand = [mean_fold_auc(each.predictions().where(found.rows.folds != 2)) for each in found.members]
    assert found.ranked("val_auc", Level.patch, 2) == list(np.argsort(-np.array(by_hand), kind="stable"))
    at_patient = [mean_fold_auc(each.predictions().at("patient")) for each in found.members]
    assert found.ranked("val_auc", Level.patient) == list(np.argsort(-np.array(at_patient), kind="stable"))
    assert set(found.ranked("val_ap", Level.patch)) == {0, 1, 2, 3}
    with pytest.raises(SettingsError, match="--by 'accuracy' is not known; known: val_ap"):
        found.ranked("accuracy", Level.patch)
