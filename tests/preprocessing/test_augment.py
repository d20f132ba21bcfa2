import numpy as np
import pytest

from mammo_lightning.errors import SettingsError
from mammo_lightning.preprocessing.augment import NAMES, pipeline


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(40, 2, 21, 21)).astype(np.float32)


def symmetries(image):
    turns = [np.rot90(image, k, axes=(-2, -1)) for k in range(4)]
    return turns + [turn[..., ::-1] for turn in turns]


def shifted(image, reach=3):
    """All shifts by whole pixels of a C x H x W image with a reflected border."""
    height, width = image.shape[-2:]
    padded = np.pad(image, ((0, 0), (reach, reach), (reach, reach)), mode="symmetric")
    steps = range(2 * reach + 1)
    return {(y, x): padded[:, y : y + height, x : x + width] for y in steps for x in steps}


def test_d4_gives_one_of_eight_symmetries_shifted_by_whole_pixels(images):
    seen = set()
    for image, result in zip(images, pipeline("d4", 3)(images), strict=True):
        matches = [
            (number, shift)
            for number, turned in enumerate(symmetries(image))
            for shift, candidate in shifted(turned).items()
            if np.array_equal(candidate, result)
        ]
        assert matches
        seen.add(matches[0])
        if matches[0][1] == (3, 3):  # no shift
            np.testing.assert_array_equal(np.sort(result, axis=None), np.sort(image, axis=None))
    assert len({number for number, _ in seen}) == 8
    assert len({shift for _, shift in seen}) > 15


def test_d4_keeps_every_pixel_that_does_not_leave(images):
    # a constant border wider than the shift makes the multiset of values invariant
    images[:] = 0
    images[:, 0, 8:12, 9:12] = np.arange(12).reshape(4, 3)
    result = pipeline("d4", 0)(images)
    np.testing.assert_array_equal(np.sort(result.reshape(40, -1)), np.sort(images.reshape(40, -1)))


def test_d4_does_not_turn_what_is_not_square(images):
    wide = images[..., :15, :]
    for image, result in zip(wide, pipeline("d4", 1)(wide), strict=True):
        flips = [image, image[..., ::-1], image[..., ::-1, :], image[..., ::-1, ::-1]]
        assert any(np.array_equal(result, candidate) for flip in flips for candidate in shifted(flip).values())


def test_d4_is_what_albumentations_gives_for_the_same_seed(images, monkeypatch):
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations as A
    import cv2

    steps = [A.Pad(3, border_mode=cv2.BORDER_REFLECT), A.RandomCrop(21, 21), A.SquareSymmetry(p=1)]
    transform = A.Compose(steps, seed=11)
    expected = [transform(image=image.transpose(1, 2, 0).copy())["image"].transpose(2, 0, 1) for image in images]
    augment = pipeline("d4", 11)
    np.testing.assert_array_equal(np.concatenate([augment(images[:17]), augment(images[17:])]), expected)


@pytest.mark.parametrize("name", ["d4", "affine"])
def test_steps_draw_independently(name):
    """Both flips, one of them and neither: with one stream a step they would go together."""
    image = np.zeros((400, 1, 21, 15), np.float32)
    image[:, 0, 2:6, 5:10], image[:, 0, 8:13, 2:4] = 1, 2  # a mark above, another to the left
    down, across = (np.arange(size, dtype=np.float32) for size in (21, 15))
    result = pipeline(name, 2)(image)
    mark, other = (result > 0) & (result < 1.5), result >= 1.5
    rows = ((mark * down[:, None]).sum((1, 2, 3)) / mark.sum((1, 2, 3)).clip(1)) > 10
    columns = ((other * across).sum((1, 2, 3)) / other.sum((1, 2, 3)).clip(1)) > 7
    counts = [int((rows == a).sum()) for a in (0, 1)] + [int((columns == a).sum()) for a in (0, 1)]
    mixed = int((rows != columns).sum())
    assert min(counts) > 20, counts
    assert mixed > 80, mixed


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_pipeline_is_deterministic_and_leaves_its_input_alone(images, name, channels):
    images = np.repeat(images[:, :1], channels, axis=1)
    images.flags.writeable = False
    first, again, other = pipeline(name, 5), pipeline(name, 5), pipeline(name, 6)
    one, two = first(images), again(images)
    assert one.shape == images.shape
    assert one.dtype == np.float32
    np.testing.assert_array_equal(one, two)
    second = first(images)
    np.testing.assert_array_equal(second, again(images))
    if name == "none":
        np.testing.assert_array_equal(one, images)
        assert not np.shares_memory(one, images)
    else:
        assert not np.array_equal(one, other(images))
        assert not np.array_equal(one, second)
        same = pipeline(name, 5)(np.broadcast_to(images[:1], images.shape))
        assert len({result.tobytes() for result in same}) > 20, "each image needs its own draw"


@pytest.mark.parametrize("name", ["affine", "set_a", "set_b", "set_c"])
def test_affine_pipelines_interpolate_and_invent_nothing(images, name):
    result = pipeline(name, 0)(images)
    assert result.min() >= images.min() - 1e-4
    assert result.max() <= images.max() + 1e-4
    assert result.min() < -1, "values below zero are not clipped"
    flat = np.full((6, 1, 21, 21), 0.7, np.float32)
    np.testing.assert_allclose(pipeline(name, 0)(flat), flat, atol=1e-6)  # no black corners


def test_set_b_turns_and_shifts_half_as_far_as_set_a():
    bar = np.zeros((300, 1, 61, 61), np.float32)
    bar[:, 0, 30, 20:41] = 1
    bar[:, 0, 29:32, 36:41] = 1  # one end is thick
    rows, columns = np.mgrid[-30:31, -30:31]
    turned, moved = {}, {}
    for name in ("set_a", "set_b"):
        mass = pipeline(name, 0)(bar)[:, 0]
        total = mass.sum((1, 2))
        x, y = (columns * mass).sum((1, 2)) / total, (rows * mass).sum((1, 2)) / total
        moved[name] = np.abs(x).max()
        xy = ((columns - x[:, None, None]) * (rows - y[:, None, None]) * mass).sum((1, 2))
        xx, yy = (((grid - at[:, None, None]) ** 2 * mass).sum((1, 2)) for grid, at in ((columns, x), (rows, y)))
        turned[name] = np.degrees(np.abs(np.arctan2(2 * xy, xx - yy) / 2)).max()
    assert 5 < moved["set_b"] < 11 < moved["set_a"]
    assert 20 < turned["set_b"] < 40 < turned["set_a"] < 60  # shear adds to it


def test_set_c_zooms_further_than_set_a():
    disc = np.zeros((200, 1, 41, 41), np.float32)
    rows, columns = np.mgrid[-20:21, -20:21]
    disc[:, 0] = (rows**2 + columns**2 <= 25).astype(np.float32)
    area = {name: pipeline(name, 0)(disc).sum(axis=(1, 2, 3)) / disc[0].sum() for name in ("set_a", "set_c")}
    assert 0.64 < area["set_a"].min() < 0.8 < 1.25 < area["set_a"].max() < 1.6
    assert area["set_c"].min() < 0.6
    assert area["set_c"].max() > 2


def test_unknown_name():
    with pytest.raises(SettingsError, match="no augmentation 'flip'; known: affine, d4, histology, inbreast, none, .*"):
        pipeline("flip", 0)


def test_levels_are_relative_to_the_image_and_nothing_is_clipped():
    """Of an image of any range and zero, the same version in that range."""
    images = np.random.default_rng(0).random((60, 1, 24, 24), dtype=np.float32)
    for name in ("inbreast", "histology"):
        plain, scaled = pipeline(name, 4)(images), pipeline(name, 4)(images * 2000 - 700)
        np.testing.assert_allclose((scaled + 700) / 2000, plain, atol=2e-5)
        assert plain.min() < -0.03, "no floor at zero"
        assert plain.max() > 1.03, "no ceiling at one"
    flat = np.full((9, 1, 24, 24), -0.3, np.float32)
    np.testing.assert_allclose(pipeline("inbreast", 0)(flat), flat, atol=1e-6)


def test_inbreast_draws_what_was_published():
    ramp = np.linspace(-1, 3, 101, dtype=np.float32)  # range 4, mean 1
    images = np.tile(ramp, (400, 1, 101, 1))
    result = pipeline("inbreast", 0)(images).astype(float)
    profile = result.mean(axis=(1, 2))
    flipped = profile[:, 0] > profile[:, -1]
    assert 150 < flipped.sum() < 250
    profile[flipped] = profile[flipped, ::-1]
    slope, level = np.polyfit(np.linspace(-2, 2, 101), profile.T, 1)
    assert 0.79 < slope.min() < 0.82
    assert 1.18 < slope.max() < 1.21
    assert -0.41 < (level - 1).min() < -0.37  # 10 % of 4
    assert 0.37 < (level - 1).max() < 0.41
    noise = result - np.where(flipped[:, None], profile[:, ::-1], profile)[:, None, None]
    assert noise.std() == pytest.approx(0.02 * 4, rel=0.03)
    assert abs(np.corrcoef(noise[0, 0, :-1].ravel(), noise[0, 0, 1:].ravel())[0, 1]) < 0.05


def test_histology_turns_every_way_and_hues_only_colours():
    import cv2

    images = np.zeros((300, 3, 16, 16), np.float32)
    images[:] = np.array([0.7, 0.4, 0.6], np.float32)[:, None, None]
    images[:, :, 0, :2] = np.array([0.1, 0.2])  # two grey marks tell the eight symmetries apart
    result = pipeline("histology", 0)(images)
    marks = result.sum(1).reshape(300, -1).argsort(1)[:, :2]
    corners = {0: (1, 16), 15: (14, 31), 240: (224, 241), 255: (239, 254)}
    assert {tuple(each) for each in marks} == {(corner, next_) for corner in corners for next_ in corners[corner]}
    marked = np.take_along_axis(result.reshape(300, 3, -1), marks[:, None], 2)
    assert np.ptp(marked, axis=1).max() < 1e-4, "grey has no hue"
    stained = result[:, :, 8, 8]
    hue = cv2.cvtColor(stained[None].clip(0, 1), cv2.COLOR_RGB2HSV)[0, :, 0]
    assert 8 < np.ptp(hue) < 40
    assert np.ptp(stained @ np.array([0.299, 0.587, 0.114])) < 0.2
    monochrome = pipeline("histology", 0)(images[:, :1])
    assert monochrome.shape == (300, 1, 16, 16)


@pytest.mark.parametrize("name", NAMES)
def test_both_images_of_a_pair_move_together(name):
    one = np.random.default_rng(1).random((30, 1, 20, 20), dtype=np.float32)
    pair = pipeline(name, 3)(np.concatenate([one, 1 - one], axis=1))
    tolerance = 0.12 if name == "inbreast" else 1e-5  # each pixel has noise of its own
    total = pair.sum(1)
    assert np.ptp(total, axis=(1, 2)).max() < 2 * tolerance
    wide = pipeline(name, 3)(np.concatenate([one, one], axis=1)[..., :13])
    assert wide.shape == (30, 2, 20, 13)
    if name != "inbreast":
        np.testing.assert_array_equal(wide[:, 0], wide[:, 1])


def test_histology_is_d4_of_albumentations_where_levels_stay():
    import albumentations as A

    from mammo_lightning.preprocessing.levels import Hue, Levels

    image = np.random.default_rng(0).random((8, 8, 3), dtype=np.float32)
    steps = [A.SquareSymmetry(p=1), Levels(), Hue(degrees=0)]
    np.testing.assert_allclose(A.Compose(steps, seed=3)(image=image)["image"].sum(), image.sum(), rtol=1e-5)
    brighter = A.RandomBrightnessContrast((0.1, 0.1), (0, 0), p=1)(image=image * 0.5)["image"]
    ours = Levels(brightness=0.1)
    ours.py_random = type("Fixed", (), {"uniform": staticmethod(lambda low, high: high)})
    unit = np.ptp(image * 0.5)
    np.testing.assert_allclose(ours.apply(image * 0.5), brighter - 0.1 + 0.1 * unit, atol=1e-5)
