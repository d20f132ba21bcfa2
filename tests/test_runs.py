"""Runs as a person names them, and what cannot be believed of them refused."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from fakes import predictions
from tracked import study, trial

from mammo_lightning.errors import DataError, TrackingError
from mammo_lightning.record import record_point
from mammo_lightning.runs import Runs
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.types import Kind, Level, OperatingPoint, Outcome


@pytest.fixture
def mlruns(tmp_path: Path) -> Path:
    study(tmp_path, "first", [predictions(seed=seed, effect=(1.0, 1.5, 4.0)[seed]) for seed in range(3)])
    study(tmp_path, "first-half", [predictions(seed=9)])
    return tmp_path


@pytest.mark.parametrize("word", ["first-000000.t001", "first/t001"])
def test_a_run_is_found_by_id_or_study_and_slot(mlruns: Path, word: str) -> None:
    found = Runs(mlruns).get(word)
    assert found.run_id == "first-000000.t001"
    assert (found.kind, found.level, found.rule, found.name) == (Kind.trial, Level.patch, "youden", "first t001")
    assert found.predictions().frame.equals(predictions(seed=1, effect=1.5).frame)


def test_a_study_is_found_by_its_name_alone_and_stands_for_its_best(mlruns: Path) -> None:
    runs = Runs(mlruns)
    assert runs.study("first").run_id == "first-000000"
    assert [each.run_id[-4:] for each in runs.of_study("first")] == ["t000", "t001", "t002"]
    assert runs.named(["first", "first-half"])[0].run_id == "first-000000.t002"


def test_the_newest_study_of_a_name_is_meant(mlruns: Path) -> None:
    journal = Journal(mlruns)
    run = journal.run("first-111111")
    run.begin(kind=Kind.study, name="first", study="first", parent=None, experiment="synthetic", tags={})
    assert Runs(mlruns).study("first").run_id == "first-111111"


def test_trials_that_were_not_completed_are_no_candidates(mlruns: Path) -> None:
    journal = Journal(mlruns)
    pruned = trial(journal, journal.run("first-000000"), 7, predictions())
    pruned.end(Outcome.pruned, "after 2 folds")
    runs = Runs(mlruns)
    assert "first-000000.t007" not in {each.run_id for each in runs.of_study("first")}
    with pytest.raises(TrackingError, match=r"'first-000000.t007' is pruned \(after 2 folds\); choose a completed one"):
        runs.get("first/t007")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("nothing", "no run 'nothing' in .*; give an id as MLflow shows it"),
        ("first-000000.t0", "begins 3 ids: first-000000.t000, "),
        ("nothing/t001", "no study 'nothing' in .*; known: first, first-half"),
        ("first/t077", "no run 'first/t077'"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(mlruns: Path, word: str, message: str) -> None:
    with pytest.raises(TrackingError, match=message):
        Runs(mlruns).named([word])


def test_a_run_whose_study_is_gone_is_not_judged_by_an_invented_protocol(mlruns: Path) -> None:
    shutil.rmtree(mlruns / "journal" / "first-000000")
    with pytest.raises(
        TrackingError, match="is of study 'first-000000', which is not in .* Restore the study's folder"
    ):
        Runs(mlruns).get("first-000000.t001")


def test_a_folder_without_runs_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="no runs in .*; run `python -m experiments.tune` first"):
        Runs(tmp_path / "none")


def test_predictions_that_were_changed_since_are_refused(mlruns: Path) -> None:
    found = Runs(mlruns).get("first/t000")
    path = found.run.artifacts / "predictions.parquet"
    frame = pd.read_parquet(path)
    path.unlink()  # another name of the file may be kept elsewhere
    frame.assign(label=1 - frame["label"]).to_parquet(path)
    with pytest.raises(DataError, match="is not what run 'first-000000.t000' wrote: its digest is"):
        Runs(mlruns).get("first/t000").predictions()


def test_a_run_without_predictions_of_a_split_is_said(mlruns: Path) -> None:
    with pytest.raises(DataError, match=r"no predictions of split test \(predictions_test.parquet\)"):
        Runs(mlruns).get("first/t000").predictions("test")


@pytest.mark.parametrize("content", ["{", '{"level": "patient"}'])
def test_a_recipe_that_is_another_by_now_is_refused(mlruns: Path, content: str) -> None:
    path = mlruns / "journal" / "first-000000" / "artifacts" / "recipe.json"
    path.unlink()
    path.write_text(content)
    with pytest.raises(DataError, match=r"recipe.json' is not what run 'first-000000' wrote"):
        _ = Runs(mlruns).get("first/t001").rule


def test_a_threshold_that_is_another_by_now_is_refused(mlruns: Path) -> None:
    scored = Runs(mlruns).get("first/t001")
    record_point(scored.run, {"patch": OperatingPoint(0.4, Level.patch, "youden")}, "carried")
    assert scored.points[Level.patch].threshold == 0.4
    path = scored.run.artifacts / "operating_point.json"
    text = path.read_text()
    path.unlink()
    path.write_text(text.replace("0.4", "0.9"))
    with pytest.raises(DataError, match=r"operating_point.json' is not what run .* wrote"):
        _ = scored.points


def test_calibrated_scores_that_are_others_by_now_are_refused(mlruns: Path) -> None:
    scored = Runs(mlruns).get("first/t001")
    assert scored.calibrated() is None
    path = scored.run.write("predictions_calibrated.parquet", predictions(seed=4).frame.to_parquet(index=False))
    assert scored.calibrated().frame.equals(predictions(seed=4).frame)
    path.unlink()
    predictions(seed=5).write(path)
    with pytest.raises(DataError, match=r"predictions_calibrated.parquet' is not what run .* wrote"):
        scored.calibrated()


def test_an_outer_fold_is_no_name_for_one_of_its_trials(mlruns: Path) -> None:
    journal = Journal(mlruns)
    outer = journal.run("first-000000.o0")
    outer.begin(kind=Kind.study, name="o0", study="first", parent="first-000000", experiment="synthetic", tags={})
    outer.end(Outcome.completed)
    with pytest.raises(TrackingError, match="'first-000000.o0' is an outer fold of 'first-000000'; name that study"):
        Runs(mlruns).named(["first-000000.o0"])


def test_without_a_final_the_best_of_a_pareto_study_raises_few_false_alarms(mlruns: Path) -> None:
    journal, above = Journal(mlruns), study(mlruns, "pair", [])
    for slot, (tpr, fpr) in enumerate([(0.99, 0.9), (0.8, 0.15), (0.7, 0.05)]):
        trial(journal, above, slot, predictions(seed=slot)).metrics({"objective": tpr, "objective_fpr": fpr})
    assert Runs(mlruns).named(["pair"])[0].run_id == "pair-000000.t001"


def test_predictions_made_elsewhere_go_by_the_name_they_were_given(mlruns: Path) -> None:
    run = Journal(mlruns).run("external-reader_A-6e5d0b41")
    run.begin(kind=Kind.external, name="reader_A", study="", parent=None, experiment="elsewhere", tags={})
    run.end(Outcome.completed)
    assert Runs(mlruns).named(["reader_A"])[0].run_id == "external-reader_A-6e5d0b41"
    with pytest.raises(TrackingError, match="no run 'reader'"):
        Runs(mlruns).named(["reader"])
