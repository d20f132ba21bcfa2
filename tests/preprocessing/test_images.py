import io

import cv2
import numpy as np
import pytest

from mammo_lightning.errors import DataError
from mammo_lightning.preprocessing.images import read_image

RNG = np.random.default_rng(0)
GRAY8 = RNG.integers(0, 256, (50, 40)).astype(np.uint8)
GRAY16 = RNG.integers(0, 65536, (50, 40)).astype(np.uint16)
COLOUR8 = RNG.integers(0, 256, (50, 40, 3)).astype(np.uint8)
IMAGES = {
    "gray8": GRAY8,
    "gray16": GRAY16,
    "colour8": COLOUR8,
    "floats": RNG.random((50, 40)).astype(np.float32),
}
UNHELD = {".png": ["floats"], ".pgm": ["floats", "colour8"], ".jpg": ["floats", "gray16"]}


def holds(suffix, name):
    return name not in UNHELD.get(suffix, [])


def encoded(image, suffix):
    if suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, image)
        return buffer.getvalue()
    stored = image[..., ::-1] if image.ndim == 3 else image
    return cv2.imencode(suffix, stored)[1].tobytes()


@pytest.fixture
def write(tmp_path):
    def writer(data, suffix):
        path = tmp_path / f"image{suffix}"
        path.write_bytes(data)
        return path

    return writer


@pytest.mark.parametrize(
    ("suffix", "name"),
    [(suffix, name) for suffix in (".png", ".pgm", ".tif", ".TIFF", ".npy") for name in IMAGES if holds(suffix, name)],
)
def test_lossless_formats_come_back_as_they_were(write, suffix, name):
    image = IMAGES[name]
    result = read_image(write(encoded(image, suffix.lower()), suffix))
    assert result.dtype == image.dtype
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, image)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg"])
def test_jpeg_is_read_in_rgb_order(write, suffix):
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 250
    result = read_image(write(encoded(red, suffix), suffix))
    assert result[8, 8, 0] > 230
    assert result[8, 8, 2] < 20


def test_an_opaque_alpha_is_left_out_and_another_kept(write):
    alpha = np.dstack([COLOUR8, np.full((50, 40), 255, np.uint8)])
    swapped = alpha[..., [2, 1, 0, 3]]
    np.testing.assert_array_equal(read_image(write(cv2.imencode(".png", swapped)[1].tobytes(), ".png")), COLOUR8)
    swapped[0, 0, 3] = 0
    result = read_image(write(cv2.imencode(".png", swapped)[1].tobytes(), ".png"))
    assert result.shape == (50, 40, 4)
    np.testing.assert_array_equal(result[..., :3], COLOUR8)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize(
    ("suffix", "name"),
    [(suffix, name) for suffix in (".png", ".pgm", ".tif", ".jpg", ".npy") for name in IMAGES if holds(suffix, name)],
)
def test_a_truncated_file_is_refused_not_filled_in(write, suffix, name, share):
    data = encoded(IMAGES[name], suffix)
    path = write(data[: min(int(len(data) * share), len(data) - (8 if suffix == ".tif" else 1))], suffix)
    with pytest.raises(DataError, match=r"image\.\w+' .*cut short") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_a_jpeg_that_ends_in_its_thumbnail_is_cut_short(write):
    small, large = encoded(GRAY8, ".jpg"), encoded(COLOUR8, ".jpg")
    with_thumbnail = large[:2] + b"\xff\xe1" + (len(small) + 2).to_bytes(2, "big") + small + large[2:]
    assert read_image(write(with_thumbnail, ".jpg")).shape == (50, 40, 3)
    with pytest.raises(DataError, match="cut short"):
        read_image(write(with_thumbnail[: len(small) + 700], ".jpg"))


def test_damage_inside_a_png_is_refused(write):
    data = bytearray(encoded(GRAY8, ".png"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(DataError, match="cut short: its end is missing or damaged"):
        read_image(write(bytes(data), ".png"))


def test_gray_maps_plain_raw_and_of_twelve_bits(write):
    plain = b"P2\n# by hand\n3 2\n# top\n255\n" + b"0 1 2\n3 4 255\n"
    np.testing.assert_array_equal(read_image(write(plain, ".pgm")), [[0, 1, 2], [3, 4, 255]])
    twelve = b"P5 3 1 4095\n" + np.array([0, 2048, 4095], ">u2").tobytes()
    result = read_image(write(twelve, ".pgm"))
    assert result.dtype == np.uint16
    assert result.tolist() == [[0, 32776, 65535]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"P2 3 1 255\n1 2", "holds 2 of 3 pixels: it is cut short"),
        (b"P5 3 1 255\n\x01\x02", "holds 2 of 3 pixels: it is cut short"),
        (b"P5 1 1 70000\n\x01\x02", "states a maximum of 70000"),
        (b"P5 2 1 100\n\x01\x65", "holds a value of 101, and states 0 to 100 as its range"),
        (b"P5 0 1 255\n", "has shape"),
    ],
)
def test_broken_gray_maps(write, data, message):
    with pytest.raises(DataError, match=message):
        read_image(write(data, ".pgm"))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4), bool), "holds bool; expected uint8, uint16 or floats"),
        (np.zeros((4, 4), np.int32), "holds int32"),
        (np.full((4, 4), 2.0), r"holds values from 2 to 2; floats must be in \[0, 1\]"),
        (np.full((4, 4), -0.1), r"floats must be in \[0, 1\]"),
        (np.full((4, 4), np.nan), "holds NaN or infinite"),
        (np.full((4, 4), np.inf), "holds NaN or infinite"),
        (np.zeros((4, 4, 5), np.uint8), "has 5 channels; expected 4 at most"),
        (np.zeros((2, 4, 4, 1), np.uint8), r"has shape \(2, 4, 4, 1\)"),
        (np.zeros((0, 4), np.uint8), r"has shape \(0, 4\)"),
        (np.zeros(4, np.uint8), r"has shape \(4,\)"),
    ],
)
def test_arrays_that_are_no_image(write, array, message):
    with pytest.raises(DataError, match=message):
        read_image(write(encoded(array, ".npy"), ".npy"))


def test_arrays_that_are(write):
    assert read_image(write(encoded(np.full((4, 4), 0.5), ".npy"), ".npy")).dtype == np.float32
    assert read_image(write(encoded(GRAY8[..., None], ".npy"), ".npy")).shape == (50, 40)
    big = read_image(write(encoded(GRAY16.astype(">u2"), ".npy"), ".npy"))
    assert big.dtype == np.dtype("=u2")
    np.testing.assert_array_equal(big, GRAY16)
    assert read_image(write(encoded(np.full((4, 4), 3, np.uint8), ".npy"), ".npy")).std() == 0


def test_a_tiff_of_two_pages_is_refused(write, tmp_path):
    path = tmp_path / "pages.tif"
    cv2.imwritemulti(str(path), [GRAY8, GRAY8])
    with pytest.raises(DataError, match=r"pages.tif' holds more than one page"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".pgm", ".tif", ".jpg", ".npy", ".dcm"])
def test_empty_and_foreign_files(write, suffix):
    with pytest.raises(DataError, match=r"image\.\w+' is an empty file"):
        read_image(write(b"", suffix))
    with pytest.raises(DataError, match=r"image\.\w+' (cannot be decoded|is cut short or no plain|is not a DICOM)"):
        read_image(write(b"<html>404 not found</html>" * 10, suffix))


def test_an_array_of_objects_is_not_unpickled(write):
    with pytest.raises(DataError, match="no plain NumPy array"):
        read_image(write(encoded(np.array([{}]), ".npy"), ".npy"))


def test_missing_file_and_unknown_suffix(tmp_path):
    with pytest.raises(DataError, match=r"none.png' cannot be opened \(No such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(DataError, match=r"note.txt' is no image that can be read; expected .png, .pgm"):
        read_image(tmp_path / "note.txt")
