import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from mammo_lightning.datamodules import phantom, synthetic
from mammo_lightning.datamodules.synthetic import Synthetic, fresh
from mammo_lightning.errors import SettingsError
from mammo_lightning.registry import DATASETS


def pixels(data):
    frame = data.index()
    return np.stack([data.read(row) for _, row in frame.iterrows()]), frame


@pytest.fixture(scope="module")
def clean():
    return pixels(Synthetic(patients=120, seed=4))


def test_registered_as_the_embedded_dataset():
    data = DATASETS.get("synthetic")()
    assert isinstance(data, Synthetic)
    assert (data.patients, data.synthetic, data.sampling) == (240, True, "exhaustive")
    assert data.classes == ("normal", "lesion")


def test_index(clean):
    images, frame = clean
    assert images.shape == (480, 64, 64)
    assert frame["image"].is_unique
    assert frame["image"][0] == "p0000_CC_1"
    assert (frame.groupby("split")["patient"].nunique() == pd.Series({"test": 30, "train": 90})).all()
    assert (frame.groupby("patient")["split"].nunique() == 1).all()
    assert set(frame["subtlety"]) == {"none", *synthetic.SUBTLETIES}
    assert set(Synthetic.answers) < set(frame.columns)
    assert len(np.unique(images.reshape(480, -1), axis=0)) == 480


def test_decoded_by_the_base_class(tmp_path, clean):
    data = Synthetic(patients=120, seed=4, mlruns=tmp_path)
    data.setup()
    assert data.images.shape == (480, 1, 64, 64)
    assert data.scale == 65535
    assert_array_equal(data.images[:, 0], clean[0])
    assert list(data.frame["group"]) == list(data.frame["patient"])


def test_more_patients_leave_the_first_as_they_are(clean):
    images, frame = pixels(Synthetic(patients=40, seed=4))
    assert_array_equal(images, clean[0][:160])
    assert frame.equals(clean[1][:160])


def test_contents_follow_every_option():
    ways = [{}, {"patients": 100}, {"seed": 1}, {"trap": "patient"}]
    row = pd.DataFrame({"image": ["p0000_CC_1"]})
    assert len({Synthetic(**way).contents(row)[0] for way in ways}) == len(ways)
    assert Synthetic().contents(row) == Synthetic().contents(row)


def test_fresh_patients_are_not_those_of_the_dataset(clean):
    parts = list(fresh(4, 70, chunk=30))
    assert [len(images) for images, _, _ in parts] == [120, 120, 40]
    images = np.concatenate([images for images, _, _ in parts])
    frame = pd.concat([frame for _, _, frame in parts])
    assert_array_equal(np.concatenate([labels for _, labels, _ in parts]), frame["label"])
    assert frame["image"].is_unique
    assert_array_equal(images, next(fresh(4, 70))[0])
    assert not {image.tobytes() for image in images} & {image.tobytes() for image in clean[0]}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"trap": "colour"}, r"no trap 'colour'; known: duplicate, label-noise, patient, source$"),
        ({"patients": 3}, "patients=3 is too few.*20 or more"),
        ({"seed": -1}, "seed=-1 is negative"),
    ],
)
def test_bad_options(options, match):
    with pytest.raises(SettingsError, match=match):
        Synthetic(**options)


def test_fresh_refuses_a_negative_seed():
    with pytest.raises(SettingsError, match="seed=-1 is negative"):
        next(fresh(-1, 10))


def test_trap_patient_moves_views_and_nothing_else(clean):
    images, frame = pixels(Synthetic(patients=120, seed=4, trap="patient"))
    torn = frame.groupby("patient")["split"].nunique() > 1
    assert list(torn.index[torn]) == ["p0003", "p0023", "p0043", "p0063", "p0083", "p0103"]
    assert_array_equal(images, clean[0])
    assert frame.drop(columns="split").equals(clean[1].drop(columns="split"))


def test_trap_source_is_in_name_column_and_pixels(clean):
    images, frame = pixels(Synthetic(patients=120, seed=4, trap="source"))
    assert ((frame["source"] == "film") == (frame["label"] == 1)).mean() > 0.93
    assert (frame["image"] == frame["source"] + "_" + clean[1]["image"]).all()
    kept = ["patient", "view", "split", "label", "density", "lesion_type"]
    assert frame[kept].equals(clean[1][kept])
    same = (images == clean[0]).all((1, 2))
    assert_array_equal(same, frame["source"] == clean[1]["source"])


def test_trap_duplicate_copies_normal_patches_between_patients(clean):
    images, frame = pixels(Synthetic(patients=120, seed=4, trap="duplicate"))
    assert frame.equals(clean[1])
    changed = (images != clean[0]).any((1, 2))
    assert changed.sum() == 12
    twins = frame.assign(pixels=[image.tobytes() for image in images]).groupby("pixels")
    twins = twins.agg(images=("image", "size"), patients=("patient", "nunique"), splits=("split", "nunique"),
                      labels=("label", "max"))  # fmt: skip
    twins = twins[twins["images"] > 1]
    assert (twins[["images", "patients"]] == 2).all(axis=None)
    assert (twins["labels"] == 0).all()
    assert list(twins["splits"].value_counts().sort_index()) == [6, 6]


def test_trap_label_noise_shows_in_repeated_images(clean):
    images, frame = pixels(Synthetic(patients=480, seed=4, trap="label-noise"))
    truth = pixels(Synthetic(patients=480, seed=4))[1]
    turned = frame["label"] != truth["label"]
    assert (frame.loc[turned, "split"] == "train").all()
    assert turned[frame["split"] == "train"].mean() == pytest.approx(synthetic.NOISE, abs=0.001)
    assert (frame["lesion_type"] == "none").eq(frame["label"] == 0).all()
    assert (frame["subtlety"] == "none").eq(frame["label"] == 0).all()
    twins = frame.assign(pixels=[image.tobytes() for image in images]).groupby("pixels")
    twins = twins.agg(images=("image", "size"), patients=("patient", "nunique"), labels=("label", "nunique"))
    twins = twins[twins["images"] > 1]
    assert (twins["patients"] == 1).all()
    assert 60 < len(twins) < 120
    assert (twins["labels"] == 2).mean() == pytest.approx(2 * 0.15 * 0.85, abs=0.12)


def test_every_trap_is_planted_in_the_default_size():
    plain = Synthetic().index()
    for trap in synthetic.TRAPS:
        images, frame = pixels(Synthetic(trap=trap))
        assert len(images) == len(plain)
        assert not frame.equals(plain) or len({image.tobytes() for image in images}) < len(images)


def test_phantom_is_not_a_dataset():
    assert "phantom" not in DATASETS.names()
    assert phantom.PIXEL_MM == Synthetic.spacing_mm
