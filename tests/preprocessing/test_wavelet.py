import numpy as np
import pytest
import pywt

from mammo_lightning.errors import SettingsError
from mammo_lightning.preprocessing.wavelet import eight_bit, wavelet_filter


@pytest.fixture
def images():
    return np.random.default_rng(0).random((3, 2, 60, 60)).astype(np.float32)


@pytest.mark.parametrize("wavelet", ["sym3", "haar"])
@pytest.mark.parametrize("size", [(60, 60), (61, 47), (9, 5)])
def test_without_threshold_and_with_approximation_it_is_the_identity(wavelet, size):
    images = np.random.default_rng(1).random((2, 1, *size))
    result = wavelet_filter(images, wavelet=wavelet, threshold=0, keep_approximation=True)
    np.testing.assert_allclose(result, images, atol=1e-9)


@pytest.mark.parametrize("wavelet", ["sym3", "haar"])
def test_without_approximation_the_mean_is_near_zero(images, wavelet):
    result = wavelet_filter(images + 5, wavelet=wavelet)
    assert result.shape == images.shape
    assert np.abs(result.mean(axis=(2, 3))).max() < 0.02
    assert result.std() > 0.05


def test_it_is_what_pywavelets_gives_step_by_step(images):
    plane = images[1, 1].astype(float)
    approximation, *levels = pywt.wavedec2(plane, "sym3", mode="symmetric", level=3)
    kept = [np.zeros_like(approximation)]
    for bands in levels:
        limit = 1.5 * np.concatenate([band.ravel() for band in bands]).std(ddof=1)
        kept.append(tuple(np.where(np.abs(band) < limit, 0, band) for band in bands))
    expected = pywt.waverec2(kept, "sym3", mode="symmetric")
    np.testing.assert_allclose(wavelet_filter(images.astype(float))[1, 1], expected, atol=1e-12)


def test_coefficient_shapes_of_the_specification():
    for wavelet, shapes in {"sym3": (11, 11, 18, 32), "haar": (8, 8, 15, 30)}.items():
        approximation, *details = pywt.wavedec2(np.zeros((60, 60)), wavelet, mode="symmetric", level=3)
        assert (len(approximation), *(len(bands[0]) for bands in details)) == shapes


def test_drop_level1_leaves_no_finest_detail(images):
    result = wavelet_filter(images, threshold=0, drop_level1=True, wavelet="haar", keep_approximation=True)
    assert np.abs(pywt.dwt2(result, "haar", mode="symmetric", axes=(-2, -1))[1]).max() < 1e-5
    assert np.abs(result - images).max() > 0.1


def test_a_larger_threshold_keeps_less(images):
    power = [float(np.square(wavelet_filter(images, threshold=q)).sum()) for q in (0, 1.5, 3)]
    assert power[0] > power[1] > power[2]


def test_images_do_not_know_of_each_other(images):
    together = eight_bit(wavelet_filter(images))
    np.testing.assert_allclose(eight_bit(wavelet_filter(images[2:] * 3)), together[2:], atol=1.01 / 255)


def test_eight_bit_spans_zero_to_one_in_256_steps(images):
    images[0] = 7
    result = eight_bit(images)
    assert (result[0] == 0).all()
    assert result[1].min() == 0
    assert result[1].max() == 1
    np.testing.assert_allclose(result * 255, np.rint(result * 255), atol=1e-4)


def test_refusals(images):
    with pytest.raises(SettingsError, match="no wavelet 'db9'; known: haar, sym3"):
        wavelet_filter(images, wavelet="db9")
    with pytest.raises(SettingsError, match="wavelet_threshold is -1; it must be 0 or more"):
        wavelet_filter(images, threshold=-1)
