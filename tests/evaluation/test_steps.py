"""Steps are seen on the same resampled patients; what is planted between two of them is their difference."""

import numpy as np
import pandas as pd
import pytest
from fakes import predictions
from tracked import scores_of

from mammo_lightning.errors import DataError
from mammo_lightning.evaluation.resampling import Estimate
from mammo_lightning.evaluation.statistics import mean_fold_auc, mean_fold_auc_interval
from mammo_lightning.evaluation.steps import Resampled, Step, optimism_within, tenths, unpaired
from mammo_lightning.types import Predictions

BASE = predictions(patients=90, folds=5, effect=1.2)


def marked(table: Predictions, column: np.ndarray) -> Predictions:
    return Predictions(table.frame.assign(stratum=column))


def test_a_step_is_the_mean_fold_auc_and_its_interval_about_that_of_a_study() -> None:
    drawn = Resampled(BASE.groups, BASE.labels, 500).auc(BASE)
    assert drawn.value == pytest.approx(mean_fold_auc(BASE))
    theirs = mean_fold_auc_interval(BASE)
    assert (drawn.estimate.lo, drawn.estimate.hi) == pytest.approx((theirs.lo, theirs.hi), abs=0.03)


def test_a_difference_is_paired_although_the_folds_differ() -> None:
    resampled = Resampled(BASE.groups, BASE.labels, 500)
    before, other = resampled.auc(BASE), Predictions(BASE.frame.assign(fold=np.arange(len(BASE)) % 4))
    same = resampled.auc(other).minus(before)
    assert same.lo < 0 < same.hi
    alone = before.estimate
    others = unpaired(alone, alone)
    assert same.hi - same.lo < 0.7 * (others.hi - others.lo), "as wide as if the patients were others"
    worse = resampled.auc(scores_of(BASE, noise=4, seed=1)).minus(before)
    assert worse.hi < 0
    assert worse.value == pytest.approx(mean_fold_auc(scores_of(BASE, noise=4, seed=1)) - before.value)


def test_within_its_values_a_shortcut_is_worth_nothing() -> None:
    column = np.where(np.random.default_rng(0).random(len(BASE)) < 0.8, BASE.labels, 1 - BASE.labels)
    shortcut = marked(BASE.with_scores(np.where(column == 1, 0.9, 0.1)), column)
    resampled = Resampled(BASE.groups, BASE.labels, 500)
    assert resampled.auc(shortcut).value > 0.7
    within = resampled.auc(shortcut, "stratum")
    assert within.value == 0.5
    assert within.pairs < resampled.auc(shortcut).pairs


def test_a_column_that_is_the_label_leaves_nothing_to_compare() -> None:
    with pytest.raises(DataError, match="no pair of a positive and a negative stands in one fold and one value of"):
        Resampled(BASE.groups, BASE.labels, 500).auc(marked(BASE, BASE.labels), "stratum")


def test_what_was_chosen_among_noise_loses_by_being_chosen_again() -> None:
    rng, column = np.random.default_rng(3), np.arange(len(BASE)) % 2
    tables = [BASE.with_scores(rng.random(len(BASE))) for _ in range(15)]
    tables.sort(key=lambda each: -mean_fold_auc(each))
    lost = optimism_within([marked(tables[0], column), *tables[1:]], "stratum", 200)
    assert lost < -0.02
    alone = [marked(BASE, column), *(scores_of(BASE, noise=9, seed=seed) for seed in range(3))]
    assert optimism_within(alone, "stratum", 200) == pytest.approx(0.0, abs=0.005)


def test_other_patients_are_not_paired() -> None:
    found = unpaired(Estimate(0.8, 0.7, 0.87), Estimate(0.9, 0.86, 0.94))
    assert found.value == pytest.approx(-0.1)
    assert (found.lo, found.hi) == pytest.approx((-0.1 - np.hypot(0.1, 0.04), -0.1 + np.hypot(0.07, 0.04)))


def test_tenths_keep_equal_values_together() -> None:
    values = np.r_[np.zeros(30), np.arange(70.0)]
    found = pd.Series(tenths(values)).groupby(values).nunique()
    assert found.max() == 1
    assert len(set(tenths(values))) > 5


def test_a_change_is_printed_with_its_sign_and_without_ends_that_are_not_known() -> None:
    assert Step("a", "a", difference=Estimate(-0.0512, -0.1, 0.01)).change == "-0.051 (-0.100 to +0.010)"
    alone = Step("a", "a", difference=Estimate(-0.0512, np.nan, np.nan))
    assert (alone.change, alone.lost) == ("-0.051", False)
