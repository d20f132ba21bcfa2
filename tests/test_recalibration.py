"""Scores of networks that were trained on balanced classes: what is said of their probabilities."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fakes import dataset, predictions
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo_lightning.datamodules.folds import make_splits
from mammo_lightning.elsewhere import Elsewhere
from mammo_lightning.engine.inline import Inline
from mammo_lightning.evaluation.metrics import measure
from mammo_lightning.evaluation.statistics import fold_aucs
from mammo_lightning.evaluation.thresholds import cross_fitted
from mammo_lightning.final import crosswise, decide_by, recalibrated
from mammo_lightning.progress import Progress
from mammo_lightning.reference import Reference, record_reference
from mammo_lightning.registry import CLASSIFIERS
from mammo_lightning.space import make_space
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.training import Task, fit
from mammo_lightning.trials import Trials
from mammo_lightning.tuning import Goal, Search
from mammo_lightning.types import Kind, Level, Predictions

GOAL = Goal("val_auc", Level.patch, "youden")
JUDGED = ("brier", "ece", "calibration_slope", "calibration_intercept")


def shifted(table: Predictions, by: float) -> Predictions:
    """Scores as of a network that was shown positives exp(by) times as often."""
    logits = np.log(table.scores / (1 - table.scores)) + by
    return table.with_scores(1 / (1 + np.exp(-logits)))


@given(st.integers(0, 50), st.floats(-2, 2), st.sampled_from([2, 4, 5]))
@settings(max_examples=15, deadline=None)
def test_order_within_a_fold_stays_and_a_shift_is_taken_back(seed: int, by: float, folds: int) -> None:
    table = predictions(patients=40, folds=folds, seed=seed)
    done, moved = crosswise(table), crosswise(shifted(table, by))
    assert done.frame.drop(columns=["p_negative", "p_positive"]).equals(
        table.frame.drop(columns=["p_negative", "p_positive"])
    )
    assert fold_aucs(done) == pytest.approx(fold_aucs(table))
    np.testing.assert_allclose(moved.scores, done.scores, atol=0.02)
    assert done.scores.mean() == pytest.approx(table.labels.mean(), abs=0.1)


def test_a_fold_is_calibrated_by_others_alone() -> None:
    table = predictions()
    mine = table.folds == 2
    labels = table.frame["label"].where(~mine, 1 - table.frame["label"])
    scores = np.where(mine, table.scores**2, table.scores)
    changed = Predictions(table.frame.assign(label=labels)).with_scores(scores)
    alone = crosswise(Predictions(table.frame.assign(label=labels)))
    np.testing.assert_array_equal(alone.scores[mine], crosswise(table).scores[mine])
    assert not np.allclose(crosswise(changed).scores[~mine], crosswise(table).scores[~mine])


def test_one_fold_is_calibrated_by_its_inner_slice_or_not_at_all() -> None:
    table, inner = (shifted(predictions(folds=1, seed=seed), 2.0) for seed in (0, 1))
    assert recalibrated({"imbalance": "none"}, table, inner) is None
    assert recalibrated({"imbalance": "smote"}, table) is None
    done = recalibrated({"imbalance": "smote"}, table, inner)
    assert done is not None
    assert abs(done.scores.mean() - table.labels.mean()) < 0.05 < table.scores.mean() - table.labels.mean()


def judged(table: Predictions) -> dict[str, float]:
    return {name: float(measure(table.labels, table.scores, table.scores > 0.5)[name][0]) for name in JUDGED}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    data = dataset("folder", tmp_path_factory.mktemp("task"), patients=30)
    return Task(data, make_splits(data, folds=3, test=0.0), "linear")


def test_a_trial_reports_its_calibration_after_recalibration_and_its_order_before(task: Task, tmp_path: Path) -> None:
    chosen = {"imbalance": "oversample", "imbalance_ratio": 8.0, "regularisation": 0.01, "features": "intensity"}
    space = make_space(CLASSIFIERS.get("linear"), chosen=chosen)
    search = Search(storage=None, name="s-1", goal=GOAL, space=space, seed=0, prune=None)
    trials = Trials(
        search=search,
        task=task,
        goal=GOAL,
        space=space,
        journal=Journal(tmp_path),
        parent="s-1",
        tags={"study": "s"},
        seed=0,
        progress=Progress(),
        engine=Inline(),
        elsewhere=Elsewhere(task, lambda *_: False, Progress()),
    )
    trials.run(1)
    run, raw = trials.open(0), trials.predictions(0)
    metrics = run.read_metrics()
    kept = Predictions(pd.read_parquet(run.artifacts / "predictions_calibrated.parquet"))
    np.testing.assert_array_equal(kept.scores, crosswise(raw).scores)
    assert metrics["val_auc"] == pytest.approx(np.mean(list(fold_aucs(raw).values())))
    assert metrics["objective"] == pytest.approx(metrics["val_auc"])
    after, before = judged(kept), judged(raw)
    for name in JUDGED:
        assert metrics[f"val_patch/{name}"] == pytest.approx(after[name]), name
    assert after["brier"] < before["brier"]
    assert abs(after["calibration_intercept"]) < 0.5 < abs(before["calibration_intercept"])
    rebuilt = trials.fits(0)[0].predictions
    np.testing.assert_array_equal(rebuilt.scores, raw.where(raw.folds == 0).scores, "fits keep what the network said")


def test_a_fixed_threshold_is_a_probability_and_decides_on_recalibrated_scores() -> None:
    raw = shifted(predictions(), 2.0)
    done = crosswise(raw)
    for rule, expected in (("fixed0.5", done.scores >= 0.5), ("youden", cross_fitted(raw, "youden", Level.patch)[0])):
        decisions, _ = decide_by(rule, calibrated=done)(raw, Level.patch)
        np.testing.assert_array_equal(decisions, expected)
        pair = Goal("tpr,fpr", Level.patch, rule).values([], raw, calibrated=done)
        assert pair == [pytest.approx(expected[raw.labels == side].mean()) for side in (1, 0)]
    assert (raw.scores >= 0.5).mean() > (done.scores >= 0.5).mean() + 0.1, "the shift would have decided otherwise"


@pytest.mark.parametrize("imbalance", ["none", "weights"])
def test_so_does_the_reference(task: Task, tmp_path: Path, imbalance: str) -> None:
    chosen = make_space(CLASSIFIERS.get("linear"), chosen={"imbalance": imbalance, "imbalance_ratio": 8.0}).fixed
    fits = [fit(task, fold=fold, settings=chosen, seed=0, folder=tmp_path / str(fold)) for fold in task.splits.folds]
    run = Journal(tmp_path).run("reference")
    run.begin(kind=Kind.reference, name="reference", study="s", parent=None, experiment="folder", tags={})
    raw = record_reference(run, Reference(task, fits, "t000"), GOAL)
    expected = judged(raw if imbalance == "none" else crosswise(raw))
    for name in JUDGED:
        assert run.read_metrics()[f"val_patch/{name}"] == pytest.approx(expected[name]), name
    assert (run.artifacts / "predictions_calibrated.parquet").is_file() == (imbalance != "none")
