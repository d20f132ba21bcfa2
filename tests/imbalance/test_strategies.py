import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo_lightning.errors import DataError, SettingsError
from mammo_lightning.imbalance.strategies import DEFAULTS, MAKING, NAMES, balance, resample

TAKING = [name for name in NAMES if name not in MAKING]
BOTH = st.lists(st.integers(0, 1), min_size=2, max_size=200).filter(lambda labels: 0 < sum(labels) < len(labels))
RATIO = st.floats(0.2, 5)


@pytest.fixture
def labels():
    return np.random.default_rng(0).permutation([0] * 1568 + [1] * 1108)


def within_rounding(positive, negative, ratio):
    """Whether the ratio is met as nearly as whole rows allow, one of the classes being as it was."""
    return abs(positive - ratio * negative) <= 0.5 or abs(negative - positive / ratio) <= 0.5


def test_weights_are_the_balanced_ones_of_the_study(labels):
    rows, weights = resample("weights", labels, np.random.default_rng(0))
    np.testing.assert_array_equal(rows, np.arange(2676))
    assert weights == pytest.approx((0.853, 1.208), abs=1e-3)
    assert weights[0] * 1568 == pytest.approx(weights[1] * 1108)


@given(BOTH, RATIO)
def test_weights_meet_the_ratio_and_keep_the_whole(labels, ratio):
    rows, (negative, positive) = resample("weights", labels, np.random.default_rng(0), ratio)
    assert len(rows) == len(labels)
    n, p = labels.count(0) * negative, labels.count(1) * positive
    assert p / n == pytest.approx(ratio)
    assert p + n == pytest.approx(len(labels))


def test_undersampling_takes_as_many_of_each_and_none_twice(labels):
    rows, weights = resample("undersample", labels, np.random.default_rng(0))
    assert np.bincount(labels[rows]).tolist() == [1108, 1108]
    assert len(set(rows)) == len(rows)
    assert weights == (1, 1)


def test_oversampling_keeps_all_and_copies_only_the_smaller_class(labels):
    rows, weights = resample("oversample", labels, np.random.default_rng(0))
    assert np.bincount(labels[rows]).tolist() == [1568, 1568]
    assert set(rows) == set(range(2676))
    times = np.bincount(rows)
    assert (times[labels == 0] == 1).all(), "no copy of the larger class may stand for the smaller"
    assert weights == (1, 1)


def test_the_ratio_of_the_sixth_trial(labels):
    rows, _ = resample("oversample", labels, np.random.default_rng(0), 1.35)
    assert np.bincount(labels[rows]).tolist() == [1568, round(1.35 * 1568)]
    rows, _ = resample("undersample", labels, np.random.default_rng(0), 0.5)
    assert np.bincount(labels[rows]).tolist() == [1568, 784]


@given(BOTH, st.sampled_from(["undersample", "oversample"]), RATIO)
def test_the_ratio_is_met_as_nearly_as_whole_rows_allow(labels, name, ratio):
    rows, _ = resample(name, labels, np.random.default_rng(1), ratio)
    again, _ = resample(name, np.array(labels), np.random.default_rng(1), ratio)
    np.testing.assert_array_equal(rows, again)
    assert rows.dtype == np.int64
    assert (np.diff(rows) >= 0).all()
    assert rows.min() >= 0
    assert rows.max() < len(labels)
    negative, positive = np.bincount(np.asarray(labels)[rows], minlength=2)
    assert min(negative, positive) > 0
    assert within_rounding(positive, negative, ratio) or min(negative, positive) == 1
    if name == "undersample":
        assert len(set(rows)) == len(rows)
    else:
        assert set(rows) == set(range(len(labels)))


def test_none_takes_every_row_even_of_one_class():
    rows, weights = resample("none", [1, 1, 1], np.random.default_rng(0))
    assert rows.tolist() == [0, 1, 2]
    assert weights == (1, 1)


def test_refusals():
    rng = np.random.default_rng(0)
    with pytest.raises(SettingsError, match="no balance 'smite'; known: none, oversample, undersample, weights"):
        resample("smite", [0, 1], rng)
    with pytest.raises(DataError, match=r"training rows are 3\+/0-; imbalance=weights needs both classes"):
        resample("weights", [1, 1, 1], rng)
    with pytest.raises(DataError, match="labels hold values other than 0 and 1"):
        resample("undersample", [0, 1, 2], rng)
    with pytest.raises(SettingsError, match="imbalance_ratio is 0; .* above 0"):
        resample("oversample", [0, 1], rng, 0)
    with pytest.raises(DataError, match=r"imbalance_ratio=0.001 asks for 1,999 more rows of 3; at most 11 times"):
        resample("oversample", [0, 1, 1], rng, 0.001)


# --- balance: images -------------------------------------------------------------------------------------------------


def world(negative, positive, others=7, seed=0):
    """Images whose first pixel is their number, those outside training not a number and without a label."""
    rng = np.random.default_rng(seed)
    count = negative + positive + others
    labels = np.full(count, np.nan, np.float32)
    rows = np.sort(rng.permutation(count)[: negative + positive])
    labels[rows] = rng.permutation([0] * negative + [1] * positive)
    images = rng.normal(size=(count, 2, 4, 3)).astype(np.float32)
    images[:, 0, 0, 0] = np.arange(count)
    images[np.setdiff1d(np.arange(count), rows)] = np.nan
    return images, labels, rows


def balanced(images, labels, rows, *, seed=0, targets=None, vary=np.copy, **chosen):
    return balance(
        images,
        labels,
        labels if targets is None else targets,
        rows,
        settings={**DEFAULTS, **chosen},
        rng=np.random.default_rng(seed),
        vary=vary,
    )


@given(st.integers(6, 30), st.integers(6, 30), RATIO, st.sampled_from(NAMES), st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_every_image_keeps_its_label_and_only_training_rows_are_used(negative, positive, ratio, name, seed):
    images, labels, rows = world(negative, positive, seed=seed)
    if name == "adasyn":  # it needs neighbours of the other class: one image of each class at every place
        places = np.resize(np.arange(min(negative, positive)), len(rows))
        images[rows[np.argsort(labels[rows])]] = places[:, None, None, None]
    before = images.copy(), labels.copy(), rows.copy()
    refusal = ""
    try:
        done = balanced(images, labels, rows, imbalance=name, imbalance_ratio=ratio, imbalance_neighbours=2, seed=seed)
    except DataError as error:
        refusal = str(error)
    if refusal:  # at every place more of the class that is short may stand than there are neighbours
        assert (name, "among its 2 neighbours" in refusal) == ("adasyn", True)
        return
    again = balanced(images, labels, rows, imbalance=name, imbalance_ratio=ratio, imbalance_neighbours=2, seed=seed)
    for kept, now in zip(before, (images, labels, rows), strict=True):
        np.testing.assert_array_equal(kept, now)
    for one, two in zip(vars(done).values(), vars(again).values(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert done.made.dtype == np.float32
    assert np.isfinite(done.made).all(), "a row outside training was used"
    beyond = done.rows >= len(images)
    assert set(done.rows[~beyond]) <= set(rows)
    assert beyond.sum() == len(done.made)
    taken = done.labels[done.rows]
    assert len(done.labels) == len(done.targets) == len(images) + len(done.made)
    np.testing.assert_array_equal(done.labels[: len(images)], labels)
    n, p = (taken == 0).sum(), (taken == 1).sum()
    if name in ("none", "weights"):
        assert (n, p) == (negative, positive)
    elif name != "adasyn":
        assert within_rounding(p, n, ratio)
    assert beyond.any() <= (name in MAKING)
    if name == "augmented" and beyond.any():
        sources = done.made[:, 0, 0, 0].astype(int)  # the copies tell where they come from
        np.testing.assert_array_equal(images[sources], done.made)
        np.testing.assert_array_equal(labels[sources], done.labels[len(images) :])
        times = np.bincount(sources, minlength=len(images))[rows[labels[rows] == done.labels[-1]]]
        assert times.max() - times.min() <= 1, "no image more than once more than another"


def test_what_is_made_is_augmented_and_nothing_else_is():
    images, labels, rows = world(20, 8)
    seen = []

    def vary(given):
        seen.append(given.copy())
        return given + 100

    done = balanced(images, labels, rows, imbalance="augmented", imbalance_ratio=1.5, vary=vary)
    np.testing.assert_array_equal(done.made, np.concatenate(seen) + 100)
    assert len(done.made) == 30 - 8
    assert (done.labels[len(images) :] == 1).all()


@pytest.mark.parametrize("name", MAKING)
def test_finer_classes_are_never_mixed(name):
    images, labels, rows = world(40, 18)
    targets = labels.copy()
    positives = rows[labels[rows] == 1]
    targets[positives[:6]], targets[positives[6:]] = 3, 4
    images[rows, 0, 0, 0] = 0
    side = np.where(targets == 3, 50, -50)
    side[rows[labels[rows] == 0][:20]] = 50  # negatives are around either of them
    images += side[:, None, None, None]
    done = balanced(images, labels, rows, targets=targets, imbalance=name, imbalance_neighbours=3)
    fresh = done.targets[len(images) :]
    assert np.array_equal(fresh == 3, done.made.mean(axis=(1, 2, 3)) > 0)
    assert np.bincount(fresh.astype(int))[3:].tolist() == pytest.approx(
        [22 / 3, 44 / 3], abs=3 if name == "adasyn" else 1
    )
    assert (done.labels[len(images) :] == 1).all()


def test_nothing_is_made_where_nothing_is_missing():
    images, labels, rows = world(10, 10)
    for name in MAKING:
        done = balanced(images, labels, rows, imbalance=name, imbalance_neighbours=50)
        assert done.made.shape == (0, 2, 4, 3)
        np.testing.assert_array_equal(done.rows, rows)


@pytest.mark.parametrize("name", MAKING)
def test_one_class_alone_is_refused(name):
    images, labels, rows = world(10, 0)
    with pytest.raises(DataError, match=rf"0\+/10-; imbalance={name} needs both classes. Try imbalance=none"):
        balanced(images, labels, rows, imbalance=name)
