"""Drawn ellipses are found, whatever else is drawn is not, and no patch comes near to ink."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from mammo_lightning.preprocessing.ellipse import RULES, Ellipse, find_ellipses, grey8, lesion_boxes, normal_boxes
from mammo_lightning.preprocessing.patches import Box


@pytest.fixture(scope="module")
def ground() -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = cv2.GaussianBlur(rng.normal(size=(90, 110)), (0, 0), 2)
    field = cv2.resize(coarse / coarse.std(), (880, 720)) * 30 + 110 + rng.normal(scale=6, size=(720, 880))
    return np.clip(field, 20, 240).astype(np.uint8)


@pytest.mark.parametrize("line", [cv2.LINE_8, cv2.LINE_AA])
@pytest.mark.parametrize("thickness", [3, 4, 6, 9, 12])
@pytest.mark.parametrize("axes", [(40, 44), (60, 60), (50, 120), (110, 300), (240, 260), (170, 560)])
@pytest.mark.parametrize("angle", [0, 33, 90, 141])
def test_every_drawn_ellipse_is_found_once(
    ground: np.ndarray, axes: tuple[int, int], thickness: int, angle: int, line: int
) -> None:
    film = ground.copy()
    cv2.ellipse(film, ((430.4, 350.7), axes, angle), 255, thickness, line)
    found = find_ellipses(film)
    assert len(found) == 1
    assert np.hypot(found[0].x - 430.4, found[0].y - 350.7) < 1.5
    assert sorted(found[0][2:4]) == pytest.approx([side + thickness for side in sorted(axes)], abs=4)


def test_several_ellipses_are_told_apart_and_from_what_stands_beside_them(ground: np.ndarray) -> None:
    film = ground.copy()
    places = [(150, 160), (420, 330), (700, 520)]
    for centre in places:
        cv2.ellipse(film, centre, (90, 60), 20, 0, 360, 255, 5)
    cv2.putText(film, "R MLO", (560, 80), cv2.FONT_HERSHEY_SIMPLEX, 2.5, 255, 6)
    cv2.arrowedLine(film, (300, 600), (380, 420), 255, 5)
    found = find_ellipses(film)
    assert sorted((round(each.x), round(each.y)) for each in found) == places


@pytest.mark.parametrize("word", ["MLO", "OOPS 80", "Q0DC", "BIRADS 0", "12 O'CLOCK"])
@pytest.mark.parametrize("scale", [1.0, 2.0, 3.0, 4.0])
@pytest.mark.parametrize("font", [cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_TRIPLEX])
def test_text_is_no_ellipse(ground: np.ndarray, word: str, scale: float, font: int) -> None:
    film = ground.copy()
    cv2.putText(film, word, (30, 400), font, scale, 255, int(2 + scale), cv2.LINE_AA)
    assert (film == 255).sum() > 300
    assert find_ellipses(film) == []


@pytest.mark.parametrize("size", [40, 60, 90, 150, 400])
@pytest.mark.parametrize("angle", [0, 30])
@pytest.mark.parametrize("shape", ["box", "long box", "triangle", "line", "arrow", "disc", "arc", "blot"])
def test_other_marks_are_no_ellipse(ground: np.ndarray, shape: str, size: int, angle: int) -> None:
    film, middle = ground.copy(), (440, 360)
    far = (round(440 + size * np.cos(np.deg2rad(angle))), round(360 + size * np.sin(np.deg2rad(angle))))
    if "box" in shape:
        corners = cv2.boxPoints((middle, (size, size * (0.6 if "long" in shape else 1)), angle)).astype(int)
        cv2.polylines(film, [corners], True, 255, 4)
    elif shape == "triangle":
        cv2.polylines(film, [np.array([(440, 360), far, (440, 360 + size)])], True, 255, 4)
    elif shape == "line":
        cv2.line(film, middle, far, 255, 9)
    elif shape == "arrow":
        cv2.arrowedLine(film, middle, far, 255, 5, tipLength=0.3)
    elif shape == "disc":
        cv2.ellipse(film, (middle, (size, 0.8 * size), angle), 255, cv2.FILLED)
    elif shape == "arc":
        cv2.ellipse(film, middle, (size // 2, size // 3), angle, 0, 280, 255, 5)
    else:
        film[ground > np.quantile(ground, 0.9)] = 255  # tissue that the window has cut off
    assert find_ellipses(film) == []


def test_each_rule_beyond_the_published_steps_is_needed(ground: np.ndarray) -> None:
    """Without it, the published steps take a box or a disc for an ellipse."""
    box, disc, dot = (ground.copy() for _ in range(3))
    cv2.rectangle(box, (200, 200), (270, 270), 255, 4)
    cv2.circle(disc, (400, 300), 30, 255, cv2.FILLED)
    cv2.circle(dot, (400, 300), 14, 255, 3)
    loose: list[tuple[np.ndarray, dict]] = [(box, {"deviation": 9}), (disc, {"filled": 1}), (dot, {"short_axis": 1})]
    for film, changed in loose:
        assert find_ellipses(film, replace(RULES, **changed, contour_area=500, ellipse_area=500))
        assert not find_ellipses(film)


def test_a_stroke_with_gaps_that_closing_does_not_mend_is_not_found(ground: np.ndarray) -> None:
    film = ground.copy()
    for start in range(0, 360, 30):
        cv2.ellipse(film, (400, 300), (120, 90), 0, start, start + 15, 255, 5)
    assert find_ellipses(film) == []


def wide(film: np.ndarray, centre: tuple[float, float] = (440, 360)) -> Ellipse:
    cv2.ellipse(film, (centre, (300, 260), 20), 255, 5, cv2.LINE_AA)
    return find_ellipses(film)[0]


def test_the_patch_is_centred_and_free_of_ink(ground: np.ndarray) -> None:
    film = ground.copy()
    boxes, refused = lesion_boxes(film, [wide(film)])
    assert boxes == [Box(376, 296, 128, 128)]
    assert not refused
    assert np.array_equal(boxes[0].of(film), boxes[0].of(ground))


@pytest.mark.parametrize("diameter", range(60, 260, 8))
def test_a_patch_is_taken_or_refused_as_ink_comes_near(ground: np.ndarray, diameter: int) -> None:
    film = ground.copy()
    cv2.circle(film, (440, 360), diameter // 2, 255, 4, cv2.LINE_AA)
    boxes, refused = lesion_boxes(film, find_ellipses(film))
    touched = cv2.dilate((film != ground).astype(np.uint8), np.ones((15, 15), np.uint8))  # 7 pixels beyond it
    for box in boxes:
        assert not box.of(touched).any()
    assert bool(boxes) == (diameter > 210)
    assert sum(refused.values()) == (not boxes)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda film: cv2.putText(film, "1", (430, 370), 0, 1, 255, 3), "hold ink"),
        (lambda film: cv2.line(film, (400, 340), (420, 350), 255, 1), "hold ink"),
        (lambda film: film.__setitem__((slice(300, 420), slice(380, 460)), 0), "mostly black"),
    ],
)
def test_a_patch_that_holds_something_else_is_refused_by_reason(ground: np.ndarray, spoil: object, why: str) -> None:
    film = ground.copy()
    ellipse = wide(film)
    spoil(film)  # type: ignore[operator]
    boxes, refused = lesion_boxes(film, [ellipse])
    assert not boxes
    assert why in next(iter(refused))


def test_an_ellipse_at_the_edge_gives_no_patch(ground: np.ndarray) -> None:
    boxes, refused = lesion_boxes(ground, [Ellipse(50, 360, 90, 90, 0), Ellipse(440, 700, 90, 90, 0)])
    assert (boxes, refused) == ([], {"reach beyond the film": 2})


def test_blocks_of_normal_tissue_have_the_limits_of_lesions(ground: np.ndarray) -> None:
    film = ground.copy()  # 5 x 6 whole blocks, one row and one column of padded ones
    film[:, :256] = 3
    film[258:268, 300:310] = 255
    film[384:512, 384:512] = 77
    boxes, refused = normal_boxes(film, (0, 0))
    assert refused["reach beyond the film"] == 6 + 5 + 1
    assert refused["lie near to the film's edge"] == 6 + 4
    assert refused["are mostly black"] == 4
    assert refused["hold ink, or tissue as white"] == 2  # the mark comes within 10 pixels of the block above it
    assert refused["are of one grey value"] == 1
    assert len(boxes) == 30 - 6 - 4 - 4 - 2 - 1
    assert all(box.inside(film.shape) and box.x % 128 == 0 == box.y % 128 for box in boxes)
    places = [Ellipse(box.x + 64, box.y + 64, 300, 300, 0) for box in boxes]
    assert lesion_boxes(film, places)[0] == boxes


@pytest.mark.parametrize("offset", [(0, 0), (41, 41), (40, 40), (127, 1), (77, 126)])
def test_blocks_start_at_their_offset_and_keep_off_the_edge(ground: np.ndarray, offset: tuple[int, int]) -> None:
    boxes, refused = normal_boxes(ground, offset)
    assert {(box.x % 128, box.y % 128) for box in boxes} == {offset}
    wanted = [
        Box(x, y, 128, 128)
        for y in range(41, 720 - 128 - 41 + 1)
        for x in range(41, 880 - 128 - 41 + 1)
        if (x % 128, y % 128) == offset
    ]
    assert boxes == wanted
    assert set(refused) <= {"reach beyond the film", "lie near to the film's edge"}


def test_blocks_come_as_near_to_the_edge_as_a_patch_about_a_circle_can(ground: np.ndarray) -> None:
    nearest = ground.shape[1]
    for radius in range(96, 124):
        film = ground.copy()
        cv2.circle(film, (radius + 2, 360), radius, 255, 4, cv2.LINE_AA)
        boxes, _ = lesion_boxes(film, find_ellipses(film))
        nearest = min([nearest, *(box.x for box in boxes)])
    assert RULES.edge <= nearest <= RULES.edge + 4
    upright = Ellipse(64 + RULES.edge - 1, 360, 160, 400, 0)  # an ellipse along the edge could lie nearer
    assert lesion_boxes(ground, [upright]) == ([], {"lie near to the film's edge": 1})


def test_sixteen_bit_white_is_white() -> None:
    assert grey8(np.array([[0, 255, 256, 65535]], np.uint16)).tolist() == [[0, 0, 1, 255]]
