"""Finding ellipses in a film of 8 megapixels against the primitives of OpenCV that the search is made of."""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from experiments.bench.measure import Spread, in_turns, ratio, table, timed
from mammo_lightning.preprocessing.ellipse import RULES, find_ellipses

Grey = NDArray[np.uint8]


def measure(console: Console, quick: bool) -> None:
    """Print the table."""
    shape, rounds = ((416, 320), 2) if quick else ((3328, 2560), 15)
    films = {"nothing drawn": _film(shape, 0), "three ellipses and text": _film(shape, 3), "specks": _specks(shape)}
    shown = table(
        f"ellipses in a film of {shape[0]} x {shape[1]}",
        "film",
        "found",
        "primitives, ms",
        "ours, ms",
        "ours : primitives",
    )
    for name, film in films.items():
        found = len(find_ellipses(film))  # and what is set up at the first call
        _primitives(film)
        seconds = in_turns(
            rounds,
            primitives=partial(timed, partial(_primitives, film)),
            ours=partial(timed, partial(find_ellipses, film)),
        )
        bare, ours = seconds["primitives"], seconds["ours"]
        spreads = (str(Spread(tuple(1000 * each for each in values), 1)) for values in (bare, ours))
        shown.add_row(name, str(found), *spreads, str(ratio(ours, bare)))
    console.print(shown)
    console.print("primitives: median, threshold, closing, two dilations and contours of the whole film\n")


def _primitives(film: Grey) -> None:
    small, large = (cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)) for side in (5, 11))
    _, white = cv2.threshold(cv2.medianBlur(film, RULES.median), RULES.white - 1, 255, cv2.THRESH_BINARY)
    closed = cv2.morphologyEx(white, cv2.MORPH_CLOSE, small)
    cv2.dilate(closed, large, iterations=RULES.dilate_times)
    cv2.findContours(closed, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)


def _tissue(shape: tuple[int, int]) -> NDArray[np.float64]:
    rng = np.random.default_rng(0)
    height, width = shape
    coarse = cv2.GaussianBlur(rng.normal(size=(height // 16, width // 16)), (0, 0), 2)
    down, across = np.mgrid[:height, :width]
    inside = ((down - height / 2) / (0.46 * height)) ** 2 + (across / (0.8 * width)) ** 2 < 1
    field = cv2.resize(coarse / coarse.std(), (width, height)) * 30 + 120 + rng.normal(scale=6, size=shape)
    return np.where(inside, np.clip(field, 20, 240), 0)


def _film(shape: tuple[int, int], ellipses: int) -> Grey:
    film, side = _tissue(shape).astype(np.uint8), shape[1]
    for number in range(ellipses):
        centre, axes = (side // 4 + side // 16 * number, shape[0] * (number + 1) // 4), (side // 14, side // 18)
        cv2.ellipse(film, centre, axes, 30 * number, 0, 360, 255, 5)
    if ellipses:
        cv2.putText(film, "R MLO", (side * 7 // 10, shape[0] // 12), cv2.FONT_HERSHEY_SIMPLEX, side / 900, 255, 5)
    return film


def _specks(shape: tuple[int, int]) -> Grey:
    """Many contours: tissue whose brightest parts the window has cut off."""
    film = _tissue(shape)
    return np.where(film > np.quantile(film, 0.97), 255, film).astype(np.uint8)
