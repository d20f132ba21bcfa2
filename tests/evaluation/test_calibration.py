import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from mammo_lightning.errors import DataError
from mammo_lightning.evaluation.calibration import LEAST_SLOPE, Platt, reliability
from mammo_lightning.evaluation.logistic import logit
from mammo_lightning.evaluation.metrics import measure


def overconfident(seed: int, count: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    odds = rng.normal(-0.5, 1.2, count)
    return (rng.random(count) < 1 / (1 + np.exp(-odds))).astype(int), 1 / (1 + np.exp(-2.5 * odds - 1))


def test_platt_is_logistic_regression_and_mends_fresh_scores():
    labels, scores = overconfident(0)
    platt = Platt.fit(labels, scores)
    fit = LogisticRegression(C=np.inf, tol=1e-8).fit(logit(scores)[:, None], labels)
    assert platt.slope == pytest.approx(fit.coef_[0, 0], rel=1e-3)
    assert platt.intercept == pytest.approx(fit.intercept_[0], rel=1e-2)
    labels, scores = overconfident(1)
    before, after = (measure(labels, each, each > 0.5) for each in (scores, platt(scores)))
    assert after["brier"][0] < before["brier"][0] - 0.01
    assert after["ece"][0] < before["ece"][0] / 2
    assert after["auc"][0] == pytest.approx(before["auc"][0])


@pytest.mark.parametrize(
    ("labels", "scores"),
    [([0, 0, 1, 1], [0.0, 0.1, 0.9, 1.0]), ([1, 1, 1], [0.2, 0.4, 0.9]), ([0, 1], [0.5, 0.5]), ([1, 0], [0.1, 0.9])],
    ids=["separable", "one class", "constant", "reversed"],
)
def test_platt_is_finite_and_keeps_order(labels, scores):
    platt = Platt.fit(labels, scores)
    assert np.isfinite([platt.slope, platt.intercept]).all()
    calibrated = platt(scores)
    assert ((calibrated > 0) & (calibrated < 1)).all()
    assert np.argsort(calibrated, kind="stable").tolist() == np.argsort(scores, kind="stable").tolist()


def test_a_reversed_fold_is_flattened_at_its_prevalence():
    labels, scores = overconfident(2)
    platt = Platt.fit(labels, 1 - scores)
    assert platt.slope == LEAST_SLOPE
    assert platt(1 - scores).mean() == pytest.approx(labels.mean(), abs=0.01)


def test_platt_survives_json():
    platt = Platt(0.7, -1.25)
    assert Platt.from_dict(json.loads(json.dumps(platt.as_dict()))) == platt
    assert Platt()([0.2, 0.7]) == pytest.approx([0.2, 0.7])
    with pytest.raises(DataError, match="expected numbers slope and intercept"):
        Platt.from_dict({"slope": 1.0})


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 80), st.sampled_from([1, 3, 1000]))
def test_reliability_counts_every_row_and_gives_the_ece(seed, count, levels):
    rng = np.random.default_rng(seed)
    labels, scores = rng.integers(0, 2, count), rng.integers(0, levels, count) / levels
    table = reliability(labels, scores)
    assert table["count"].sum() == count
    assert len(table) <= 10
    assert table["score"].is_monotonic_increasing
    assert ((table["lo"] <= table["observed"] + 1e-12) & (table["observed"] <= table["hi"] + 1e-12)).all()
    ece = (table["count"] * (table["score"] - table["observed"]).abs()).sum() / count
    assert ece == pytest.approx(measure(labels, scores, labels == 1)["ece"][0])


def test_bins_hold_equal_mass():
    assert reliability(np.arange(100) % 2, np.random.default_rng(0).random(100))["count"].tolist() == [10] * 10
    assert len(reliability([0, 1, 1, 0], [0.1, 0.2, 0.3, 0.4], bins=2)) == 2
