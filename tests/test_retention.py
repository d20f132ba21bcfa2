"""What a loser need not keep, and nothing else."""

import os
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tracking.story import begin

from mammo_lightning.retention import free, losers, models, weigh
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.tuning import Goal
from mammo_lightning.types import Level

RATES = st.floats(0, 1).map(lambda value: round(value, 1))


def frozen(values: dict[str, tuple[float, ...]]) -> list[optuna.trial.FrozenTrial]:
    trials = []
    for number, worth in enumerate(values.values()):
        trials.append(optuna.trial.create_trial(values=list(worth)))
        trials[-1].number = number
    return trials


@given(st.lists(st.tuples(RATES), min_size=1, max_size=9), st.integers(0, 10))
def test_one_objective_is_ranked_as_the_search_ranks_it(worths, keep):
    values = {str(number): worth for number, worth in enumerate(worths)}
    ranked = [str(trial.number) for trial in Goal("val_auc", Level.patch, "spec0.80").ranked(frozen(values))]
    assert losers(values, keep) == ranked[keep:]


@given(st.lists(st.tuples(RATES, RATES), min_size=1, max_size=9), st.integers(0, 10))
def test_a_pair_is_ranked_as_the_search_ranks_it(worths, keep):
    values = {str(number): worth for number, worth in enumerate(worths)}
    ranked = [str(trial.number) for trial in Goal("tpr,fpr", Level.patch, "youden").ranked(frozen(values))]
    assert losers(values, keep) == ranked[keep:]


def test_nobody_loses_where_all_are_kept():
    assert losers({"a": (0.5,), "b": (0.6,)}, 16) == []
    assert losers({"a": (0.5,), "b": (0.6,)}, 1) == ["a"]
    assert losers({"early": (0.5,), "late": (0.5,)}, 1) == ["late"]


def finished(run, folds: int = 2, size: int = 1000):
    """Fits as they stand on disk, their weights known by a second name as artifacts, and a servable model."""
    for fold in range(folds):
        folder = run.folder / "folds" / f"f{fold}"
        folder.mkdir(parents=True)
        for name in ("fit.json", "config.json", "curve.csv", "predictions.parquet"):
            (folder / name).write_text(f"{name} of {run.run_id} {fold}")
        (folder / "model.safetensors").write_bytes(os.urandom(size))
        for name in ("model.safetensors", "config.json"):
            run.artifact(folder / name, f"models/f{fold}/{name}")
    run.write("predictions.parquet", b"a table")
    run.write("figures/roc.png", b"a figure")
    return run


@pytest.fixture
def run(tmp_path):
    return begin(Journal(tmp_path).run("demo.t000"))


def test_models_go_and_everything_else_stays(run):
    finished(run)
    before = {path for path in run.folder.rglob("*") if path.is_file()}
    assert free(run) == 2000
    gone = {path.relative_to(run.folder).as_posix() for path in before if not path.exists()}
    weights = {f"folds/f{fold}/model.safetensors" for fold in range(2)}
    assert gone == weights | {f"artifacts/models/f{fold}/{name}" for fold in range(2) for name in (
        "model.safetensors", "config.json"
    )}  # fmt: skip
    assert run.since(0)[0][-1]["event"] == "drop"


def test_a_second_time_nothing_happens(run):
    finished(run)
    free(run)
    events = run.events.read_bytes()
    assert free(run) == 0
    assert run.events.read_bytes() == events
    assert models(run) == []


def test_checkpoints_go_without_an_artifact(run):
    path = run.folder / "folds" / "f0" / "last.ckpt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"0" * 500)
    assert free(run) == 500
    assert not path.exists()


def test_bytes_with_several_names_count_once(tmp_path):
    first, second, elsewhere = tmp_path / "first", tmp_path / "second", tmp_path / "elsewhere"
    first.write_bytes(b"0" * 700)
    second.hardlink_to(first)
    assert weigh([first, second]) == 700
    assert weigh([first]) == 0, "the other name keeps the bytes"
    elsewhere.hardlink_to(first)
    assert weigh([first, second]) == 0


def test_what_was_interrupted_is_finished_later(run, monkeypatch):
    finished(run)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt("killed")))
    with pytest.raises(KeyboardInterrupt, match="killed"):
        free(run)
    monkeypatch.undo()
    assert [path.name for path in models(run)] == ["model.safetensors"] * 2
    assert free(run) == 2000
    assert models(run) == []
