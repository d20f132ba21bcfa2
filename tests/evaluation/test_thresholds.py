import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo_lightning.errors import DataError, LeakError, SettingsError
from mammo_lightning.evaluation.thresholds import apply, choose, cross_fitted, parse
from mammo_lightning.types import Level, OperatingPoint, Predictions


def rows(labels, scores, folds=0, split="val") -> Predictions:
    names = [f"p{row}" for row in range(len(labels))]
    return Predictions(
        pd.DataFrame({"image": names, "patient": names, "group": names, "view": "left", "fold": folds, "split": split})
        .assign(label=labels, p_benign=1 - np.asarray(scores), p_malignant=scores)
    )  # fmt: skip


def test_rules_are_parsed_and_bad_ones_named():
    assert parse("youden") == ("youden", 0)
    assert parse("sens0.95") == ("sens", 0.95)
    assert parse("spec0.80") == ("spec", 0.8)
    assert parse("fixed.25") == ("fixed", 0.25)
    for bad in ("sens", "spec80", "fixed1.0", "sens0.9.5", "Youden", "sens0", ""):
        with pytest.raises(SettingsError, match=r"known forms: youden, sens0.95, spec0.80, fixed0.5"):
            parse(bad)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_thresholds_meet_their_targets_and_the_next_one_does_not(data):
    count = data.draw(st.integers(2, 40))
    scores = np.array(data.draw(st.lists(st.integers(0, 12), min_size=count, max_size=count))) / 12
    labels = np.array(
        data.draw(
            st.permutations([0, 1, *data.draw(st.lists(st.integers(0, 1), min_size=count - 2, max_size=count - 2))])
        )
    )
    target = data.draw(st.sampled_from([0.5, 0.8, 0.9, 0.95]))
    table = rows(labels, scores)
    candidates = np.unique(np.r_[scores, scores.max() + 1])
    specific = lambda t: (scores[labels == 0] < t).mean()  # noqa: E731
    sensitive = lambda t: (scores[labels == 1] >= t).mean()  # noqa: E731

    low = choose(table, f"spec{target}", "patch").threshold
    assert specific(low) >= target - 1e-9
    assert all(specific(t) < target - 1e-9 for t in candidates[candidates < low - 1e-9])
    high = choose(table, f"sens{target}", "patch").threshold
    assert sensitive(high) >= target - 1e-9
    assert all(sensitive(t) < target - 1e-9 for t in candidates[candidates > high + 1e-9])
    best = choose(table, "youden", "patch").threshold
    index = {t: sensitive(t) + specific(t) for t in candidates}
    assert sensitive(best) + specific(best) == pytest.approx(max(index.values()))
    assert all(value < max(index.values()) - 1e-9 for t, value in index.items() if t < best - 1e-9)


def test_targets_met_exactly_are_met():
    scores = np.arange(35) / 35
    assert choose(rows([0] * 35, scores), "spec0.80", "patch").threshold == scores[28]
    assert choose(rows([1] * 20, np.arange(20) / 20), "sens0.95", "patch").threshold == 1 / 20


def test_nothing_is_called_positive_where_only_that_is_specific_enough():
    table = rows([0, 0, 1], [0.7, 0.7, 0.7])
    point = choose(table, "spec0.80", "patch")
    assert not apply(table, point).any()


def test_point_carries_rule_and_level_and_is_chosen_there(predictions_of):
    table = predictions_of(0)
    point = choose(table, "spec0.80", "patient")
    assert (point.rule, point.level) == ("spec0.80", Level.patient)
    called, patients = apply(table, point), table.at("patient")
    assert len(called) == 200
    assert (~called[patients.labels == 0]).mean() == pytest.approx(0.8)
    assert point.threshold > choose(table, "spec0.80", "patch").threshold  # the maximum of four scores is higher
    assert apply(table, OperatingPoint(0.5, Level.patch, "fixed0.5")).tolist() == (table.scores >= 0.5).tolist()


@pytest.mark.parametrize("split", ["test", "external"])
def test_rows_behind_the_wall_are_refused(split):
    table = rows([0, 1, 0], [0.1, 0.8, 0.3], split=["val", "val", split])
    with pytest.raises(LeakError, match=f"1 rows of split '{split}'"):
        choose(table, "youden", "patch")


def test_a_missing_class_is_named():
    with pytest.raises(DataError, match=r"no negative row to choose 'spec0.80' on"):
        choose(rows([1, 1], [0.2, 0.4]), "spec0.80", "patch")
    with pytest.raises(DataError, match="no positive row to choose 'youden' on"):
        choose(rows([0, 0], [0.2, 0.4]), "youden", "patch")
    assert choose(rows([0, 0], [0.2, 0.4]), "fixed0.5", "patch").threshold == 0.5


@pytest.mark.parametrize("level", ["patch", "view", "patient"])
def test_a_fold_does_not_move_its_own_threshold(predictions_of, level):
    table = predictions_of(1)
    decisions, points = cross_fitted(table, "spec0.80", level)
    assert len(decisions) == len(table.at(level))
    assert sorted(points) == [0, 1, 2, 3, 4]
    spoiled = table.with_scores(np.where(table.folds == 2, table.scores / 3, table.scores))
    _, others = cross_fitted(spoiled, "spec0.80", level)
    assert others[2] == points[2] == choose(table.where(table.folds != 2), "spec0.80", level)
    assert all(others[fold].threshold < points[fold].threshold for fold in (0, 1, 3, 4))
    at = table.at(level)
    by_hand = [score >= points[fold].threshold for score, fold in zip(at.scores, at.folds, strict=True)]
    assert decisions.tolist() == by_hand


def breasts() -> Predictions:
    """Two views of each breast; patients '1' and '1-b' are sorted otherwise by their keys than by joined names."""
    rng = np.random.default_rng(0)
    patients = [f"{number}{more}" for number in range(1, 13) for more in ("", "-b")]
    frame = pd.DataFrame(
        [
            {"image": f"{patient}_{side}_{view}", "patient": patient, "laterality": side, "view": view,
             "label": number % 3 == 0}
            for number, patient in enumerate(patients) for side in "LR" for view in ("CC", "MLO")
        ]
    )  # fmt: skip
    frame = frame.assign(group=frame["patient"], exam="1", fold=-1, split="val", label=frame["label"].astype(int))
    scores = np.clip(0.3 + 0.3 * frame["label"] + 0.2 * rng.standard_normal(len(frame)), 0.01, 0.99)
    return Predictions(frame.assign(p_benign=1 - scores, p_malignant=scores))


@pytest.mark.parametrize("level", ["view", "breast", "exam"])
def test_rows_of_a_level_in_another_order_are_refused_and_in_its_own_decided(level):
    point = OperatingPoint(0.5, Level(level), "fixed0.5")
    at = breasts().at(level)
    ordered = Predictions(at.frame.sort_values("image").reset_index(drop=True))
    assert ordered.frame["image"].tolist() != at.frame["image"].tolist(), "the orders are the same: nothing is tested"
    assert apply(at, point).tolist() == (at.scores >= 0.5).tolist() == apply(breasts(), point).tolist()
    for decide in (lambda rows: apply(rows, point), lambda rows: cross_fitted(rows, "fixed0.5", level)):
        with pytest.raises(DataError, match=f"rows stand at level {level} already, in another order than it has"):
            decide(ordered)


def test_images_named_as_patients_are_decided_in_the_order_of_the_level():
    table = rows([0, 1, 0, 1], [0.1, 0.9, 0.2, 0.8])
    turned = Predictions(table.frame.iloc[::-1].reset_index(drop=True))
    point = OperatingPoint(0.5, Level.patient, "fixed0.5")
    assert apply(turned, point).tolist() == (turned.at("patient").scores >= 0.5).tolist() == [False, True, False, True]


def test_one_fold_needs_rows_to_fit_on(predictions_of):
    table = predictions_of(2)
    held, rest = table.where(table.folds == 0), table.where(table.folds != 0)
    with pytest.raises(DataError, match="Pass fitted_on"):
        cross_fitted(held, "spec0.80", "patch")
    decisions, points = cross_fitted(held, "spec0.80", "patch", fitted_on=rest)
    assert points == {0: choose(rest, "spec0.80", "patch")}
    assert decisions.tolist() == apply(held, points[0]).tolist()
    assert cross_fitted(held, "fixed0.5", "patch")[0].tolist() == (held.scores >= 0.5).tolist()


def test_a_group_on_both_sides_stops_it(predictions_of):
    table = predictions_of(3)
    with pytest.raises(LeakError, match="group 'p0000' stands in fold 0 and the rows"):
        cross_fitted(table.where(table.folds == 0), "youden", "patch", fitted_on=table)
    folds = np.arange(len(table)) % 2
    with pytest.raises(LeakError, match="Make new folds"):
        cross_fitted(Predictions(table.frame.assign(fold=folds)), "youden", "patch")
