"""Predictions of others: what a csv must say, and what can be told of it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fakes import predictions

from mammo_lightning.errors import DataError, LeakError, SettingsError
from mammo_lightning.evaluation.metrics import auc
from mammo_lightning.evaluation.thresholds import cross_fitted
from mammo_lightning.runs import Runs
from mammo_lightning.scoring.outside import Outside, read_outside
from mammo_lightning.scoring.outside_run import Wish, keep_outside
from mammo_lightning.types import Level, Predictions

FRAME = predictions().frame


def write(tmp_path: Path, frame: pd.DataFrame) -> Path:
    frame.to_csv(tmp_path / "given.csv", index=False)
    return tmp_path / "given.csv"


def plain(frame: pd.DataFrame = FRAME) -> pd.DataFrame:
    return frame[["image", "patient", "label", "p_positive"]]


def keep(tmp_path: Path, frame: pd.DataFrame, *, ranks: bool = False, **wish):
    path = write(tmp_path, frame)
    summary, run = keep_outside(path, read_outside(path, ranks=ranks), Wish(name="cad", **wish), mlruns=tmp_path / "m")
    return summary, run, Runs(tmp_path / "m").get(run.run_id)


def test_folds_in_the_csv_give_cross_fitted_decisions(tmp_path):
    given = FRAME.drop(columns=["split", "group"]).assign(density=np.where(FRAME.index % 2, "A", "B"), age=55)
    summary, run, scored = keep(tmp_path, given)
    table = scored.predictions()
    ordered = FRAME.sort_values("image").reset_index(drop=True)
    np.testing.assert_allclose(table.scores, ordered["p_positive"])
    decisions, _ = cross_fitted(Predictions(ordered), "spec0.80", Level.patch)
    assert run.read_metrics()["val_tpr"] == pytest.approx(decisions[ordered["label"] == 1].mean())
    assert set(table.frame["density"]) == {"A", "B"}
    assert table.frame["age"].dtype.kind in "if"
    tags = run.read_tags()
    assert (tags["unverified"], tags["threshold_origin"]) == ("folds, training images", "cross-fitted")
    assert any("unverified: folds, training images" in line for line in summary.lines)
    assert run.holds({"event": "artifact", "name": "given.csv", "digest": _digest(run.artifacts / "given.csv")})


def _digest(path: Path) -> str:
    from mammo_lightning.tracking.files import file_digest

    return file_digest(path)


def test_without_folds_or_threshold_only_ranking_is_told(tmp_path):
    summary, run, scored = keep(tmp_path, plain())
    metrics = run.read_metrics()
    assert metrics["external_auc"] == pytest.approx(auc(FRAME["label"], FRAME["p_positive"]))
    assert not any("tpr" in name or "calibration" in name for name in metrics if not name.startswith("roc"))
    assert summary.rows[0].tpr is None
    assert any(line.startswith("no threshold") for line in summary.lines)
    assert "operating_point" not in run.read_tags()
    assert scored.points == {}
    assert (run.artifacts / "figures" / "roc_external.png").is_file()


def test_a_given_threshold_is_taken_and_called_unverified(tmp_path):
    _, run, scored = keep(tmp_path, plain(), threshold=0.3)
    called = FRAME["p_positive"] >= 0.3
    assert run.read_metrics()["external_tpr"] == pytest.approx(called[FRAME["label"] == 1].mean())
    assert run.read_metrics()["external_fpr"] == pytest.approx(called[FRAME["label"] == 0].mean())
    assert scored.points[Level.patch].threshold == 0.3
    assert run.read_tags()["unverified"] == "training images, threshold"


def test_ranks_keep_their_order_and_their_threshold(tmp_path):
    points = (FRAME["p_positive"] * 5).round() * 20 - 10
    given = FRAME[["image", "patient", "label"]].assign(score=points)
    with pytest.raises(DataError, match="which is no probability; pass --ranks"):
        keep(tmp_path, given)
    summary, run, _ = keep(tmp_path, given, ranks=True, threshold=30)
    metrics = run.read_metrics()
    assert metrics["external_auc"] == pytest.approx(auc(FRAME["label"], points))
    assert metrics["external_tpr"] == pytest.approx((points >= 30)[FRAME["label"] == 1].mean())
    assert not any("calibration" in name or "brier" in name for name in metrics)
    assert any("only rank" in line for line in summary.lines)
    assert run.read_tags()["scores"] == "ranks"


def test_a_threshold_that_separates_no_ranks_is_said(tmp_path):
    given = FRAME[["image", "patient", "label"]].assign(score=(FRAME["p_positive"] * 5).round())
    for threshold, called in ((99, "none is"), (-1, "all are")):
        summary, _, _ = keep(tmp_path, given, ranks=True, threshold=threshold)
        assert f"warning: the threshold {threshold} separates no scores: {called} called positive" in summary.lines
    summary, _, _ = keep(tmp_path, given, ranks=True, threshold=3)
    assert not any("separates" in line for line in summary.lines)


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), 5.0, -0.5])
def test_a_threshold_that_no_probability_has_makes_no_run(tmp_path, threshold):
    with pytest.raises(SettingsError, match=f"^--threshold {threshold:g} is no (finite number|probability)"):
        keep(tmp_path, plain(), threshold=threshold)
    assert not (tmp_path / "m").exists()
    keep(tmp_path, plain(), threshold=1.0)


def test_rows_of_val_choose_the_threshold_of_test_rows(tmp_path):
    rows = FRAME.drop(columns="group").assign(split=np.where(FRAME["patient"] < "p040", "val", "test"))
    rows = rows.assign(fold=rows["fold"].where(rows["split"] == "val", -1))
    summary, run, scored = keep(tmp_path, rows)
    assert [row.judged_on.split(",")[0] for row in summary.rows] == ["out of fold", "test"]
    threshold = run.read_metrics()["test_threshold"]
    assert threshold == scored.points[Level.patch].threshold
    test = rows[rows["split"] == "test"]
    called = test["p_positive"] >= threshold
    assert run.read_metrics()["test_tpr"] == pytest.approx(called[test["label"] == 1].mean())
    assert {"val", "test"} == {split for split in ("val", "test", "external") if scored.has(split)}


def test_labels_may_be_names(tmp_path):
    named = plain().assign(label=FRAME["label"].map({0: "benign", 1: "malignant"}))
    named = named.rename(columns={"p_positive": "score", "image": "path"})
    outside = read_outside(write(tmp_path, named))
    assert outside.tables["external"].classes == ("benign", "malignant")
    turned = read_outside(write(tmp_path, named), positive="benign").tables["external"]
    assert turned.classes == ("malignant", "benign")
    assert turned.labels.sum() == (FRAME["label"] == 0).sum()


def test_higher_levels_only_where_the_rows_are_said_to_be_all(tmp_path):
    with pytest.raises(SettingsError, match="level 'patient' cannot be judged .* pass --sampling exhaustive"):
        keep(tmp_path, plain(), level=Level.patient)
    _, run, scored = keep(tmp_path, plain(), level=Level.patient, exhaustive=True)
    at = scored.predictions("external").at("patient")
    assert run.read_metrics()["external_auc"] == pytest.approx(auc(at.labels, at.scores))


def test_other_wishes_are_other_runs_and_the_same_one_is_the_same(tmp_path):
    ids = [keep(tmp_path, plain(), threshold=value)[1].run_id for value in (0.3, 0.4, 0.3)]
    assert ids[0] == ids[2] != ids[1]


def changed(column: str, value: object, row: int = 3) -> pd.DataFrame:
    frame = FRAME.drop(columns=["split", "group"]).astype(object)
    frame.loc[row, column] = value
    return frame


@pytest.mark.parametrize(
    ("frame", "error", "match"),
    [
        (plain().drop(columns="image"), DataError, "lacks image; expected image"),
        (plain().drop(columns="patient"), DataError, "lacks patient"),
        (plain().drop(columns="label"), DataError, "lacks label"),
        (plain().drop(columns="p_positive"), DataError, "neither p_positive nor score"),
        (changed("p_positive", "nan"), DataError, "'nan' of image 'p001/3' .* needs a finite number"),
        (changed("p_positive", ""), DataError, "p_positive '' of image 'p001/3'"),
        (changed("p_positive", "1e999"), DataError, "needs a finite number"),
        (changed("p_positive", 1.5), DataError, "p_positive 1.5 of image 'p001/3', which is no probability"),
        (changed("p_negative", 0.999), DataError, "do not sum to 1"),
        (changed("image", "p000/0"), DataError, "lists image 'p000/0' twice"),
        (changed("image", ""), DataError, "a row without the name of an image"),
        (changed("label", "odd"), DataError, "has a label '0' and no column p_0"),
        (changed("fold", "1.5"), DataError, "fold '1.5'; number the folds"),
        (changed("fold", 4), LeakError, "patient 'p001' stands in two folds"),
        (plain().assign(label=1), DataError, "all 180 rows of '.*' are 'positive'"),
        (plain().assign(label="benign", p_benign=0.5), DataError, "one class|has a label|all 180 rows"),
        (plain().assign(split="train"), DataError, "split 'train'; rows to be judged are val, test, external"),
        (
            plain().assign(split=np.where(np.arange(180) % 2, "val", "test")),
            LeakError,
            "patient 'p000' stands in two splits",
        ),
        (plain().assign(split=np.where(FRAME["label"] == 1, "val", "test")), DataError, "holds one class"),
        (plain().assign(p_other=0.1, p_third=0.2), DataError, "3 columns p_"),
    ],
)
def test_a_bad_csv_is_one_line(tmp_path, frame, error, match):
    with pytest.raises(error, match=match):
        read_outside(write(tmp_path, frame))


def test_scores_that_rank_nothing_are_refused(tmp_path):
    with pytest.raises(DataError, match="all scores in '.*' are 7; they rank nothing"):
        read_outside(write(tmp_path, plain().assign(p_positive=7)), ranks=True)
    assert Outside({}, (0.0, 10.0)).scaled(5.0) == 0.5
