"""Trivial predictors of a label: tokens of names, other columns, sizes, counts, brightness."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo_lightning.types import LEVEL_KEYS, Level, levels_of

TOKEN = re.compile(r"[A-Za-z]+|[0-9]+")
#: a value that few other groups share cannot be learned: below this share of rows a predictor is left out
SHARED = 0.5
#: a number with more values than this is also tried as a number
FEW = 12
#: words looked for in names that are not built alike
WORDS = 20
_PIXELS = 2**24


@dataclass(frozen=True)
class Predictor:
    """One column of values, one an image."""

    key: str  # as a metric is named
    kind: Literal["name", "column", "size", "count", "intensity"]
    title: str  # as it is printed
    values: NDArray[Any]
    numeric: bool = False
    where: str = ""  # the value in an example


def predictors(
    frame: pd.DataFrame,
    images: NDArray[Any],
    rows: NDArray[np.int64],
    *,
    columns: Sequence[str] = (),
    formats: pd.DataFrame | None = None,
) -> list[Predictor]:
    """Every trivial predictor that varies and could generalise to other groups.

    Args:
        frame: The rows that are looked at.
        images: All decoded images (N, C, H, W).
        rows: Where the rows' images are in `images`.
        columns: Further columns of the frame to try.
        formats: Width, height, channels and bits of the rows' files.
    """
    offered = [
        *_names(frame),
        *_columns(frame, columns),
        *_sizes(formats),
        *_bags(frame),
        *_intensities(images, rows),
    ]
    kept: dict[tuple[bool, bytes], Predictor] = {}
    for predictor in offered:
        codes, values = pd.factorize(predictor.values)
        mark = (predictor.numeric, predictor.values.astype(float).tobytes() if predictor.numeric else codes.tobytes())
        if len(values) < 2 or not (predictor.numeric or _shared(codes, frame["group"])):
            continue
        if mark not in kept:
            kept[mark] = predictor
        elif predictor.kind == "column":  # the same thing under a name that says what it is
            kept[mark] = replace(kept[mark], title=f"{kept[mark].title} ({predictor.title})")
    return list(kept.values())


def _shared(codes: NDArray[np.int64], groups: pd.Series) -> bool:
    table = pd.DataFrame({"code": codes, "group": groups.to_numpy()})
    return bool((table.groupby("code")["group"].transform("nunique") > 1).mean() >= SHARED)


def _names(frame: pd.DataFrame) -> Iterator[Predictor]:
    names = [PurePosixPath(name) for name in frame["image"]]
    for depth in range(max(len(name.parts) for name in names) - 1):
        parts = np.array([name.parts[depth] if depth < len(name.parts) - 1 else "" for name in names], object)
        # a folder all of whose values are pure is the class folder, or a patient's: true by construction
        if (frame["label"].groupby(parts).nunique() > 1).any():
            yield Predictor(f"folder_{depth + 1}", "name", f"folder {depth + 1} of the path", parts)
    yield from _tokens([name.name for name in names])


def _tokens(names: list[str]) -> Iterator[Predictor]:
    """Tokens by place: from the front as long as all names are built alike, and what is left from the end."""
    tokens = [TOKEN.findall(name) for name in names]
    kinds = [[token.isdecimal() for token in each] for each in tokens]
    front = _alike(kinds)
    if len({tuple(each) for each in kinds}) > 1:
        pattern = [re.sub("[0-9]+", "0", re.sub("[A-Za-z]+", "a", name)) for name in names]
        yield Predictor("name_pattern", "name", "the pattern of the file name", np.array(pattern, object))
        yield from _words(tokens, front)
    back = min(_alike([each[::-1] for each in kinds]), min(map(len, tokens)) - front)
    for place in [*range(front), *range(-1, -back - 1, -1)]:
        values = np.array([each[place] for each in tokens], object)
        key = f"name_{place + 1}" if place >= 0 else f"name_last_{-place}"
        title = f"token {place + 1} of the file name" if place >= 0 else f"token {-place} from the end of the file name"
        where = f"'{values[0]}' in '{names[0]}'"
        yield Predictor(key, "name", title, values, where=where)
        if values[0].isdecimal() and len(set(values)) > FEW:
            yield Predictor(
                f"{key}_number", "name", f"{title} as a number", values.astype(float), numeric=True, where=where
            )


def _alike(kinds: list[list[bool]]) -> int:
    """How many places from the front hold the same kind of token in every name."""
    places = zip(*kinds, strict=False)
    return next((place for place, each in enumerate(places) if len(set(each)) > 1), min(map(len, kinds)))


def _words(tokens: list[list[str]], front: int) -> Iterator[Predictor]:
    """Whether a word stands anywhere in the name, for the most frequent words; not for those that have a place."""
    places = [{token.lower(): place for place, token in enumerate(each) if token.isalpha()} for each in tokens]
    wandering = {word for each in places for word, place in each.items() if place >= front}
    counts = Counter(word for each in places for word in each if word in wandering)
    for word, count in counts.most_common(WORDS):
        if count < len(tokens):
            held = np.array([f"'{word}'" if word in each else "without" for each in places], object)
            yield Predictor(f"name_word_{word}", "name", f"the word '{word}' in the file name", held)


def _columns(frame: pd.DataFrame, columns: Sequence[str]) -> Iterator[Predictor]:
    for column in columns:
        values = frame[column]
        if pd.api.types.is_numeric_dtype(values) and values.nunique() > FEW:
            filled = values.astype(float).fillna(values.astype(float).median()).to_numpy()
            yield Predictor(f"column_{column}", "column", f"column {column}", filled, numeric=True)
        else:
            words = values.astype(object).where(values.notna(), "").astype(str).to_numpy(object)
            yield Predictor(f"column_{column}", "column", f"column {column}", words)


def _sizes(formats: pd.DataFrame | None) -> Iterator[Predictor]:
    if formats is None:
        return
    for name in ("width", "height"):
        yield Predictor(name, "size", f"image {name}", formats[name].to_numpy(float), numeric=True)
    area = formats["width"].to_numpy(float) * formats["height"].to_numpy(float)
    yield Predictor("area", "size", "image area", area, numeric=True)
    size = formats["width"].astype(str) + "x" + formats["height"].astype(str)
    yield Predictor("size", "size", "image size", size.to_numpy(object))
    depth = formats["channels"].astype(str) + " x " + formats["bits"].astype(str) + " bit"
    yield Predictor("depth", "size", "image depth", depth.to_numpy(object))


def _bags(frame: pd.DataFrame) -> Iterator[Predictor]:
    """How many images whatever is judged as one has: a maximum over more of them is higher."""
    for level in levels_of(frame):
        if level in (Level.patch, Level.lesion):  # only what is positive has a lesion
            continue
        keys = [key for key in LEVEL_KEYS[level] if key in frame]
        sizes = frame.groupby(keys, dropna=False)["image"].transform("count").to_numpy(float)
        yield Predictor(f"images_per_{level}", "count", f"images per {level}", sizes, numeric=True)


def _intensities(images: NDArray[Any], rows: NDArray[np.int64]) -> Iterator[Predictor]:
    channels = images.shape[1]
    parts = []
    step = max(1, _PIXELS // int(np.prod(images.shape[1:])))
    for first in range(0, len(rows), step):
        block = np.asarray(images[rows[first : first + step]], np.float32)
        flat = block.reshape(len(block), -1)
        colours = block.mean(axis=(2, 3))
        parts.append(np.column_stack([flat.mean(1), flat.std(1), flat.max(1), flat.min(1), colours]))
    values = np.concatenate(parts).astype(float)
    titles = [f"{name} of the pixels" for name in ("mean", "spread", "maximum", "minimum")]
    titles += [f"{name} of the pixels" for name in ("red", "green", "blue")] if channels == 3 else []
    for title, column in zip(titles, values.T, strict=False):
        yield Predictor(title.split()[0], "intensity", title, column, numeric=True)
