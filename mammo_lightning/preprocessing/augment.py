"""Augmentation of training images with albumentations: every image its own draw, all draws from one seed."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammo_lightning.errors import SettingsError, one_of

NAMES = ("none", "d4", "affine", "set_a", "set_c")
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
            - set_a, set_c: the Keras-style sets A and C: rotation up to 40 degrees, shifts up to 20 (C: 25) %,
              shear up to 20 degrees, zoom of each axis by a factor of 0.8 to 1.2 (C: 0.5 to 1.5) as Keras counts it
              (above 1 shrinks the object; here its inverse is drawn uniformly), horizontal flip; replicated border.
        seed: Where the draws come from.
    """
    if name not in NAMES:
        raise SettingsError(f"no augmentation {name!r}; {one_of(NAMES)}")
    if name == "none":
        return lambda images: images.copy()
    composed: dict[tuple[int, int], Any] = {}

    def augment(images: NDArray[np.float32]) -> NDArray[np.float32]:
        size = images.shape[-2:]
        if size not in composed:
            composed[size] = _compose(name, seed, *size)
        transform, result = composed[size], np.empty_like(images)
        for index, image in enumerate(images):
            # channels last is a view; albumentations may write into what it is given, hence the copy
            result[index] = transform(image=image.transpose(1, 2, 0).copy())["image"].transpose(2, 0, 1)
        return result

    return augment


def _compose(name: str, seed: int, height: int, width: int) -> Any:
    """The albumentations pipeline for images of one size."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for its version otherwise
    import albumentations as A  # four seconds

    flips = [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]
    match name:
        case "d4":
            # a crop out of the padded image is a shift by whole pixels
            shift = [A.Pad(_SHIFT, border_mode=cv2.BORDER_REFLECT), A.RandomCrop(height, width)]
            steps = [*shift, *([A.SquareSymmetry(p=1)] if height == width else flips)]
        case "affine":
            shifts = (-_SHIFT, _SHIFT)
            turn = A.Affine(
                rotate=(-50, 50), translate_px={"x": shifts, "y": shifts}, border_mode=cv2.BORDER_REFLECT, p=1
            )
            steps = [turn, *flips]
        case "set_a":
            steps = [_keras(A, shift=0.2, zoom=(0.8, 1.2)), flips[0]]
        case _:
            steps = [_keras(A, shift=0.25, zoom=(0.5, 1.5)), flips[0]]
    return A.Compose(steps, seed=seed)


def _keras(albumentations: Any, *, shift: float, zoom: tuple[float, float]) -> Any:
    """One affine draw with the ranges of a Keras ImageDataGenerator (rotation 40, shear 20)."""
    magnification = (1 / zoom[1], 1 / zoom[0])
    return albumentations.Affine(
        rotate=(-40, 40),
        translate_percent={"x": (-shift, shift), "y": (-shift, shift)},
        shear={"x": (0, 0), "y": (-20, 20)},
        scale={"x": magnification, "y": magnification},
        keep_ratio=False,
        border_mode=cv2.BORDER_REPLICATE,
        p=1,
    )
