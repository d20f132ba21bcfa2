import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn import metrics as peer
from sklearn.linear_model import LogisticRegression

from mammo_lightning.errors import DataError
from mammo_lightning.evaluation.logistic import BOUND, logit
from mammo_lightning.evaluation.metrics import NAMES, auc, measure
from mammo_lightning.evaluation.statistics import intervals


def table(seed: int, rows: int, levels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both classes, scores with many ties where there are few levels, and weights of 0 to 3."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.r_[0, 1, rng.integers(0, 2, rows - 2)])
    scores = np.clip((rng.integers(0, levels, rows) + labels * rng.integers(0, 2, rows) + 0.5) / (levels + 2), 0, 1)
    weights = rng.integers(0, 4, rows)
    weights[[labels.argmax(), labels.argmin()]] = 1
    return labels, scores, weights


TABLES = st.builds(table, st.integers(0, 10**6), st.integers(4, 60), st.sampled_from([2, 5, 20, 10**6]))


@settings(max_examples=50, deadline=None)
@given(TABLES)
def test_agrees_with_scikit_learn_under_ties_and_weights(data: tuple[np.ndarray, np.ndarray, np.ndarray]):
    labels, scores, weights = data
    called = scores >= 0.5
    found = {name: value[0] for name, value in measure(labels, scores, called, weights[None]).items()}
    weighted = {"sample_weight": weights}
    tn, fp, fn, tp = peer.confusion_matrix(labels, called, labels=[0, 1], **weighted).ravel()
    expected = {
        "auc": peer.roc_auc_score(labels, scores, **weighted),
        "ap": peer.average_precision_score(labels, scores, **weighted),
        "pauc": peer.roc_auc_score(labels, scores, max_fpr=0.2, **weighted),
        "tpr": tp / (tp + fn),
        "fpr": fp / (fp + tn),
        "accuracy": peer.accuracy_score(labels, called, **weighted),
        "balanced_accuracy": peer.balanced_accuracy_score(labels, called, **weighted),
        "precision": peer.precision_score(labels, called, zero_division=0, **weighted),
        "recall": peer.recall_score(labels, called, **weighted),
        "f1": peer.f1_score(labels, called, zero_division=0, **weighted),
        "mcc": peer.matthews_corrcoef(labels, called, **weighted),
        "brier": peer.brier_score_loss(labels, scores, **weighted),
    }
    assert found == pytest.approx(found | expected, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(TABLES)
@example(table(65536, 10, 5))  # where plain Newton steps overshoot to and fro
def test_a_weight_of_two_is_the_row_given_twice_and_every_metric_is_finite(data):
    labels, scores, weights = data
    weighted = measure(labels, scores, scores > 0.4, np.stack([np.ones_like(weights), weights]))
    repeated = measure(*(np.repeat(column, weights) for column in (labels, scores, scores > 0.4)))
    assert tuple(weighted) == NAMES
    high, low = (scores[(labels == label) & (weights > 0)] for label in (1, 0))
    overlap = high.min() < low.max() and low.min() < high.max()
    for name in NAMES:
        assert weighted[name].shape == (2,)
        if name == "calibration_slope" and not overlap:  # a slope of separable classes is bounded, or there is none
            assert not (np.abs(weighted[name]) >= BOUND).any()
        else:
            assert np.isfinite(weighted[name]).all(), name
            assert weighted[name][1] == pytest.approx(repeated[name][0], rel=1e-3, abs=1e-6), name


@given(TABLES)
@settings(max_examples=50, deadline=None)
def test_auc_depends_on_order_only_and_turns_with_it(data):
    labels, scores, _ = data
    assert auc(labels, scores**3) == pytest.approx(auc(labels, scores))
    assert auc(labels, 1 - scores) == pytest.approx(1 - auc(labels, scores))
    assert auc(labels, np.zeros_like(scores)) == 0.5


def test_calibration_slope_and_intercept_are_those_of_logistic_regression():
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.01, 0.99, 400)
    labels = (rng.random(400) < scores).astype(int)
    weights = rng.integers(0, 4, (3, 400))
    found = measure(labels, scores, scores > 0.5, weights)
    for row, weight in enumerate(weights):
        fit = LogisticRegression(C=np.inf, tol=1e-8).fit(logit(scores)[:, None], labels, sample_weight=weight)
        assert found["calibration_slope"][row] == pytest.approx(fit.coef_[0, 0], rel=1e-3)
        # Calibration in the large: with that intercept the mean score is the share of positives.
        shifted = 1 / (1 + np.exp(-logit(scores) - found["calibration_intercept"][row]))
        assert weight @ shifted == pytest.approx(weight @ labels, rel=1e-6)


def test_calibration_tells_overconfident_and_separable_scores():
    rng = np.random.default_rng(1)
    odds = rng.normal(0, 1.5, 20_000)
    labels = (rng.random(odds.size) < 1 / (1 + np.exp(-odds))).astype(int)
    scores = 1 / (1 + np.exp(-2 * odds - 1))
    found = measure(labels, scores, scores > 0.5)
    right = measure(labels, 1 / (1 + np.exp(-odds)), scores > 0.5)
    assert found["calibration_slope"][0] == pytest.approx(0.5, abs=0.03)
    assert found["ece"][0] > 0.1 > 0.02 > right["ece"][0]
    apart = measure([0, 0, 1, 1], [0.0, 0.4, 0.6, 1.0], [0, 0, 1, 1])
    assert 1 < apart["calibration_slope"][0] < BOUND
    assert apart["auc"][0] == apart["pauc"][0] == 1


@pytest.mark.parametrize("spread", [0.0, 1e-12, 1e-8, 1e-6])
def test_scores_that_are_all_alike_have_no_calibration_slope(predictions_of, spread):
    rng = np.random.default_rng(0)
    table = predictions_of(0)
    table = table.with_scores(0.3 + spread * rng.standard_normal(len(table)))
    assert np.isnan(measure(table.labels, table.scores, table.scores > 0.5)["calibration_slope"][0])
    found = intervals(table, table.scores >= 0.5, replicates=100)
    slope = found["calibration_slope"]
    assert np.isnan([slope.value, slope.lo, slope.hi]).all()
    assert str(slope) == "–"
    for name in NAMES:
        if name != "calibration_slope":
            assert np.isfinite([found[name].value, found[name].lo, found[name].hi]).all(), name


def test_a_weighting_that_leaves_one_score_has_no_slope_and_the_others_have():
    rng = np.random.default_rng(0)
    scores = np.repeat([0.2, 0.6], 50)
    labels = (rng.random(100) < scores).astype(int)
    one = np.repeat([1, 0], 50)
    found = measure(labels, scores, scores > 0.5, np.stack([np.ones(100, int), one]))["calibration_slope"]
    assert 0.3 < found[0] < 3
    assert np.isnan(found[1])


def test_ece_of_ten_equal_mass_bins_by_hand():
    scores = np.linspace(0.005, 0.995, 100)
    labels = (np.arange(100) % 10 < 3).astype(int)
    by_hand = np.mean([abs(scores[i : i + 10].mean() - 0.3) for i in range(0, 100, 10)])
    assert measure(labels, scores, labels == 1)["ece"][0] == pytest.approx(by_hand)


def test_one_class_is_nan_and_lengths_must_agree():
    found = measure([1, 1], [0.2, 0.9], [False, True])
    assert np.isnan([found["auc"][0], found["fpr"][0]]).all()
    assert found["tpr"][0] == 0.5
    with pytest.raises(DataError, match="2 labels, 1 scores"):
        measure([0, 1], [0.5], [True, False])
