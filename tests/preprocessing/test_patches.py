import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammo_lightning.errors import DataError
from mammo_lightning.preprocessing.patches import Box, field_side, squared, tiles

IMAGE = np.arange(1, 36).reshape(5, 7)
whole = st.integers(-20, 20)
boxes = st.builds(Box, whole, whole, st.integers(1, 20), st.integers(1, 20))


@given(boxes)
def test_a_box_holds_the_pixels_of_its_place_and_zeros_beside_the_image(box):
    found = box.of(IMAGE)
    assert found.shape == (box.height, box.width)
    for row in range(box.height):
        for column in range(box.width):
            y, x = box.y + row, box.x + column
            expected = IMAGE[y, x] if 0 <= y < 5 and 0 <= x < 7 else 0
            assert found[row, column] == expected


@given(boxes)
def test_a_box_comes_back_from_its_text_and_mirrors_with_the_image(box):
    assert Box.parse(str(box)) == box
    np.testing.assert_array_equal(box.mirrored(7).of(IMAGE[:, ::-1]), box.of(IMAGE)[:, ::-1])
    assert box.mirrored(7).mirrored(7) == box


@given(boxes)
def test_a_box_is_shifted_into_the_image_where_it_fits(box):
    moved = box.shifted_into(IMAGE.shape)
    assert moved.inside(IMAGE.shape) == (box.width <= 7 and box.height <= 5)
    assert moved == box or not box.inside(IMAGE.shape)


@given(boxes, boxes)
def test_boxes_overlap_where_they_share_a_pixel(one, other):
    shared = {(x, y) for x in range(one.x, one.x + one.width) for y in range(one.y, one.y + one.height)}
    shared &= {(x, y) for x in range(other.x, other.x + other.width) for y in range(other.y, other.y + other.height)}
    assert one.overlaps(other) == bool(shared)


def test_colour_keeps_its_channels():
    assert Box(-1, 0, 3, 2).of(np.ones((4, 4, 3), np.uint8)).shape == (2, 3, 3)
    assert squared(np.ones((4, 2, 3), np.uint8)).shape == (4, 4, 3)


def test_the_upper_left_corner_of_a_padded_image_stays():
    np.testing.assert_array_equal(squared(IMAGE)[:5, :7], IMAGE)
    assert squared(IMAGE).shape == (7, 7)
    assert squared(IMAGE)[5:].sum() == 0
    assert squared(IMAGE[:, :5]) is not None
    assert squared(IMAGE[:, :5]).shape == (5, 5)


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1.5,2,3,4", "nan,0,1,1"])
def test_a_text_that_is_no_box_is_refused(text):
    with pytest.raises(DataError, match="is not understood; write x,y,width,height"):
        Box.parse(text)


@pytest.mark.parametrize("text", ["1,2,0,4", "1,2,3,-4"])
def test_an_empty_box_is_refused(text):
    with pytest.raises(DataError, match="is empty; width and height must be 1 or more"):
        Box.parse(text)


def test_fields_are_of_millimetres():
    assert field_side(40, 0.2) == 200
    assert field_side(0.01, 0.2) == 1
    assert Box.centred(10, 20, 6) == Box(7, 17, 6, 6)
    for spacing in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(DataError, match="the spacing must be above 0 mm"):
            field_side(40, spacing)


def test_tiles_cover_every_pixel_once():
    seen = np.zeros(IMAGE.shape, int)
    for tile in tiles(IMAGE.shape, 3):
        seen[tile.y : tile.y + 3, tile.x : tile.x + 3] += 1
    assert (seen == 1).all()
