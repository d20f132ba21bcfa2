import numpy as np
import pytest
import pywt
from numpy.testing import assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mammo_lightning.datamodules import phantom

FRAME = ["patient", "view", "patch", "label", "source", "density", "lesion", "contrast"]


@pytest.fixture(scope="module")
def world():
    return phantom.generate(5, 0, 1600)


def slope(fields):
    """Fall of the radially averaged power between 3 and 20 cycles a field, on logarithmic axes."""
    side = fields.shape[-1]
    window = np.hanning(side)[:, None] * np.hanning(side)
    centred = (fields - fields.mean((1, 2), keepdims=True)) * window
    power = (np.abs(np.fft.fft2(centred)) ** 2).mean(0)
    cycles = np.rint(np.hypot(*np.meshgrid(*2 * [np.fft.fftfreq(side, 1 / side)]))).astype(int)
    rings = np.arange(3, 21)
    return -np.polyfit(np.log(rings), np.log([power[cycles == ring].mean() for ring in rings]), 1)[0]


def linear_features(images):
    grey = images.astype(np.float32) / 65535
    found = [grey.mean((1, 2)), grey.std((1, 2)), *np.quantile(grey.reshape(len(grey), -1), (0.05, 0.5, 0.95), axis=1)]
    for level in pywt.wavedec2(grey, "sym3", level=3, axes=(1, 2))[1:]:
        for detail in level:
            size = np.abs(detail)
            found += [np.log(part + 1e-6) for part in (size.mean((1, 2)), detail.std((1, 2)), size.max((1, 2)))]
    return np.stack(found, axis=1)


@pytest.mark.parametrize("exponent", [2.0, 3.0, 4.0])
def test_power_law_has_its_exponent(exponent):
    flat = np.zeros(60)
    fields = phantom.power_law(np.random.default_rng(0), flat + exponent, flat, flat)
    assert slope(fields[:, 8:72, 8:72]) == pytest.approx(exponent, abs=0.2)
    assert fields.std() == pytest.approx(1.0, abs=0.1)


def test_stretch_makes_structures_longer_in_one_direction():
    flat = np.zeros(40)
    fields = phantom.power_law(np.random.default_rng(0), flat + 3, flat + 0.7, flat)
    assert np.abs(np.diff(fields, axis=2)).mean() < 0.9 * np.abs(np.diff(fields, axis=1)).mean()


def test_patches_have_the_texture_of_breast_tissue(world):
    images, frame = world
    normal = images[(frame["label"] == 0) & (frame["source"] == "digital")][:1000].astype(float)
    assert slope(normal) == pytest.approx(phantom.EXPONENT, abs=0.4)


def test_bags_and_prevalence(world):
    images, frame = world
    assert images.dtype == np.uint16
    assert images.shape == (6400, phantom.SIDE, phantom.SIDE)
    assert list(frame.columns) == FRAME
    assert (frame.groupby(["patient", "view"]).size() == 2).all()
    assert (frame.groupby("patient").size() == 4).all()
    positive = frame.groupby(["patient", "view"])["label"].sum().unstack()
    assert_array_equal(positive["CC"], positive["MLO"])
    assert positive["CC"].max() == 1
    assert positive["CC"].mean() == pytest.approx(0.25, abs=0.04)
    assert (frame["lesion"] == "none").eq(frame["label"] == 0).all()
    assert set(frame["lesion"]) == set(phantom.LESIONS)
    assert set(frame["density"]) == set(phantom.DENSITIES)
    assert (frame.groupby("patient")[["source", "density"]].nunique() == 1).all(axis=None)


def test_images_use_the_range_and_are_not_clipped(world):
    images = world[0]
    assert images.min() < 10_000
    assert images.max() > 55_000
    assert ((images == 0) | (images == 65535)).mean() < 0.001


def test_contrast_is_continuous(world):
    contrast = world[1].loc[world[1]["label"] == 1, "contrast"]
    assert contrast.nunique() == len(contrast)
    assert contrast.quantile(0.05) < 1.2
    assert contrast.quantile(0.95) > 5
    assert (world[1].loc[world[1]["label"] == 0, "contrast"] == 0).all()


def test_views_of_a_patient_are_alike(world):
    images, frame = world
    # patches share tissue within a view; what two views share is the patient
    bright = frame.assign(mean=images.mean((1, 2)))
    views = bright.pivot_table(index="patient", columns="view", values="mean")
    assert np.corrcoef(views["CC"], views["MLO"])[0, 1] > 0.6


def test_same_seed_same_pixels_however_many_are_asked_for():
    few, names = phantom.generate(3, 0, 5)
    many, more = phantom.generate(3, 0, 70)
    middle, part = phantom.generate(3, 30, 7)
    assert_array_equal(few, many[:20])
    assert_array_equal(middle, many[120:148])
    assert names.equals(more[:20])
    assert part.equals(more[120:148].reset_index(drop=True))
    assert len(phantom.generate(3, 0, 0)[0]) == 0


def test_seeds_and_streams_share_nothing():
    ways = [phantom.generate(seed, 0, 4, stream=stream)[0] for seed, stream in [(0, 0), (0, 1), (1, 0), (2**32, 0)]]
    for i, one in enumerate(ways):
        for other in ways[:i]:
            assert np.abs(one.astype(int) - other).mean() > 1000


def test_lesions_stand_in_positive_patches_only():
    with_lesions, frame = phantom.generate(7, 0, 128)
    without, same = phantom.generate(7, 0, 128, lesions=False)
    assert frame.equals(same)
    changed = (with_lesions != without).any((1, 2))
    assert_array_equal(changed, frame["label"] == 1)
    # attenuating: a lesion is never darker than what it hides
    assert (with_lesions[changed].mean((1, 2)) > without[changed].mean((1, 2))).all()


def test_a_round_mass_covers_more_than_specks():
    with_lesions, frame = phantom.generate(7, 0, 300)
    without, _ = phantom.generate(7, 0, 300, lesions=False)
    gained = with_lesions.astype(float) - without
    gained /= gained.max((1, 2), keepdims=True) + 1
    covered = (gained > 0.4).mean((1, 2))
    assert np.median(covered[frame["lesion"] == "round"]) > 0.1
    assert np.median(covered[frame["lesion"] == "calcification"]) < 0.03


def test_masses_fade_in_dense_breasts():
    frame = phantom.generate(11, 0, 1600)[1]
    masses = frame[frame["lesion"].isin(["round", "spiculated"])].groupby("density")["contrast"].median()
    assert masses["D"] < masses["B"] < masses["A"]


def test_brightness_alone_does_not_tell(world):
    images, frame = world
    auc = roc_auc_score(frame["label"], images.mean((1, 2)))
    assert 0.45 < auc < 0.65


def test_no_column_tells(world):
    frame = world[1]
    for column in ("source", "density", "view", "patch"):
        rates = frame.groupby(column)["label"].mean()
        assert roc_auc_score(frame["label"], frame[column].map(rates)) < 0.6


def test_linear_features_tell_something_but_not_all(world):
    images, frame = world
    features, labels = linear_features(images), frame["label"]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features[:3200], labels[:3200])
    auc = roc_auc_score(labels[3200:], model.predict_proba(features[3200:])[:, 1])
    assert 0.65 < auc < 0.95


def test_source_follows_label_when_asked():
    frame = phantom.generate(0, 0, 320, source_follows_label=True)[1]
    assert ((frame["source"] == "film") == (frame["label"] == 1)).mean() == pytest.approx(0.97, abs=0.02)
