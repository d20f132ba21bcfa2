"""Augmentation of training images: every image its own draw, all draws from one seed."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammo_lightning.errors import SettingsError, one_of

NAMES = ("none", "d4", "affine", "set_a", "set_b", "set_c", "inbreast", "histology")
_SHIFT = 3

Pipeline = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def pipeline(name: str, seed: int) -> Pipeline:
    """The augmentation called `name` as a function from N x C x H x W float32 to a new array of that shape.

    Two pipelines of one name and seed draw the same; one pipeline goes on drawing from call to call, so that a
    second epoch sees other versions. The input is never changed.

    Args:
        name: One of `NAMES`:

            - none: images as they are.
            - d4: flips and quarter turns (half turns where an image is not square) and shifts of up to 3 whole
              pixels; no pixel is interpolated. The border is reflected.
            - affine: rotation up to 50 degrees, shifts of up to 3 whole pixels, both flips; reflected border.
            - set_a, set_b, set_c: the Keras-style sets A, B and C: rotation up to 40 (B: 20) degrees, shifts up to
              20 (B: 10, C: 25) %, shear up to 20 degrees, zoom of each axis by a factor of 0.8 to 1.2 (C: 0.5 to 1.5)
              as Keras counts it (above 1 shrinks the object; here its inverse is drawn uniformly), horizontal flip;
              replicated border.
            - inbreast: horizontal flip; contrast by a factor of 0.8 to 1.2 about the image's mean; brightness by up to
              10 % and Gaussian noise of 2 % of the image's own range.
            - histology: flips and quarter turns (half turns where an image is not square); contrast by a factor of
              0.9 to 1.1 and brightness by up to 5 % of the image's own range; hue by up to 6 degrees, where there
              are three channels.

            Each moves all channels of an image alike, and none clips values, whatever range they have.
        seed: Where the draws come from.
    """
    if name not in NAMES:
        raise SettingsError(f"no augmentation {name!r}; {one_of(NAMES)}")
    if name == "none":
        return lambda images: images.copy()
    make = _symmetries if name == "d4" else _composed
    made: dict[tuple[int, int], Pipeline] = {}

    def augment(images: NDArray[np.float32]) -> NDArray[np.float32]:
        size = images.shape[-2:]
        if size not in made:
            made[size] = make(name, seed, *size)
        return made[size](images)

    return augment


def _symmetries(name: str, seed: int, height: int, width: int) -> Pipeline:
    """Pad, RandomCrop and SquareSymmetry of albumentations, draw for draw; a half turn and flips if not square.

    Written out because it is the augmentation of most studies: a seventh of a step of a small network went into it,
    and importing albumentations takes longer than the first epochs.
    """
    draw, choose = random.Random(seed), np.random.default_rng(seed)
    symmetries = _SQUARE if height == width else [_SQUARE[index] for index in _UPRIGHT]

    def augment(images: NDArray[np.float32]) -> NDArray[np.float32]:
        padded = np.pad(images, ((0, 0), (0, 0), (_SHIFT, _SHIFT), (_SHIFT, _SHIFT)), mode="symmetric")
        result = np.empty_like(images)
        for index in range(len(images)):
            top, left = (int((2 * _SHIFT + 1) * draw.random()) for _ in range(2))
            shifted = padded[index, :, top : top + height, left : left + width]
            result[index] = symmetries[choose.integers(len(symmetries))](shifted)
        return result

    return augment


#: the symmetries of a square, of C x H x W, in the order of albumentations
_SQUARE: tuple[Callable[[NDArray[np.float32]], NDArray[np.float32]], ...] = (
    lambda image: image,
    lambda image: image.transpose(0, 2, 1)[:, ::-1],
    lambda image: image[:, ::-1, ::-1],
    lambda image: image.transpose(0, 2, 1)[:, :, ::-1],
    lambda image: image[:, ::-1],
    lambda image: image[:, ::-1, ::-1].transpose(0, 2, 1),
    lambda image: image[:, :, ::-1],
    lambda image: image.transpose(0, 2, 1),
)
_UPRIGHT = (0, 2, 4, 6)  # those that do not exchange height and width


def _composed(name: str, seed: int, height: int, width: int) -> Pipeline:
    transform = _compose(name, seed, square=height == width)

    def augment(images: NDArray[np.float32]) -> NDArray[np.float32]:
        result = np.empty_like(images)
        for index, image in enumerate(images):
            # channels last is a view; albumentations may write into what it is given, hence the copy
            result[index] = transform(image=image.transpose(1, 2, 0).copy())["image"].transpose(2, 0, 1)
        return result

    return augment


def _compose(name: str, seed: int, *, square: bool) -> Any:
    """The albumentations pipeline of a name."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for its version otherwise
    import albumentations as A  # four seconds

    from mammo_lightning.preprocessing.levels import Hue, Levels

    flips = [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]
    match name:
        case "affine":
            shifts = (-_SHIFT, _SHIFT)
            turn = A.Affine(
                rotate=(-50, 50), translate_px={"x": shifts, "y": shifts}, border_mode=cv2.BORDER_REFLECT, p=1
            )
            steps = [turn, *flips]
        case "set_a":
            steps = [_keras(A, shift=0.2, zoom=(0.8, 1.2)), flips[0]]
        case "set_b":
            steps = [_keras(A, rotation=20, shift=0.1, zoom=(0.8, 1.2)), flips[0]]
        case "set_c":
            steps = [_keras(A, shift=0.25, zoom=(0.5, 1.5)), flips[0]]
        case "inbreast":
            steps = [flips[0], Levels(contrast=(0.8, 1.2), brightness=0.1, noise=0.02)]
        case _:
            turns = [A.SquareSymmetry(p=1)] if square else flips
            steps = [*turns, Levels(contrast=(0.9, 1.1), brightness=0.05), Hue(degrees=6)]
    composed = A.Compose(steps)
    # with `seed=` each step would get its own stream of that seed: an image would be flipped both ways or neither
    composed.set_random_state(np.random.default_rng(seed), random.Random(seed))
    return composed


def _keras(albumentations: Any, *, shift: float, zoom: tuple[float, float], rotation: float = 40) -> Any:
    """One affine draw with the ranges of a Keras ImageDataGenerator (shear 20)."""
    magnification = (1 / zoom[1], 1 / zoom[0])
    return albumentations.Affine(
        rotate=(-rotation, rotation),
        translate_percent={"x": (-shift, shift), "y": (-shift, shift)},
        shear={"x": (0, 0), "y": (-20, 20)},
        scale={"x": magnification, "y": magnification},
        keep_ratio=False,
        border_mode=cv2.BORDER_REPLICATE,
        p=1,
    )
