import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mammo_lightning.errors import DataError, SettingsError
from mammo_lightning.evaluation.concordance import Pairs
from mammo_lightning.evaluation.metrics import NAMES, auc, measure
from mammo_lightning.evaluation.resampling import slope_interval
from mammo_lightning.evaluation.statistics import (
    Estimate,
    fold_aucs,
    group_weights,
    intervals,
    mean_fold_auc,
    mean_fold_auc_interval,
    paired_difference,
    selection_corrected,
    within,
)
from mammo_lightning.types import Predictions


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(0.9123, 0.871, 0.9449), "0.91 (0.87-0.94)"),
        (Estimate(0.9912, 0.983, 0.9979), "0.991 (0.983-0.998)"),
        (Estimate(-0.001, -0.04, 0.03), "0.00 (-0.04 to 0.03)"),
        (Estimate(1.234, np.nan, np.nan), "1.23"),
        (Estimate(np.nan, np.nan, np.nan), "–"),
    ],
)
def test_estimate_prints_as_many_digits_as_its_width_bears(estimate, text):
    assert str(estimate) == text


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(2, 40))
def test_group_weights_move_groups_whole_and_keep_both_classes(seed, count, rows):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, count, rows).astype(str)
    labels = np.r_[0, 1, rng.integers(0, 2, rows - 2)]
    weights = group_weights(groups, labels, 40, rng)
    assert weights.shape == (40, rows)
    for name in np.unique(groups):
        assert (weights[:, groups == name] == weights[:, groups == name][:, :1]).all()
    assert (weights @ labels > 0).all()
    assert (weights @ (1 - labels) > 0).all()
    firsts = np.unique(groups, return_index=True)[1]
    assert (weights[:, firsts].sum(axis=1) == len(firsts)).all()


def test_group_weights_vary_and_follow_the_seed():
    groups, labels = np.arange(100), np.arange(100) % 2
    first, again, other = (group_weights(groups, labels, 50, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
    assert first.max() > 2
    assert (first == 0).mean() == pytest.approx(np.exp(-1), abs=0.03)


def test_pairs_count_what_weighted_auc_counts(predictions_of):
    table = predictions_of(0, positives=7, negatives=9)
    scores = np.round(table.scores, 1)
    codes = np.unique(table.groups, return_inverse=True)[1]
    drawn = np.random.default_rng(0).integers(1, 4, (20, codes.max() + 1))
    won, total = Pairs.of(table.labels, scores, codes).count(drawn)
    direct = measure(table.labels, scores, scores > 0.5, drawn[:, codes])["auc"]
    np.testing.assert_allclose(won / total, direct, rtol=1e-12)


def test_intervals_hold_every_metric_around_its_value(predictions_of):
    table = predictions_of(1)
    called = table.scores >= 0.5
    found, again = intervals(table, called, 300, 3), intervals(table, called, 300, 3)
    values = measure(table.labels, table.scores, called)
    assert tuple(found) == NAMES
    assert found == again
    assert found != intervals(table, called, 300, 4)
    for name, estimate in found.items():
        assert estimate.value == values[name][0]
        assert estimate.lo < estimate.value < estimate.hi, name


def test_intervals_are_wider_when_patches_of_a_patient_are_resampled_together(predictions_of):
    table = predictions_of(2)
    alone = Predictions(table.frame.assign(group=table.frame["image"]))
    together, apart = (intervals(each, each.scores > 0.5, 500)["auc"] for each in (table, alone))
    assert together.hi - together.lo > 1.25 * (apart.hi - apart.lo)


def test_a_perfect_figure_is_not_certain(predictions_of):
    table = predictions_of(3, positives=10, negatives=20)
    perfect = table.with_scores(np.where(table.labels == 1, 0.9, 0.1))
    found = intervals(perfect, perfect.labels == 1, 100)
    assert found["auc"].value == found["tpr"].value == found["auc"].hi == 1
    assert found["auc"].lo < 0.8
    assert found["fpr"].value == found["fpr"].lo == 0
    assert 0.05 < found["fpr"].hi < 0.3


def test_interval_of_the_auc_covers_the_truth(predictions_of):
    """A small sibling of the simulation in `make proof`: 80 seeds leave +-5 points."""
    hits = folds = 0
    for seed in range(80):
        table = predictions_of(seed, truth=0.85)
        estimate = mean_fold_auc_interval(Predictions(table.frame.assign(fold=0)), 200, seed)
        hits += estimate.lo <= 0.85 <= estimate.hi
        estimate = mean_fold_auc_interval(table, 200, seed)
        folds += estimate.lo <= 0.85 <= estimate.hi
    assert 0.88 * 80 <= hits
    assert 0.88 * 80 <= folds


@pytest.mark.proof
@pytest.mark.parametrize(("positives", "negatives"), [(50, 150), (15, 45)])
@pytest.mark.parametrize("truth", [0.75, 0.9])
def test_coverage_is_92_to_98_percent(predictions_of, truth, positives, negatives):
    hits = 0
    for seed in range(400):
        table = predictions_of(seed, truth=truth, positives=positives, negatives=negatives)
        estimate = intervals(table, table.scores > 0.5, 400, seed)["auc"]
        hits += estimate.lo <= truth <= estimate.hi
    assert 0.92 <= hits / 400 <= 0.985


def test_mean_fold_auc_leaves_out_folds_of_one_class(predictions_of):
    table = predictions_of(4)
    only = table.where((table.folds != 2) | (table.labels == 1))
    aucs = fold_aucs(only)
    assert np.isnan(aucs[2])
    by_hand = [roc_auc_score(table.labels[table.folds == f], table.scores[table.folds == f]) for f in (0, 1, 3, 4)]
    assert mean_fold_auc(only) == pytest.approx(np.mean(by_hand))
    estimate = mean_fold_auc_interval(only, 200)
    assert estimate.lo < estimate.value == mean_fold_auc(only) < estimate.hi
    with pytest.raises(DataError, match="none of 5 folds holds both classes"):
        mean_fold_auc(table.where(table.labels == (table.folds == 0)))


def test_paired_difference_sees_more_than_two_intervals_do(predictions_of):
    shared = np.random.default_rng(9).standard_normal(800)
    better, worse = predictions_of(5, truth=0.85, shared=shared), predictions_of(6, truth=0.8, shared=shared)
    shuffled = Predictions(worse.frame.sample(frac=1, random_state=0))
    for statistic in ("auc", "mean_fold_auc"):
        found = paired_difference(better, shuffled, statistic, 300)
        alone = mean_fold_auc_interval(better, 300)
        assert found.hi - found.lo < 1.1 * (alone.hi - alone.lo)
        mirrored = paired_difference(worse, better, statistic, 300)
        assert mirrored.value == pytest.approx(-found.value)
        assert mirrored.lo == pytest.approx(-found.hi)
    assert paired_difference(better, worse).value == pytest.approx(
        auc(better.labels, better.scores) - auc(worse.labels, worse.scores)
    )
    same = paired_difference(better, better, replicates=50)
    assert (same.value, same.lo, same.hi) == (0, 0, 0)


def test_paired_difference_refuses_what_is_not_paired(predictions_of):
    table = predictions_of(7)
    with pytest.raises(DataError, match=r"image 'i00000' is in the first predictions only \(1 such\)"):
        paired_difference(table, table.where(np.arange(800) > 0))
    with pytest.raises(DataError, match="image 'i00000' has another label"):
        paired_difference(table, Predictions(table.frame.assign(label=1 - table.labels)))
    moved = Predictions(table.frame.assign(fold=(table.folds + 1) % 5))
    with pytest.raises(DataError, match="has another fold"):
        paired_difference(table, moved, "mean_fold_auc")
    assert paired_difference(table, moved, "auc", 20).value == 0
    with pytest.raises(DataError, match="stands twice"):
        paired_difference(table, Predictions(pd.concat([table.frame, table.frame[:1]])))
    with pytest.raises(SettingsError, match="no statistic 'f1'"):
        paired_difference(table, table, "f1")


def test_selection_corrected_takes_the_optimism_back(predictions_of):
    """Trials of the same worth: the best seems better than it is, the corrected figure does not."""
    apparent, corrected, covered = [], [], 0
    for seed in range(6):
        trials = [
            predictions_of(100 * seed + trial, truth=0.8, positives=25, negatives=60, patches=2) for trial in range(25)
        ]
        apparent.append(max(mean_fold_auc(trial) for trial in trials))
        estimate = selection_corrected(trials, 100, seed)
        corrected.append(estimate.value)
        covered += estimate.lo <= 0.8 <= estimate.hi
    assert np.mean(apparent) > 0.85
    assert np.mean(corrected) == pytest.approx(0.8, abs=0.02)
    assert covered >= 5


def test_selection_corrected_of_one_trial_is_nearly_its_own_figure(predictions_of):
    table = predictions_of(8)
    estimate = selection_corrected([table], 400)
    assert estimate.value == pytest.approx(mean_fold_auc(table), abs=0.005)
    assert estimate == selection_corrected([table], 400)
    with pytest.raises(DataError, match="no trials"):
        selection_corrected([])


def test_within_gives_counts_and_none_for_one_class(predictions_of):
    table = predictions_of(10)
    density = np.where(table.folds == 0, "A", np.where(table.labels == 1, "B", None))
    found = within(Predictions(table.frame.assign(density=density)), "density", 100)
    assert list(found) == ["A", "B", "unknown"]
    rows = table.folds == 0
    assert found["A"].auc.value == pytest.approx(roc_auc_score(table.labels[rows], table.scores[rows]))
    assert found["A"].counts == "40+/120- · 40 patients"
    assert found["B"].auc is found["unknown"].auc is None
    with pytest.raises(SettingsError, match="no column 'vendor'"):
        within(table, "vendor")


def test_one_class_and_one_replicate_are_refused(predictions_of):
    table = predictions_of(11)
    with pytest.raises(DataError, match="a figure needs both classes"):
        mean_fold_auc_interval(table.where(table.labels == 1))
    with pytest.raises(SettingsError, match="1 replicates"):
        intervals(table, table.scores > 0.5, 1)


def test_replicates_without_a_slope_are_left_out_until_an_end_of_the_interval_may_be_among_them():
    draws = np.random.default_rng(0).normal(1.0, 0.1, 1000)
    whole = slope_interval(1.0, draws, 40)
    few = slope_interval(1.0, np.where(np.arange(1000) < 20, np.nan, draws), 40)
    assert (few.lo, few.hi) == pytest.approx((whole.lo, whole.hi), abs=0.02)
    many = slope_interval(1.0, np.where(np.arange(1000) < 30, np.nan, draws), 40)
    assert many.value == 1.0
    assert np.isnan([many.lo, many.hi]).all()
