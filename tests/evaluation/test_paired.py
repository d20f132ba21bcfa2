"""Paired tests against published examples, against their definitions written out, and by simulation."""

import numpy as np
import pandas as pd
import pytest
from fakes import predictions
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, norm, t

from mammo_lightning.errors import DataError, SettingsError
from mammo_lightning.evaluation.paired import compare_auc, compare_rates, count_apart, holm, rank_apart
from mammo_lightning.types import Predictions

# Outcome after subarachnoid haemorrhage, 41 poor before 72 good: the data `aSAH` of R's pROC (Turck et al. 2010), each
# marker by its order among the others, which is all that an AUC knows of it.
ASAH = {
    "wfns": """29 16 38 64 64 64 64 16 64 16 2 16 64 38 38 16 64 64 64 16 64 16 64 16 38 64 38 38 2 38 38 16 16 64 64
    16 16 64 64 64 64 2 2 2 2 64 2 16 16 2 16 16 2 2 2 16 2 16 2 2 29 38 2 38 2 64 64 2 2 16 38 2 2 16 16 2 16 2 16 16
    2 2 2 2 16 2 16 2 2 29 16 38 16 2 38 2 2 64 38 16 16 2 2 2 29 2 16 16 38 38 2 2 2""",
    "s100b": """24 16 29 21 52 70 57 5 45 12 5 49 47 55 70 37 70 70 70 5 70 41 1 12 32 70 37 70 9 37 24 16 19 32 70 27
    70 43 70 70 52 24 27 16 2 54 30 16 16 2 9 2 12 19 5 30 5 19 24 30 2 29 27 46 12 58 54 29 5 50 54 19 9 12 9 2 24 16
    27 28 2 2 12 2 12 9 29 12 9 45 19 40 5 16 43 5 2 34 48 16 28 9 27 16 5 2 30 28 54 30 28 58 55""",
    "ndka": """55 35 39 52 5 15 27 70 77 70 70 21 46 60 9 12 42 1 81 60 23 27 33 42 65 37 60 12 79 49 5 19 60 5 17 70
    31 46 75 27 52 0 14 10 24 8 49 8 56 40 56 54 76 16 8 34 8 8 80 36 20 20 56 2 10 8 19 38 10 48 74 10 8 34 16 10 38 66
    64 22 32 78 8 54 20 24 24 48 2 54 34 16 24 56 24 32 10 20 24 66 14 34 37 74 30 34 16 66 22 44 64 8 40""",
}
# Glands of 21 patients rightly called normal by SPECT and PET (Obuchowski 1998, as in R's package clust.bin.pair): how
# many glands a patient has, and how many more SPECT has right.
THYROIDS = [(3, 2), (3, 1), (3, 0), (1, 0), (3, 1), (4, 0), (3, 0), (2, 0), (2, -1), (1, 0), (3, 0)]
THYROIDS += [(2, 0), (3, 0), (2, 0), (2, 2), (3, 0), (3, 0), (3, 1), (2, 0), (1, 0), (2, 0)]


def table(labels: np.ndarray, groups: np.ndarray, scores: np.ndarray) -> Predictions:
    frame = pd.DataFrame({"image": [f"i{row}" for row in range(len(labels))], "patient": groups, "group": groups})
    columns = {"view": "", "fold": 0, "split": "val", "label": labels, "p_no": 1 - scores, "p_yes": scores}
    return Predictions(frame.assign(**columns))


def marker(name: str) -> Predictions:
    labels = np.r_[np.ones(41, int), np.zeros(72, int)]
    return table(labels, np.arange(113), np.array(ASAH[name].split(), float) / 100)


def clustered(
    rng: np.random.Generator, groups: int, *, mixed: bool = False, gain: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels, groups and two sets of scores of four rows a group; what a set gets wrong it gets wrong in a group."""
    group = np.repeat(np.arange(groups), 4)
    labels = (group < 0.4 * groups).astype(int)
    if mixed:
        labels *= rng.random(len(group)) < 0.6
    common = rng.normal(size=groups)[group] / 2
    first, second = (
        effect * labels + common + 0.8 * rng.normal(size=groups)[group] + 0.6 * rng.normal(size=len(group))
        for effect in (1 + gain, 1)
    )
    return labels, group, first, second


def obuchowski(labels: np.ndarray, groups: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Difference and variance as Obuchowski (1997) has them, by comparing every positive with every negative."""
    positive = labels == 1
    aucs, sums = [], []
    for scores in (first, second):
        wins = np.heaviside(scores[positive][:, None] - scores[~positive][None, :], 0.5)
        aucs.append(wins.mean())
        names = np.unique(groups)
        high = np.array([(wins.mean(1)[groups[positive] == name] - wins.mean()).sum() for name in names])
        low = np.array([(wins.mean(0)[groups[~positive] == name] - wins.mean()).sum() for name in names])
        sums.append((high, low))
    many, few = len(np.unique(groups[positive])), len(np.unique(groups[~positive]))
    ups, downs, every = positive.sum(), (~positive).sum(), len(np.unique(groups))

    def covariance(one: int, two: int) -> float:
        up = many / ((many - 1) * ups) * (sums[one][0] @ sums[two][0]) / ups
        down = few / ((few - 1) * downs) * (sums[one][1] @ sums[two][1]) / downs
        cross = sums[one][0] @ sums[two][1] + sums[two][0] @ sums[one][1]
        return up + down + every / (every - 1) * cross / (ups * downs)

    return aucs[0] - aucs[1], covariance(0, 0) + covariance(1, 1) - 2 * covariance(0, 1)


@pytest.mark.parametrize(
    ("first", "second", "z", "p", "lo", "hi"),
    [
        ("wfns", "s100b", 2.20898359144091, 0.0271757822291882, 0.0104061769564846, 0.174214419249478),
        ("wfns", "ndka", 2.79777591868904, 0.00514557970691098, 0.0634011709339876, 0.3600405634833566),
        ("ndka", "s100b", -1.39077002573558, 0.164295175223054, -0.2876917446341914, 0.0488706064228094),
    ],
)
def test_delong_gives_what_proc_gives(first: str, second: str, z: float, p: float, lo: float, hi: float) -> None:
    found = compare_auc(marker(first), marker(second))
    assert found.method == "DeLong"
    assert found.p == pytest.approx(p, rel=1e-9)
    assert (found.difference.lo, found.difference.hi) == pytest.approx((lo, hi), rel=1e-9)
    assert found.difference.value / ((hi - lo) / 2 / norm.ppf(0.975)) == pytest.approx(z, rel=1e-9)


@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([1, 100]))
@settings(max_examples=25, deadline=None)
def test_error_is_obuchowskis_with_ties_and_groups_of_both_classes(seed: int, mixed: bool, steps: int) -> None:
    labels, groups, first, second = clustered(np.random.default_rng(seed), 10, mixed=mixed)
    labels[[0, -1]] = 1, 0
    first, second = np.round(first * steps), np.round(second * steps)
    value, variance = obuchowski(labels, groups, first, second)
    ranked = rank_apart(labels, groups, first, second)
    assert ranked.value == pytest.approx(value, abs=1e-12)
    if ranked.groups > 1:
        assert ranked.error**2 == pytest.approx(variance, abs=1e-12)


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_obuchowski_is_delong_with_one_row_a_group(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.r_[1, 1, 0, 0, rng.integers(0, 2, 40)]
    first, second = rng.integers(0, 12, (2, 44)).astype(float)
    up, down = labels == 1, labels == 0
    variance = 0.0
    placed = [np.heaviside(scores[up][:, None] - scores[down][None, :], 0.5) for scores in (first, second)]
    for axis, count in ((1, up.sum()), (0, down.sum())):
        variance += np.array([1, -1]) @ np.cov([wins.mean(axis) for wins in placed]) @ np.array([1, -1]) / count
    assert rank_apart(labels, np.arange(44), first, second).error == pytest.approx(np.sqrt(variance), abs=1e-12)


def test_rows_repeated_within_their_groups_tell_nothing_new() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat([1, 0], [20, 30])
    first, second = rng.normal(size=(2, 50)) + labels
    once = rank_apart(labels, np.arange(50), first, second)
    again = rank_apart(*(np.repeat(each, 5) for each in (labels, np.arange(50), first, second)))
    alone = rank_apart(*(np.repeat(each, 5) for each in (labels,)), np.arange(250), *np.repeat([first, second], 5, 1))
    assert (again.value, again.error) == pytest.approx((once.value, once.error), rel=1e-12)
    assert alone.error < once.error / 2


def test_clustered_predictions_are_referred_to_t() -> None:
    first, second = predictions(patients=18, seed=1), predictions(patients=18, seed=2)
    found = compare_auc(first, second)
    ranked = rank_apart(first.labels, first.groups, first.scores, second.scores)
    assert found.method == "Obuchowski"
    assert 5 <= ranked.freedom <= 16  # six groups with a positive, twelve without
    assert found.p == pytest.approx(2 * t.sf(abs(ranked.value) / ranked.error, ranked.freedom))
    assert (found.p < 0.05) == (not found.difference.lo <= 0 <= found.difference.hi)


def test_one_large_group_leaves_few_degrees_of_freedom() -> None:
    rng = np.random.default_rng(0)
    groups = np.r_[np.repeat(0, 50), np.arange(1, 40)]
    labels = np.r_[np.ones(70, int), np.zeros(19, int)]
    assert rank_apart(labels, groups, *rng.normal(size=(2, 89))).freedom < 25


def test_order_of_rows_and_of_runs() -> None:
    first, second = predictions(seed=1), predictions(seed=2)
    shuffled = Predictions(second.frame.sample(frac=1, random_state=0).reset_index(drop=True))
    forth, back = compare_auc(first, shuffled), compare_auc(second, first)
    assert forth == compare_auc(first, second)
    assert forth.p == pytest.approx(back.p)
    assert forth.difference.lo == pytest.approx(-back.difference.hi)


def test_the_same_scores_differ_by_nothing() -> None:
    found = compare_auc(predictions(), predictions())
    assert (found.difference.value, found.difference.lo, found.difference.hi, found.p) == (0, 0, 0, 1)


def test_a_difference_without_variance_is_judged_by_the_number_of_groups() -> None:
    labels = np.repeat([1, 0], [12, 40])
    groups = np.arange(52) // 2
    found = compare_auc(table(labels, groups, labels * 0.8 + 0.1), table(labels, groups, np.full(52, 0.5)))
    assert found.difference.value == 0.5
    assert found.p == pytest.approx(2 * 0.5**6)
    assert 0 < found.difference.lo < 0.3
    assert found.difference.hi == 0.5


def test_one_group_of_a_class_shows_nothing() -> None:
    labels, groups = np.repeat([1, 0], [3, 9]), np.repeat([0, 1, 2, 3], 3)
    rng = np.random.default_rng(0)
    found = compare_auc(table(labels, groups, rng.random(12)), table(labels, groups, rng.random(12)))
    assert (found.p, found.difference.lo, found.difference.hi) == (1, -1, 1)


def test_what_cannot_be_compared_is_refused_by_name() -> None:
    first = predictions()
    with pytest.raises(DataError, match=r"image 'p000/0' is in the first predictions only"):
        compare_auc(first, first.where(first.frame["image"] != "p000/0"))
    for column, value in (("label", 0), ("group", "p001")):
        changed = first.frame.copy()
        changed.loc[0, column] = value
        with pytest.raises(DataError, match=f"image 'p000/0' has another {column}"):
            compare_auc(first, Predictions(changed))
    negatives = first.where(first.labels == 0)
    with pytest.raises(DataError, match="0 positive of 120 rows"):
        compare_auc(negatives, negatives)


def rejected(replicates: int, groups: int, seed: int, **how: bool) -> dict[str, float]:
    """How often the tests reject a true null, with the groups and without."""
    rng = np.random.default_rng(seed)
    count = dict.fromkeys(("obuchowski", "delong", "rates", "mcnemar"), 0)
    for _ in range(replicates):
        labels, group, first, second = clustered(rng, groups, **how)
        ranked, alone = (rank_apart(labels, each, first, second) for each in (group, np.arange(len(group))))
        count["obuchowski"] += 2 * t.sf(abs(ranked.value) / ranked.error, ranked.freedom) < 0.05
        count["delong"] += abs(alone.value) / alone.error > 1.96
        rows = labels == 0
        for name, each in (("rates", group), ("mcnemar", np.arange(len(group)))):
            count[name] += count_apart(each[rows], first[rows] > 0.5, second[rows] > 0.5).p < 0.05
    return {name: found / replicates for name, found in count.items()}


def test_clustered_tests_keep_their_level_where_the_others_do_not() -> None:
    found = rejected(400, 40, 1)
    assert found["obuchowski"] < 0.08
    assert found["rates"] < 0.08
    assert found["delong"] > 0.15
    assert found["mcnemar"] > 0.08


@pytest.mark.proof
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("groups", [15, 40, 120])
def test_level_in_many_simulations(groups: int, mixed: bool) -> None:
    found = rejected(1500, groups, 2, mixed=mixed)
    assert 0.015 < found["obuchowski"] < 0.065
    assert found["rates"] < 0.065
    assert found["delong"] > 0.1


def test_clustered_auc_test_finds_a_difference_that_is_there() -> None:
    rng = np.random.default_rng(5)
    labels, groups, first, second = clustered(rng, 300, gain=1.0)
    found = compare_auc(*(table(labels, groups, 1 / (1 + np.exp(-each))) for each in (first, second)))
    assert found.p < 0.01
    assert found.difference.lo > 0.02


def test_rates_of_one_row_a_group_are_mcnemars() -> None:
    """Airway reactivity of 21 children, 1 and 7 of whom changed (Fagerland, Lydersen and Laake 2014)."""
    first, second = np.zeros((2, 42), bool)
    first[0], second[1:8] = True, True
    labels = np.repeat([1, 0], 21)
    found = compare_rates(labels, np.tile(np.arange(21), 2), first, second)  # each of 21 has one row of each class
    assert found["tpr"].method == found["fpr"].method == "McNemar"
    assert found["tpr"].p == pytest.approx(2 * (1 + 8) / 2**8)
    assert found["tpr"].difference.value == pytest.approx(-6 / 21)
    assert (found["tpr"].difference.lo, found["tpr"].difference.hi) == pytest.approx((-0.517, -0.026), abs=5e-4)
    assert found["fpr"].p == 1
    assert found["fpr"].difference.lo == pytest.approx(-(1.959964**2) / (21 + 1.959964**2), rel=1e-5)


def test_rates_of_clustered_rows_are_obuchowskis() -> None:
    glands, pet, spect = [], [], []
    for patient, (count, apart) in enumerate(THYROIDS):
        glands += [patient] * count
        spect += [row < apart for row in range(count)]
        pet += [row < -apart for row in range(count)]
    found = count_apart(glands, np.array(spect), np.array(pet))
    assert (sum(spect), sum(pet)) == (7, 1)  # McNemar's statistic is 4.5, as published for these
    assert found.method == "Obuchowski"
    assert found.p == pytest.approx(chi2.sf(20 / 21 * 36 / 12, 1))
    assert found.p > chi2.sf(4.5, 1)
    assert found.interval().value == pytest.approx(6 / 51)


@given(st.integers(0, 10**6), st.floats(0.02, 0.5))
@settings(max_examples=60, deadline=None)
def test_interval_of_a_rate_leaves_out_nothing_only_where_the_test_does(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    groups = np.sort(rng.integers(0, 20, 60))
    first = rng.random(60) < 0.5
    second = first ^ (rng.random(60) < share) & (rng.random() < 0.5)
    labels = np.r_[1, 0, rng.integers(0, 2, 58)]
    for found in compare_rates(labels, groups, first, second).values():
        assert -1 <= found.difference.lo <= found.difference.value <= found.difference.hi <= 1
        if found.method == "Obuchowski" and not found.difference.lo <= 0 <= found.difference.hi:
            assert found.p < 0.05 + 1e-9


def test_one_group_or_no_row_that_differs_is_no_certainty() -> None:
    labels, groups = np.repeat([1, 0], [6, 30]), np.r_[np.zeros(6, int), np.repeat(np.arange(1, 11), 3)]
    called = labels == 1
    found = compare_rates(labels, groups, called, ~called)
    assert found["tpr"].p == 1
    assert found["tpr"].difference.lo < 0 < found["tpr"].difference.value
    same = compare_rates(labels, groups, called, called)["fpr"]
    assert same.p == 1
    assert same.difference.hi > 0.2  # ten groups of three: as if ten rows


def test_one_row_that_differs_is_no_proof_that_rows_of_a_group_are_unlike() -> None:
    groups, first = np.repeat(np.arange(20), 10), np.zeros(200, bool)
    second = first.copy()
    second[0] = True
    one, none = count_apart(groups, first, second).interval(), count_apart(groups, first, first).interval()
    alone = count_apart(np.arange(200), first, second).interval()
    assert 2 * alone.lo > one.lo > none.lo == pytest.approx(-(1.96**2) / (20 + 1.96**2), abs=1e-3)


def test_rates_refuse_what_does_not_belong_together() -> None:
    with pytest.raises(DataError, match="3 labels, 3 groups, 3 and 2 decisions"):
        compare_rates([1, 0, 0], [1, 2, 3], np.ones(3, bool), np.ones(2, bool))
    with pytest.raises(DataError, match="2 positive of 2 rows"):
        compare_rates([1, 1], [1, 2], np.ones(2, bool), np.ones(2, bool))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert holm([]) == []
    with pytest.raises(SettingsError, match=r"\[0\.1, nan\] are no probabilities"):
        holm([0.1, float("nan")])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_lies_between_nothing_and_bonferroni(p: list[float]) -> None:
    found = np.array(holm(p))
    assert (found >= np.array(p)).all()
    assert (found <= np.minimum(1, len(p) * np.array(p)) + max(p)).all()
    assert (np.diff(found[np.argsort(p, kind="stable")]) >= 0).all()
    assert found.min() == pytest.approx(min(1, len(p) * min(p)))
