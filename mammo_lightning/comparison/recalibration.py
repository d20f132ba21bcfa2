"""What calibration would make of each run's probabilities: before, and after each way, fitted on other folds."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from mammo_lightning.comparison.entries import Entry
from mammo_lightning.evaluation.calibrators import CALIBRATORS, calibrated_across
from mammo_lightning.evaluation.metrics import measure
from mammo_lightning.types import Predictions

BEFORE = "as it is"
#: slope and intercept first: an ECE of few rows is mostly noise
FIGURES = ("calibration_slope", "calibration_intercept", "ece", "brier")


def recalibrations(entries: Sequence[Entry]) -> pd.DataFrame:
    """One row a run and way of calibration; none for runs whose rows were scored in one fold or only rank."""
    rows = []
    for entry in entries:
        if not (entry.folded and entry.probable):
            continue
        rows.append(_row(entry, BEFORE, entry.sure))
        rows += [_row(entry, name, calibrated_across(name, entry.sure)) for name in CALIBRATORS]
    return pd.DataFrame(rows)


def _row(entry: Entry, way: str, table: Predictions) -> dict[str, object]:
    found = measure(table.labels, table.scores, table.scores >= 0.5)
    return {"name": entry.name, "calibration": way, **{name: float(found[name][0]) for name in FIGURES}}
