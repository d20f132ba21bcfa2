import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from mammo_lightning.errors import SettingsError
from mammo_lightning.preprocessing.contrast import background, gcn


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 65536, (4, 1, 20, 30)).astype(np.uint16)


def test_gcn_has_zero_mean_and_unit_power_up_to_its_regularisation(images):
    result = gcn(images, scale=65535)
    assert np.abs(result.mean(axis=(1, 2, 3))).max() < 1e-5
    np.testing.assert_allclose(np.square(result).mean(axis=(1, 2, 3)), 1, atol=1e-5)
    levels = images.astype(float)
    power = levels.var(axis=(1, 2, 3))
    np.testing.assert_allclose(
        np.square(gcn(images, scale=65535, regularisation=1e8)).mean(axis=(1, 2, 3)), power / (power + 1e8), rtol=1e-4
    )


def test_gcn_of_two_depths_of_one_film_is_the_same(images):
    eight = (images // 257).astype(np.uint8) // 64
    sixteen = eight.astype(np.uint16) * 257
    np.testing.assert_allclose(gcn(eight, scale=255), gcn(sixteen, scale=65535), atol=1e-5)
    np.testing.assert_allclose(gcn(eight / 255, scale=1), gcn(sixteen, scale=65535), atol=1e-5)


def test_gcn_leaves_a_flat_image_at_zero():
    assert (gcn(np.full((1, 1, 5, 5), 300, np.uint16), scale=65535) == 0).all()
    assert (gcn(np.full((1, 1, 5, 5), 0.3, np.float32), regularisation=0) == 0).all()


def test_gcn_uses_each_image_alone(images):
    np.testing.assert_array_equal(gcn(images, scale=65535)[2:3], gcn(images[2:3], scale=65535))


@pytest.mark.parametrize("size", [2, 3, 15])
def test_background_subtracts_the_local_mean(size):
    images = np.random.default_rng(1).random((2, 3, 24, 31)).astype(np.float32)
    local = np.stack([[uniform_filter(plane, size, mode="reflect") for plane in image] for image in images])
    np.testing.assert_allclose(background(images, size=size), images - local, atol=1e-5)


@pytest.mark.parametrize("size", [1, 0, 7.5, "15"])
def test_background_refuses_no_box(size):
    with pytest.raises(SettingsError, match=r"background_size is .*; it must be a whole number of pixels, 2 or more"):
        background(np.zeros((1, 1, 8, 8), np.float32), size=size)
