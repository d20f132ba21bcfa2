"""The rows that most runs get wrong, missed positives first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo_lightning.comparison.entries import Entry
from mammo_lightning.comparison.pairs import hindrance
from mammo_lightning.types import LEVEL_KEYS, Level

MISSED, ALARMS = 12, 8


def hardest(entries: Sequence[Entry], *, missed: int = MISSED, alarms: int = ALARMS) -> pd.DataFrame:
    """Positives with the lowest mean score over runs, then negatives with the highest.

    Args:
        entries: Runs; those on other images than the first are left out.
        missed: How many positives at most, each missed by a run.
        alarms: How many negatives at most, each called positive by a run.

    Returns:
        One row an image: `image`, `patient`, `label`, `missed` (runs that are wrong), `of` (runs that decide) and the
        scores (those that a threshold is one of) and decisions of the runs by their number, `score_0`, `called_0` (NaN
        without an operating point) ...
    """
    first = entries[0]
    numbers = [number for number, entry in enumerate(entries) if not _other_images(first, entry)]
    frame = first.table.frame[["image", "patient", "label"]].copy()
    scores = np.column_stack([entries[number].decided.scores for number in numbers])
    called = np.column_stack([_called(entries[number]) for number in numbers])
    truth = first.table.labels
    wrong = np.where(np.isnan(called), 0, called != truth[:, None])
    frame["missed"], frame["of"] = wrong.sum(axis=1).astype(int), int((~np.isnan(called)).all(axis=0).sum())
    for column, number in enumerate(numbers):
        frame[f"score_{number}"], frame[f"called_{number}"] = scores[:, column], called[:, column]
    frame["mean"] = scores.mean(axis=1)
    chosen = frame[frame["missed"] > 0]
    low = chosen[chosen["label"] == 1].sort_values(["mean", "image"]).head(missed)
    high = chosen[chosen["label"] == 0].sort_values(["mean", "image"], ascending=[False, True]).head(alarms)
    return pd.concat([low, high], ignore_index=True)


def _other_images(first: Entry, other: Entry) -> bool:
    """Another grouping of the same images is no hindrance to looking at them."""
    why = hindrance(first, other)
    return bool(why) and not why.startswith("another group")


def _called(entry: Entry) -> NDArray[np.float64]:
    return np.full(len(entry.table), np.nan) if entry.decisions is None else entry.decisions.astype(float)


def shown_image(entry: Entry, image: str) -> str:
    """The patch that stands for a row: above the patch level the one with its highest score, of the row's own label."""
    if entry.level is Level.patch:
        return image
    row = entry.table.frame.loc[entry.table.frame["image"] == image].iloc[0]
    patches = entry.run.predictions(entry.split).frame
    own = patches[patches["label"] == row["label"]]
    for key in LEVEL_KEYS[entry.level]:
        if key in own:
            own = own[own[key].astype(str) == str(row[key])]
    return str(own.loc[own[f"p_{entry.table.classes[-1]}"].idxmax(), "image"]) if len(own) else ""
