import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammo_lightning.errors import DataError, SettingsError
from mammo_lightning.imbalance.strategies import NAMES, balance


@pytest.fixture
def labels():
    return np.random.default_rng(0).permutation([0] * 1568 + [1] * 1108)


def test_weights_are_the_balanced_ones_of_the_study(labels):
    rows, weights = balance("weights", labels, np.random.default_rng(0))
    np.testing.assert_array_equal(rows, np.arange(2676))
    assert weights == pytest.approx((0.853, 1.208), abs=1e-3)
    assert weights[0] * 1568 == pytest.approx(weights[1] * 1108)


def test_undersampling_takes_as_many_of_each_and_none_twice(labels):
    rows, weights = balance("undersample", labels, np.random.default_rng(0))
    assert np.bincount(labels[rows]).tolist() == [1108, 1108]
    assert len(set(rows)) == len(rows)
    assert weights == (1, 1)


def test_oversampling_keeps_all_and_copies_only_the_smaller_class(labels):
    rows, weights = balance("oversample", labels, np.random.default_rng(0))
    assert np.bincount(labels[rows]).tolist() == [1568, 1568]
    assert set(rows) == set(range(2676))
    times = np.bincount(rows)
    assert (times[labels == 0] == 1).all(), "no copy of the larger class may stand for the smaller"
    assert weights == (1, 1)


@given(st.lists(st.integers(0, 1), min_size=2).filter(lambda x: 0 < sum(x) < len(x)), st.sampled_from(NAMES))
def test_rows_are_positions_and_the_draw_follows_the_generator(labels, name):
    rows, _ = balance(name, labels, np.random.default_rng(1))
    again, _ = balance(name, np.array(labels), np.random.default_rng(1))
    np.testing.assert_array_equal(rows, again)
    assert rows.dtype == np.int64
    assert (np.diff(rows) >= 0).all()
    assert rows.min() >= 0
    assert rows.max() < len(labels)
    if name.endswith("sample"):
        assert np.asarray(labels)[rows].mean() == 0.5


def test_none_takes_every_row_even_of_one_class():
    rows, weights = balance("none", [1, 1, 1], np.random.default_rng(0))
    assert rows.tolist() == [0, 1, 2]
    assert weights == (1, 1)


def test_refusals():
    rng = np.random.default_rng(0)
    with pytest.raises(SettingsError, match="no balance 'smote'; known: none, oversample, undersample, weights"):
        balance("smote", [0, 1], rng)
    with pytest.raises(DataError, match=r"training rows are 3\+/0-; balancing needs both classes"):
        balance("weights", [1, 1, 1], rng)
    with pytest.raises(DataError, match="labels hold values other than 0 and 1"):
        balance("undersample", [0, 1, 2], rng)
