import cv2
import numpy as np
import pytest
from dicoms import breast

from mammo_lightning.errors import DataError
from mammo_lightning.preprocessing.breast import bounds, breast_mask, standing, stretched, wall_side

HEIGHT, WIDTH = 640, 512
Y, X = np.mgrid[:HEIGHT, :WIDTH]
INSIDE = ((Y - 320) / 280) ** 2 + (X / 360) ** 2 < 1


def drawn(*, fat=600, gland=2600, ground=0, noise=20, skin=0, label=False, seed=0):
    """A left breast: fat around gland, perhaps a skin line and a bright label; the tissue is `INSIDE`."""
    rng = np.random.default_rng(seed)
    image = np.full((HEIGHT, WIDTH), float(ground))
    image[INSIDE] = fat
    image[((Y - 320) / 150) ** 2 + ((X - 120) / 130) ** 2 < 1] = gland
    if skin:
        edge = INSIDE & ~cv2.erode(INSIDE.astype(np.uint8), np.ones((9, 9)), borderValue=1).astype(bool)
        image[edge] = skin
    image = np.maximum(cv2.GaussianBlur(image, (0, 0), 2) + rng.normal(0, noise, image.shape), 0)
    image[~INSIDE] *= ground > 0 or skin > 0
    if label:
        image[30:130, 400:490] = 4095
        for row, text in enumerate(("L", "CC")):
            written(image, text, (410, 70 + 45 * row), 1.3, 0)
            written(image, f"{text} 07-11", (330, 570 + 40 * row), 1.0, 4095)
    return np.clip(image, 0, 4095).astype(np.uint16)


def written(image, text, place, size, value):
    ink = np.zeros(image.shape, np.uint8)
    cv2.putText(ink, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, 255, 4)
    image[ink > 127] = value


def agreement(mask, truth):
    return (mask & truth).sum() / (mask | truth).sum()


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"label": True},
        {"fat": 350, "gland": 3500, "label": True},  # dark fat
        {"fat": 200, "gland": 1500},
        {"skin": 2500},
        {"skin": 2500, "fat": 250, "label": True},
        {"ground": 60, "noise": 15, "label": True},
        {"fat": 3000, "gland": 3500},
    ],
)
@pytest.mark.parametrize("side", ["L", "R"])
def test_the_mask_is_the_breast_whatever_stands_beside_it(how, side):
    image = drawn(**how) if side == "L" else drawn(**how)[:, ::-1]
    truth = INSIDE if side == "L" else INSIDE[:, ::-1]
    mask = breast_mask(image)
    assert agreement(mask, truth) > 0.95
    assert wall_side(mask) == side


def test_letters_that_touch_the_breast_and_the_edge_of_the_film_are_cut_off():
    image = drawn()
    written(image, "L CC", (345, 250), 2, 4095)
    image[:5], image[-5:], image[:, :5], image[:, -5:] = 4095, 4095, 4095, 4095
    assert agreement(breast_mask(image), INSIDE) > 0.93


def test_holes_are_filled_and_padding_in_them_counts_in_no_percentile():
    image = drawn(fat=1500, gland=2600)
    image[300:340, 100:140] = 0
    mask = breast_mask(image)
    assert mask[300:340, 100:140].all()
    whole = stretched(drawn(fat=1500, gland=2600), mask)
    assert abs(int(np.median(stretched(image, mask)[mask])) - int(np.median(whole[mask]))) < 600


def test_size_and_depth_change_nothing():
    image = drawn(label=True)
    large = cv2.resize(image, None, fx=4, fy=4, interpolation=cv2.INTER_LINEAR)
    truth = cv2.resize(INSIDE.astype(np.uint8), None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST).astype(bool)
    assert agreement(breast_mask(large), truth) > 0.95
    assert agreement(breast_mask((image / 16).astype(np.uint8)), INSIDE) > 0.95
    assert agreement(breast_mask((image / 4095).astype(np.float32)), INSIDE) > 0.95


def test_stretching_is_between_percentiles_of_tissue():
    image = drawn(label=True)
    mask = breast_mask(image)
    seen = stretched(image, mask)
    assert seen.dtype == np.uint16
    assert not seen[~mask].any()
    tissue = seen[mask & (image > 0)]
    assert 0.004 < (tissue == 65535).mean() < 0.02
    assert 0.004 < (tissue == 0).mean() < 0.02
    low, high = np.percentile(image[mask & (image > 0)], (0.5, 99.5))
    expected = np.where(mask, np.clip((image.astype(float) - low) / (high - low), 0, 1) * 65535, 0)
    assert np.abs(seen - expected).max() <= 1
    floats = stretched((image / 4095).astype(np.float32), mask)
    assert np.abs(floats.astype(int) - seen.astype(int)).max() <= 40


def test_a_standing_breast_is_cut_out_of_what_stands_beside_it():
    plain, labelled = standing(drawn(), "L"), standing(drawn(label=True), "L")
    assert plain.image.shape == labelled.image.shape == (plain.image.shape[0],) * 2
    assert abs(plain.image.shape[0] - 560) < 20
    assert np.abs(plain.image.astype(int) - labelled.image.astype(int)).mean() < 700
    assert plain.agreed is labelled.agreed is True
    assert not plain.flipped


def test_right_breasts_are_flipped_by_the_tag_and_disagreement_is_told():
    image = drawn()
    left = standing(image, "L")
    right = standing(np.ascontiguousarray(image[:, ::-1]), "R")
    np.testing.assert_array_equal(left.image, right.image)
    assert (right.flipped, right.agreed) == (True, True)
    wrong = standing(image, "R")
    assert (wrong.flipped, wrong.agreed) == (True, False)
    assert standing(image, "").agreed is None
    np.testing.assert_array_equal(standing(np.ascontiguousarray(image[:, ::-1]), "").image, left.image)


def test_a_side_that_is_not_clear_is_none():
    disc = ((Y - 320) ** 2 + (X - 256) ** 2 < 200**2) * np.uint16(2000)
    assert wall_side(breast_mask(disc)) == ""
    assert standing(disc + (disc > 0) * (X % 7).astype(np.uint16) * 30, "R").agreed is None


def test_small_fakes_are_breasts_too():
    for side in "LR":
        image = breast(np.random.default_rng(0), side=side)
        mask = breast_mask(image)
        assert agreement(mask, image > 0) > 0.9
        assert wall_side(mask) == side
        assert bounds(mask).height > 100


@pytest.mark.parametrize("image", [np.zeros((40, 30), np.uint16), np.full((40, 30), 9, np.uint16)])
def test_an_image_without_a_breast_is_refused(image):
    with pytest.raises(DataError, match="no breast is seen in an image"):
        breast_mask(image)


def test_a_breast_without_contrast_is_refused():
    image = np.zeros((400, 300), np.uint16)
    image[100:300, :150] = 500
    with pytest.raises(DataError, match="a breast without contrast"):
        standing(image, "L")
