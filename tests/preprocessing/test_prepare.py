import numpy as np
import pytest

from mammo_lightning.errors import DataError, SettingsError
from mammo_lightning.preprocessing import prepare as module
from mammo_lightning.preprocessing.prepare import DEFAULTS, NAMES, prepare


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 65536, (5, 3, 24, 24)).astype(np.uint16)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_gives_new_float32_of_the_same_shape_and_uses_no_other_image(images, name):
    before = images.copy()
    result = prepare(images, 65535, {**DEFAULTS, "preprocessing": name, "learning_rate": 1})
    assert result.dtype == np.float32
    assert result.shape == images.shape
    assert np.isfinite(result).all()
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(prepare(images[3:4], 65535, {"preprocessing": name}), result[3:4])


def test_none_is_division_by_the_scale(images):
    np.testing.assert_allclose(prepare(images, 65535, {}), images / 65535, atol=1e-7)
    floats = np.random.default_rng(1).random((2, 1, 4, 4)).astype(np.float32)
    result = prepare(floats, 1.0, DEFAULTS)
    np.testing.assert_array_equal(result, floats)
    assert not np.shares_memory(result, floats)


def test_the_transforms_differ_and_obey_their_settings(images):
    results = [prepare(images, 65535, {"preprocessing": name}) for name in NAMES]
    assert all(not np.allclose(a, b) for i, a in enumerate(results) for b in results[:i])
    for key, value in {"wavelet": "haar", "wavelet_threshold": 0.5}.items():
        assert not np.allclose(prepare(images, 65535, {"preprocessing": "wavelet", key: value}), results[1])
    assert not np.allclose(prepare(images, 65535, {"preprocessing": "background", "background_size": 5}), results[3])


def test_chunks_change_nothing(images, monkeypatch):
    whole = prepare(images, 65535, {"preprocessing": "wavelet"})
    monkeypatch.setattr(module, "_CHUNK_PIXELS", 2 * 3 * 24 * 24)
    np.testing.assert_array_equal(prepare(images, 65535, {"preprocessing": "wavelet"}), whole)


def test_refusals(images):
    with pytest.raises(SettingsError, match="no preprocessing 'clahe'; known: background, gcn, none, wavelet"):
        prepare(images, 65535, {"preprocessing": "clahe"})
    with pytest.raises(DataError, match=r"images have shape \(24, 24\); expected number x channels"):
        prepare(images[0, 0], 65535, {})
