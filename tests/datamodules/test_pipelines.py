import cv2
import numpy as np
import pytest

from mammo_lightning.datamodules.pipelines import DRAWS, GUTTER, HEAD, LABEL, MARGIN, SHOWN, TILE, png
from mammo_lightning.preprocessing.augment import NAMES


def drawn(channels, scale=255.0, **how):
    rng = np.random.default_rng(0)
    images = (rng.random((9, channels, 24, 24)) * scale).astype({255.0: np.uint8, 65535.0: np.uint16}[scale])
    images[:, :, :8, :12] = 0
    page = png(images, scale=scale, title="some", **how)
    return cv2.imdecode(np.frombuffer(page, np.uint8), cv2.IMREAD_COLOR), page


def tiles(page, row, wide):
    top, left = HEAD + row * (TILE + GUTTER), MARGIN + LABEL
    starts = [left + place * (wide + GUTTER) + GUTTER * bool(place) for place in range(1 + DRAWS)]
    return [page[top : top + TILE, start : start + wide].astype(int) for start in starts]


@pytest.mark.parametrize(("channels", "scale"), [(1, 255.0), (1, 65535.0), (2, 255.0), (3, 255.0)])
def test_every_augmentation_has_a_row_that_begins_with_the_image(channels, scale):
    assert set(SHOWN) == set(NAMES) - {"none"}
    page, _ = drawn(channels, scale)
    wide = (24 + 1 + 24) * TILE // 24 if channels == 2 else TILE
    assert page.shape[0] == HEAD + len(SHOWN) * (TILE + GUTTER) + MARGIN
    first = tiles(page, 0, wide)[0]
    assert np.ptp(first) > 150
    for row in range(len(SHOWN)):
        image, *draws = tiles(page, row, wide)
        np.testing.assert_array_equal(image, first)
        name = page[HEAD + row * (TILE + GUTTER) :][:TILE, MARGIN : MARGIN + LABEL]
        assert np.ptp(name.astype(int)) > 200
        assert all(np.abs(draw - image).mean() > 1 for draw in draws)
    assert (np.ptp(first, axis=2).max() > 20) == (channels == 3)


def test_the_same_images_give_the_same_picture_and_generated_ones_are_stamped():
    assert drawn(1)[1] == drawn(1)[1]
    assert drawn(1)[1] != drawn(1, seed=1)[1]
    stamped, plain = drawn(1, synthetic=True)[0].astype(int), drawn(1)[0].astype(int)
    assert (np.ptp(stamped, axis=2) > 20).mean() > 0.02 > (np.ptp(plain, axis=2) > 20).mean()
