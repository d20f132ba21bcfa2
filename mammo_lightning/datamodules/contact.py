"""A contact sheet of each class: the first look at any dataset, and the one that finds what tables do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo_lightning.evaluation.canvas import DARK, GREY, png

COLUMNS, ROWS = 10, 6
TILE, GUTTER, CAPTION = 144, 8, 18  # pixels
MARGIN, HEAD = 32, 92
DPI = 200


def contact_sheets(
    frame: pd.DataFrame,
    images: NDArray[Any],
    *,
    classes: tuple[str, str],
    title: str,
    synthetic: bool = False,
    seed: int = 0,
) -> dict[str, bytes]:
    """One PNG a class, of images of as many patients as fit; the grey scale is one for all sheets.

    Args:
        frame: One row an image.
        images: The decoded images (N, C, H, W), in the order of the rows.
        classes: Names of label 0 and 1.
        title: What the dataset is called.
        synthetic: Stamp the sheets.
        seed: Of the choice.
    """
    rng = np.random.default_rng(seed)
    labels = frame["label"].to_numpy()
    chosen = {name: _varied(frame, np.flatnonzero(labels == label), rng) for label, name in enumerate(classes)}
    shown = {name: np.moveaxis(np.asarray(images[np.sort(rows)]), 1, -1) for name, rows in chosen.items()}
    window = _window(list(shown.values()))
    sheets = {}
    for label, name in enumerate(classes):
        rows = np.sort(chosen[name])
        all_patients = frame.loc[labels == label, "patient"].nunique()
        patients = frame["patient"].iloc[rows].tolist()
        counts = (
            f"{len(rows)} of {int((labels == label).sum())} images · {len(set(patients))} of {all_patients} patients"
        )
        scale = f"{title} · one grey scale for both classes, {window[0]:.5g} to {window[1]:.5g}"
        tiles = [_tile(image, window) for image in shown[name]]
        sheets[name] = _sheet(tiles, patients, name, counts, scale, "SYNTHETIC" if synthetic else "")
    return sheets


def _varied(frame: pd.DataFrame, rows: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions of up to a sheet of images: one of each patient, then a second, and so on."""
    mixed = rng.permutation(rows)
    turn = frame.iloc[mixed].groupby("patient").cumcount().to_numpy()
    return mixed[np.argsort(turn, kind="stable")][: COLUMNS * ROWS]


def _window(parts: list[NDArray[Any]]) -> tuple[float, float]:
    values = np.concatenate([part.ravel() for part in parts])
    if parts[0].shape[-1] == 3 and values.dtype == np.uint8:
        return 0.0, 255.0
    low, high = np.percentile(values, [0.1, 99.9])
    return float(low), float(max(high, low + 1e-6))


def _tile(image: NDArray[Any], window: tuple[float, float]) -> NDArray[np.uint8]:
    import cv2

    low, high = window
    grey = (np.clip((image.astype(np.float32) - low) / (high - low), 0, 1) * 255).round().astype(np.uint8)
    if grey.ndim == 3 and grey.shape[2] not in (1, 3):  # channels that are no colours stand side by side
        grey = np.concatenate(list(np.moveaxis(grey, -1, 0)), axis=1)
    height, width = grey.shape[:2]
    factor = TILE / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    scaled = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    if scaled.ndim == 2:
        scaled = np.repeat(scaled[..., None], 3, axis=2)
    framed = np.full((TILE, TILE, 3), 255, np.uint8)
    top, left = (TILE - size[1]) // 2, (TILE - size[0]) // 2
    framed[top : top + size[1], left : left + size[0]] = scaled
    return framed


def _sheet(
    tiles: list[NDArray[np.uint8]], captions: list[str], name: str, counts: str, scale: str, stamp: str
) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(tiles) // COLUMNS)
    across, down = TILE + GUTTER, TILE + GUTTER + CAPTION
    width, height = 2 * MARGIN + COLUMNS * across - GUTTER, HEAD + rows * down + MARGIN // 2
    page = np.full((height, width, 3), 255, np.uint8)
    drawn = Figure(figsize=(width / DPI, height / DPI), facecolor="white")
    FigureCanvasAgg(drawn)
    for number, (tile, caption) in enumerate(zip(tiles, captions, strict=True)):
        top, left = HEAD + number // COLUMNS * down, MARGIN + number % COLUMNS * across
        page[top : top + TILE, left : left + TILE] = tile
        short = caption if len(caption) <= 16 else caption[:7] + "…" + caption[-8:]
        x, y = (left + TILE / 2) / width, 1 - (top + TILE + 2) / height
        drawn.text(x, y, short, ha="center", va="top", size=4.2, color=GREY)
    drawn.figimage(page)
    edge = MARGIN / width
    drawn.text(edge, 1 - 18 / height, name, va="top", size=11, weight="bold", color=DARK)
    drawn.text(edge, 1 - 58 / height, counts, va="top", size=6.5, color="#555555")
    drawn.text(1 - edge, 1 - 58 / height, scale, va="top", ha="right", size=6.5, color="#555555")
    if stamp:
        drawn.text(
            0.5, 0.5, stamp, ha="center", va="center", rotation=25, size=min(60, height / 14), weight="bold",
            color="#C00000", alpha=0.2,
        )  # fmt: skip
    return png(drawn, DPI)
