import warnings

import numpy as np
import pytest

from mammo_lightning.errors import DataError, SettingsError
from mammo_lightning.imbalance.synthesis import interpolated, varied


def scattered(members, others, seed=0, shape=(2, 5, 4)):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(members + others, *shape)).astype(np.float32)
    places = rng.permutation(members + others)
    return images, np.sort(places[:members]), np.sort(places[members:])


def on_segments(points, ends, neighbours):
    """For each point the pair (start, one of its nearest) on whose segment it lies; fails if there is none."""
    flat = ends.reshape(len(ends), -1).astype(float)
    distance = ((flat[:, None] - flat[None]) ** 2).sum(-1)
    np.fill_diagonal(distance, np.inf)
    near = np.argsort(distance, axis=1)[:, :neighbours]
    found = []
    for point in points.reshape(len(points), -1).astype(float):
        for start in range(len(flat)):
            along = flat[near[start]] - flat[start]
            share = ((point - flat[start]) * along).sum(1) / (along**2).sum(1)
            off = np.abs(flat[start] + share[:, None] * along - point).max(1)
            good = np.flatnonzero((off < 1e-5) & (share > -1e-6) & (share < 1 + 1e-6))
            if len(good):
                found.append((start, int(near[start][good[0]])))
                break
        else:
            pytest.fail("a point lies on no segment between an image and one of its neighbours")
    return found


@pytest.mark.parametrize("strategy", ["smote", "adasyn"])
@pytest.mark.parametrize("seed", range(3))
def test_points_lie_between_an_image_and_one_of_its_neighbours(strategy, seed):
    images, rows, others = scattered(14, 40, seed)
    rng = np.random.default_rng(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = interpolated(strategy, images, rows, others, 60, neighbours=4, rng=rng)
    assert made.shape[1:] == images.shape[1:]
    assert made.dtype == np.float32
    assert len(made) == 60 if strategy == "smote" else abs(len(made) - 60) <= 7
    pairs = on_segments(made, images[rows], 4)
    assert len(set(pairs)) > 20


@pytest.mark.parametrize("strategy", ["smote", "adasyn"])
def test_the_draws_are_those_of_imbalanced_learn_on_all_rows_and_follow_the_seed(strategy):
    from imblearn.over_sampling import ADASYN, SMOTE

    images, rows, others = scattered(12, 30)
    seed = int(np.random.default_rng(4).integers(2**31 - 1))
    taken = np.concatenate([rows, others])
    labels = np.repeat([1, 0], [12, 30])
    how = {"sampling_strategy": {1: 30}, "random_state": seed}
    peer = SMOTE(k_neighbors=3, **how) if strategy == "smote" else ADASYN(n_neighbors=3, **how)
    expected = peer.fit_resample(images[taken].reshape(42, -1), labels)[0][42:]
    made, again, other = (
        interpolated(strategy, images, rows, others, 18, neighbours=3, rng=np.random.default_rng(of))
        for of in (4, 4, 5)
    )
    np.testing.assert_array_equal(made.reshape(len(made), -1), expected)
    np.testing.assert_array_equal(made, again)
    assert made.shape != other.shape or not np.array_equal(made, other)


def test_adasyn_makes_more_where_neighbours_are_of_the_other_class():
    rng = np.random.default_rng(0)
    images = rng.normal(scale=0.5, size=(120, 1, 2, 2)).astype(np.float32)
    images[:20] += 100  # half of the class lies apart, where nobody else is
    rows, others = np.arange(40), np.arange(40, 120)
    apart = {
        name: (interpolated(name, images, rows, others, 40, neighbours=5, rng=np.random.default_rng(1)) > 50).mean()
        for name in ("smote", "adasyn")
    }
    assert apart["adasyn"] == 0
    assert 0.3 < apart["smote"] < 0.7


def test_the_images_given_stay_as_they_are():
    images, rows, others = scattered(10, 20)
    images.flags.writeable = False
    made = interpolated("smote", images, rows, others, 5, neighbours=3, rng=np.random.default_rng(0))
    assert made.base is None or made.base.nbytes == made.nbytes, "the real images are not held with them"
    varied(images, rows, 12, vary=np.copy, rng=np.random.default_rng(0))


def test_adasyn_makes_none_where_less_than_half_an_image_falls_to_each():
    images, rows, others = scattered(30, 40)
    made = interpolated("adasyn", images, rows, others, 2, neighbours=5, rng=np.random.default_rng(0))
    assert made.shape == (0, 2, 5, 4)


def test_refusals():
    images, rows, others = scattered(5, 20)
    rng = np.random.default_rng(0)
    for name in ("smote", "adasyn"):
        with pytest.raises(DataError, match=rf"^5 training images .*={name} .* 6 or more\. Set imbalance_neighbours=4"):
            interpolated(name, images, rows, others, 4, neighbours=5, rng=rng)
        with pytest.raises(DataError, match=r"needs 6 or more\. Set imbalance=oversample\.$"):
            interpolated(name, images, rows[:1], others, 4, neighbours=5, rng=rng)
    images[rows] += 1000
    with pytest.raises(DataError, match="none of the 5 training images .* Set imbalance=smote"):
        interpolated("adasyn", images, rows, others, 9, neighbours=3, rng=rng)
    with pytest.raises(SettingsError, match="no interpolation 'mixup'; known: adasyn, smote"):
        interpolated("mixup", images, rows, others, 9, neighbours=3, rng=rng)
