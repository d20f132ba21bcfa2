"""Which columns can divide the rows of a level."""

from __future__ import annotations

import pandas as pd

from mammo_lightning.types import Level, Predictions


def varies_within(predictions: Predictions, column: str, level: Level | str) -> bool:
    """Whether some row of a level holds several values of a column, so that the row belongs to no one of them.

    Above patch level `Predictions.at` keeps the value of the first patch: a patient with images of two scanners would
    count as one of the scanner whose image happens to stand first.

    Args:
        predictions: Rows at patch level.
        column: One of their columns; rows without a value count as of a value of their own.
        level: Of the rows that are to be divided.
    """
    if Level(level) is Level.patch:
        return False
    codes = pd.factorize(predictions.frame[column])[0]
    # the label of a row above is the highest of its patches: of the codes, and of the codes turned round
    highest, lowest = (Predictions(predictions.frame.assign(label=each)).at(level).labels for each in (codes, -codes))
    return bool((highest != -lowest).any())
