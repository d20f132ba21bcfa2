"""One score from several: each rule against what its definition says, and invariants of the weights."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo_lightning.errors import DataError, SettingsError
from mammo_lightning.evaluation.combining import (
    FLOOR,
    RULES,
    Combiner,
    fit_combiner,
    greedy_weights,
    majority_threshold,
    mean_fold_aucs,
    simplex_weights,
    with_calibration,
)
from mammo_lightning.evaluation.metrics import auc


def members(
    count: int, rows: int = 400, seed: int = 0, noise: float = 1.5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of members of equal quality that err independently, labels and folds."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(rows) < 0.35).astype(int)
    odds = 2.0 * labels - 1.0 + noise * rng.normal(size=(count, rows))
    return 1 / (1 + np.exp(-odds)), labels, np.arange(rows) % 4


@pytest.mark.parametrize(("votes", "positive"), [((1, 1, 0), True), ((1, 0, 0), False), ((1, 1, 0, 0), False)])
def test_a_majority_is_more_than_half_and_a_tie_is_negative(votes: tuple[int, ...], positive: bool) -> None:
    scores = np.array([[0.9 if vote else 0.5] for vote in votes])  # 0.5 is no vote
    combined = Combiner("majority", tuple([1 / len(votes)] * len(votes)))(scores)
    assert combined[0] == pytest.approx(sum(votes) / len(votes))
    assert (combined[0] >= majority_threshold(len(votes))) == positive


def test_published_votes_of_five_members() -> None:
    """Sum of +1 and -1; class 1 where it is above 0."""
    scores = np.random.default_rng(0).random((5, 200))
    published = np.where(scores > 0.5, 1, -1).sum(axis=0) > 0
    combined = fit_combiner("majority", scores, np.zeros(200, int), np.zeros(200, int))(scores)
    np.testing.assert_array_equal(combined >= majority_threshold(5), published)


@given(st.integers(2, 12), st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_weights_lie_on_the_simplex_above_the_floor_and_no_neighbour_is_better(count: int, seed: int) -> None:
    scores, labels, _ = members(count, rows=120, seed=seed)
    weights = np.array(simplex_weights(scores, labels))
    assert weights.sum() == pytest.approx(1.0, abs=1e-6)
    assert weights.min() >= FLOOR - 1e-9

    def error(given: np.ndarray) -> float:
        return float(((given @ scores - labels) ** 2).mean())

    rng = np.random.default_rng(seed)
    for _ in range(20):  # any other point on the simplex, however near
        other = rng.dirichlet(np.ones(count))
        other = FLOOR + (1 - count * FLOOR) * other
        mixed = weights + 0.05 * (other - weights)
        assert error(mixed) >= error(weights) - 1e-7


def test_a_member_that_knows_gets_the_weight_and_one_that_guesses_the_floor() -> None:
    rng = np.random.default_rng(1)
    labels = (rng.random(300) < 0.5).astype(int)
    scores = np.stack([np.clip(labels * 0.8 + 0.1, 0, 1), rng.random(300)])
    weights = simplex_weights(scores, labels)
    assert weights[0] > 0.95
    assert weights[1] == pytest.approx(FLOOR, abs=0.02)


def test_the_floor_gives_way_to_very_many_members() -> None:
    scores, labels, _ = members(150, rows=300)
    weights = np.array(simplex_weights(scores, labels))
    assert weights.sum() == pytest.approx(1.0)
    assert weights.min() > 0


def test_greedy_takes_what_helps_and_leaves_what_does_not() -> None:
    scores, labels, folds = members(4, rows=1200)
    scores = np.vstack([scores, 1 - scores[0], np.full(1200, 0.5)])
    weights = np.array(greedy_weights(scores, labels, folds, draws=12))
    assert weights.sum() == pytest.approx(1.0)
    assert weights[4] == weights[5] == 0
    assert (weights > 0).sum() >= 3, "members of equal quality that err independently help each other"
    best = max(mean_fold_aucs(scores, labels, folds))
    assert mean_fold_aucs((weights @ scores)[None], labels, folds)[0] > best + 0.02


def test_greedy_is_never_worse_than_its_best_member_on_the_rows_it_saw() -> None:
    for seed in range(8):
        scores, labels, folds = members(6, rows=80, seed=seed, noise=3.0)
        weights = np.array(greedy_weights(scores, labels, folds, draws=5))
        found = mean_fold_aucs((weights @ scores)[None].astype(np.float32), labels, folds)[0]
        assert found >= mean_fold_aucs(scores, labels, folds).max() - 1e-6


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_fast_auc_is_the_auc_with_ties_and_folds_of_one_class(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(0, 6, (3, 60)) / 5, (rng.random(60) < 0.3).astype(int)
    folds = rng.integers(0, 3, 60)
    labels[folds == 2] = 0  # a fold without positives is left out
    labels[np.flatnonzero(folds == 0)[:2]] = (0, 1)
    labels[np.flatnonzero(folds == 1)[:2]] = (0, 1)
    expected = [np.mean([auc(labels[folds == fold], each[folds == fold]) for fold in (0, 1)]) for each in scores]
    np.testing.assert_allclose(mean_fold_aucs(scores, labels, folds), expected)


def test_no_fold_with_both_classes_is_said() -> None:
    with pytest.raises(DataError, match="no fold holds both classes"):
        mean_fold_aucs(np.random.default_rng(0).random((2, 6)), np.zeros(6, int), np.zeros(6, int))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("calibration", [None, "platt", "isotonic"])
def test_written_down_and_read_again_it_scores_the_same(rule: str, calibration: str | None) -> None:
    scores, labels, folds = members(3)
    combiner = with_calibration(fit_combiner(rule, scores, labels, folds), calibration, scores, labels)
    again = Combiner.from_dict(json.loads(json.dumps(combiner.as_dict())))
    np.testing.assert_array_equal(again(scores), combiner(scores))
    assert ((combiner(scores) >= 0) & (combiner(scores) <= 1)).all()


def test_stacking_unlearns_a_member_that_says_the_opposite() -> None:
    scores, labels, folds = members(2, rows=800)
    combiner = fit_combiner("stacking", np.stack([scores[0], 1 - scores[1]]), labels, folds)
    assert combiner.weights[0] > 0 > combiner.weights[1]
    plain = auc(labels, fit_combiner("mean", scores, labels, folds)(scores))
    assert auc(labels, combiner(np.stack([scores[0], 1 - scores[1]]))) == pytest.approx(plain, abs=0.02)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "cannot be read"),
        ({"rule": "mean", "weights": []}, "no known rule or no finite weights"),
        ({"rule": "vote", "weights": [1.0]}, "no known rule"),
        ({"rule": "mean", "weights": [float("nan")]}, "no finite weights"),
        ({"rule": "mean", "weights": ["a"]}, "cannot be read"),
        ({"rule": "mean", "weights": [1.0], "calibrator": {"name": "magic"}}, "calibrator .* cannot be read"),
    ],
)
def test_what_was_not_written_by_us_is_refused(values: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Combiner.from_dict(values)


def test_another_number_of_members_or_an_unknown_rule_is_refused() -> None:
    with pytest.raises(DataError, match="2 members scored, and the ensemble has 3"):
        Combiner("mean", (0.3, 0.3, 0.4))(np.zeros((2, 5)))
    with pytest.raises(SettingsError, match="no rule 'vote' to combine by; known: greedy"):
        fit_combiner("vote", np.zeros((2, 5)), np.zeros(5, int), np.zeros(5, int))
