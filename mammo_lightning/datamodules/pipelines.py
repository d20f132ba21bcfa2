"""A picture of every augmentation on an image of the dataset: whether it could have been taken, a person sees best."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammo_lightning.evaluation.canvas import DARK, GREY
from mammo_lightning.evaluation.canvas import png as encoded
from mammo_lightning.preprocessing.augment import NAMES, pipeline

SHOWN = tuple(name for name in NAMES if name != "none")
DRAWS = 7
TILE, GUTTER, MARGIN, LABEL, HEAD = 144, 8, 32, 108, 84  # pixels
DPI = 200
MARGINS = 0.15  # of the image's range: what is shown beyond it on either side
_CANDIDATES = 64


def png(images: NDArray[Any], *, scale: float, title: str, synthetic: bool = False, seed: int = 0) -> bytes:
    """One PNG: a row for each augmentation, first the image as it is, then seven draws, in one scale of grey or colour.

    The image is the one of middling contrast. Channels that are no colours are shown side by side.

    Args:
        images: Decoded images (N, C, H, W); up to 64 of them are looked at.
        scale: The value that stands for white.
        title: What the dataset is called.
        synthetic: Stamp the picture.
        seed: Of the draws.
    """
    looked = np.asarray(images[:: -(-len(images) // _CANDIDATES)], np.float32) / np.float32(scale)
    spread = looked.std(axis=(1, 2, 3))
    image = looked[np.argsort(spread, kind="stable")[len(spread) // 2]]
    low, high = float(image.min()), float(image.max())
    edge = MARGINS * max(high - low, 1e-6)
    window = (low - edge, high + edge)
    rows = []
    for name in SHOWN:
        drawn = pipeline(name, seed)(np.repeat(image[None], DRAWS, axis=0))
        rows.append([_tile(each, window) for each in (image, *drawn)])
    return _page(rows, title, "SYNTHETIC" if synthetic else "")


def _tile(image: NDArray[np.float32], window: tuple[float, float]) -> NDArray[np.uint8]:
    import cv2

    low, high = window
    grey = (np.clip((image - low) / (high - low), 0, 1) * 255).round().astype(np.uint8)
    if len(grey) == 3:
        flat = grey.transpose(1, 2, 0)
    else:
        gap = np.full((grey.shape[1], -(-grey.shape[1] // 64)), 255, np.uint8)
        flat = np.hstack([part for channel in grey for part in (gap, channel)][1:])
    factor = TILE / flat.shape[0]
    size = (max(1, round(flat.shape[1] * factor)), TILE)
    scaled = cv2.resize(flat, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST)
    return np.asarray(scaled if scaled.ndim == 3 else np.repeat(scaled[..., None], 3, axis=2), np.uint8)


def _page(rows: list[list[NDArray[np.uint8]]], title: str, stamp: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    wide = rows[0][0].shape[1]
    across, down, left = wide + GUTTER, TILE + GUTTER, MARGIN + LABEL
    width = left + len(rows[0]) * across + GUTTER + MARGIN  # a second gutter sets the image apart from its draws
    height = HEAD + len(rows) * down + MARGIN
    page = np.full((height, width, 3), 255, np.uint8)
    drawn = Figure(figsize=(width / DPI, height / DPI), facecolor="white")
    FigureCanvasAgg(drawn)
    for number, (name, tiles) in enumerate(zip(SHOWN, rows, strict=True)):
        top = HEAD + number * down
        for place, tile in enumerate(tiles):
            start = left + place * across + (GUTTER if place else 0)
            page[top : top + TILE, start : start + wide] = tile
        drawn.text(MARGIN / width, 1 - (top + TILE / 2) / height, name, va="center", size=7, weight="bold", color=DARK)
    drawn.figimage(page)
    over = 1 - (HEAD - 8) / height
    drawn.text((left + wide / 2) / width, over, "as it is", ha="center", va="bottom", size=6.5, color=GREY)
    drawn.text((left + across + GUTTER) / width, over, f"{DRAWS} draws", va="bottom", size=6.5, color=GREY)
    drawn.text(MARGIN / width, 1 - 16 / height, f"{title}: augmentations", va="top", size=10, weight="bold", color=DARK)
    if stamp:
        drawn.text(
            0.5, 0.5, stamp, ha="center", va="center", rotation=25, size=60, weight="bold", color="#C00000", alpha=0.2
        )
    return encoded(drawn, DPI)
