"""The verb: what it prints and keeps, and what it refuses in one line."""

from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from fakes import predictions
from tracked import scores_of, study

from experiments import cli, ensemble
from mammo_lightning.runs import Runs
from mammo_lightning.tracking.publish import default_uri
from mammo_lightning.types import Kind, Predictions

BASE = predictions(patients=45, folds=5)


@pytest.fixture
def mlruns(tmp_path: Path) -> Path:
    study(tmp_path, "one", [scores_of(BASE, noise=1.0, seed=seed) for seed in range(4)])
    study(tmp_path, "other", [Predictions(BASE.frame.assign(fold=(BASE.frame["fold"] + 1) % 5))])
    return tmp_path


@pytest.fixture
def verb(mlruns: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[object, str, str]]:
    def called(*words: str) -> tuple[object, str, str]:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("sys.argv", ["ensemble", *words, "--mlruns", str(mlruns)])
            with pytest.raises(SystemExit, match=r"\d") as end:
                cli.run(ensemble.app)
        return end.value.code, *capfd.readouterr()

    return called


def test_one_ensemble_for_each_number_with_its_controls(mlruns: Path, verb: Callable[..., tuple]) -> None:
    code, printed, errors = verb("one", "--members", "2,4", "--rule", "weighted", "--no-model")
    assert code == 0, errors
    for line in (
        "ensemble e2 weighted",
        "ensemble e4 weighted",
        "uniform mean of 2 (control)",
        "best member by other folds",
    ):
        assert line in printed
    assert "e4 weighted minus uniform mean of 4 (control): " in printed
    runs = Runs(mlruns)
    kept = [runs.get(name) for name in runs.journal.runs() if name.startswith("ensemble-")]
    assert {(each.kind, each.tags["members"].count(".t")) for each in kept} == {(Kind.ensemble, 2), (Kind.ensemble, 4)}
    mlflow.set_tracking_uri(default_uri(mlruns))
    published = mlflow.search_runs(experiment_names=["synthetic"], filter_string="tags.kind = 'ensemble'")
    assert set(published["tags.mlflow.runName"]) == {"e2 weighted", "e4 weighted"}
    assert all("](#/experiments/" in note for note in published["tags.mlflow.note.content"]), "members are linked"
    assert set(published["tags.mlflow.parentRunId"]) == {
        mlflow.search_runs(
            experiment_names=["synthetic"], filter_string="tags.kind = 'study' and tags.study = 'one'"
        ).iloc[0]["run_id"]
    }


def test_named_members_and_no_images_to_make_a_model_of(mlruns: Path, verb: Callable[..., tuple]) -> None:
    code, printed, _ = verb("--runs", "one/t000,one/t002", "--rule", "majority")
    assert code == 0
    assert "ensemble e2 majority" in printed
    assert "warning: no model is saved: " in printed
    assert not list((mlruns / "journal").glob("ensemble-*/models"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which runs are meant?"),
        (["one", "--runs", "one/t000"], "which runs are meant?"),
        (["nothing"], "no study 'nothing'"),
        (["one", "--members", "1"], "--members 1 is no ensemble"),
        (["one", "--members", "0"], "--members 0 is no ensemble"),
        (["one", "--members", "9"], "--members 9 of 4 candidates"),
        (["one", "--members", "few"], "--members 'few' is no list of numbers"),
        (["one", "--rule", "vote"], "--rule 'vote' is not known"),
        (["one", "--by", "luck", "--members", "2"], "--by 'luck' is not known"),
        (["one", "other"], "another fold of image"),
        (["other"], "1 member; an ensemble needs 2"),
        (["--runs", "one/t000"], "1 member; an ensemble needs 2"),
        (["--runs", "one/t000,one/t999"], "no run 'one/t999'"),
        (["one", "--level", "exam", "--members", "2"], "--level exam was not judged in these runs; pass patch"),
        (["one", "--calibration", "magic", "--members", "2"], "no calibration 'magic'"),
        (["one", "--test", "--members", "2"], "are not those of study 'one'"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    mlruns: Path, verb: Callable[..., tuple], words: list[str], message: str
) -> None:
    before = sorted(path for path in mlruns.rglob("ensemble-*"))
    code, _, errors = verb(*words)
    assert code == 2
    assert errors.count("\n") == 1
    assert errors.startswith("error: ")
    assert message in errors
    assert sorted(path for path in mlruns.rglob("ensemble-*")) == before


def test_a_damaged_member_is_named(mlruns: Path, verb: Callable[..., tuple]) -> None:
    path = mlruns / "journal" / "one-000000.t002" / "artifacts" / "predictions.parquet"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-1] + b"x")
    code, _, errors = verb("one", "--members", "2")
    assert code == 2
    assert "one-000000.t002' wrote: its digest is" in errors
