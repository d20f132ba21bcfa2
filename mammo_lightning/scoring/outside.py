"""Predictions made elsewhere (another tool, a vendor's CAD, readers) as a run like any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mammo_lightning.datamodules.files import read_table
from mammo_lightning.datamodules.naming import two_classes
from mammo_lightning.errors import DataError, LeakError, SettingsError, one_of
from mammo_lightning.types import CORE_COLUMNS, PLACE_COLUMNS, Predictions

SPLITS = ("val", "test", "external")
TOLERANCE = 0.02  # of probabilities that were rounded for print


@dataclass(frozen=True)
class Outside:
    """What a csv says, by split; `span` is the range of scores that are no probabilities."""

    tables: dict[str, Predictions]
    span: tuple[float, float] | None = None

    @property
    def folds(self) -> int:
        """How many folds the rows of split val are of."""
        return len(set(self.tables["val"].folds.tolist()) - {-1}) if "val" in self.tables else 0

    def scaled(self, threshold: float) -> float:
        """A threshold of the scores as they stand in the csv, as one of the scores here."""
        if self.span is None:
            return threshold
        low, high = self.span
        return (threshold - low) / (high - low)


def read_outside(path: Path, *, positive: str | None = None, ranks: bool = False) -> Outside:
    """A csv of predictions, checked; what is wrong with it is one line.

    Columns: `image` (or `path`), `patient`, `label` (0 and 1, or names of classes), and `p_<class>` of both or of the
    positive class, or `score`; where known `fold`, `split` (val, test or external), `group`, `view`, `laterality`,
    `exam`, `lesion`; all further columns are subgroups.

    Args:
        path: The csv.
        positive: The name of the positive class; without it the last `p_` column, or the last label in the alphabet.
        ranks: Scores may be any numbers, of which only the order means something.
    """
    table = read_table(path, filled=("patient", "label"))
    key = next((name for name in ("image", "path") if name in table), None)
    if key is None:
        raise DataError(f"table '{path}' lacks image; expected image (or path),patient,label and p_<class> or score")
    frame = table.rename(columns={key: "image"}) if key == "path" else table.drop(columns="path", errors="ignore")
    if (frame["image"] == "").any():
        raise DataError(f"table '{path}' has a row without the name of an image; every row needs one")
    columns = [name for name in frame.columns if name.startswith("p_")]
    classes, labels = _classes(path, frame["label"], [name[2:] for name in columns], positive)
    scores, span = _scores(path, frame, classes, ranks)
    kept = pd.DataFrame({name: frame[name] for name in ("image", "patient")})
    kept["group"] = (
        frame["group"].where(frame["group"] != "", frame["patient"]) if "group" in frame else frame["patient"]
    )
    kept["view"] = frame["view"] if "view" in frame else ""
    kept["fold"] = _folds(path, frame)
    default = "val" if (kept["fold"] >= 0).any() else "external"
    kept["split"] = frame["split"].where(frame["split"] != "", default) if "split" in frame else default
    kept["label"] = labels
    kept = kept.assign(**{f"p_{classes[0]}": 1.0 - scores, f"p_{classes[1]}": scores})
    more = [name for name in frame.columns if name not in (*CORE_COLUMNS, *columns, "score")]
    kept = kept.assign(**{name: frame[name] if name in PLACE_COLUMNS else _numbers(frame[name]) for name in more})
    _check(path, kept)
    return Outside({split: _of(kept, split) for split in SPLITS if (kept["split"] == split).any()}, span)


def _of(frame: pd.DataFrame, split: str) -> Predictions:
    return Predictions(frame[frame["split"] == split].sort_values("image", kind="stable").reset_index(drop=True))


def _classes(
    path: Path, label: pd.Series, named: Sequence[str], positive: str | None
) -> tuple[tuple[str, str], pd.Series]:
    """Names of the negative and the positive class, and labels as 0 and 1."""
    if len(named) > 2:
        raise DataError(
            f"table '{path}' has {len(named)} columns p_*; two classes can be evaluated, one against the rest"
        )
    if positive is not None and named and positive not in named:
        raise SettingsError(f"--positive {positive!r} has no column p_{positive} in '{path}'; {one_of(named)}")
    values = set(label)
    if values <= {"0", "1"}:
        last = positive or (named[-1] if named else "positive")
        first = next((name for name in named if name != last), "negative")
        numbers = label.astype(int)
    else:
        known = list(named) if len(named) == 2 else []
        if known and (strange := values - set(known)):
            raise DataError(f"table '{path}' has a label '{min(strange)}' and no column p_{min(strange)}; mend either")
        first, last = two_classes(label, positive or (named[-1] if named else None), f"in '{path}'", known)
        numbers = (label == last).astype(int)
    if numbers.nunique() < 2:
        only = last if numbers.iloc[0] else first
        raise DataError(f"all {len(numbers)} rows of '{path}' are {only!r}; figures need both classes")
    return (first, last), numbers


def _scores(
    path: Path, frame: pd.DataFrame, classes: tuple[str, str], ranks: bool
) -> tuple[pd.Series, tuple[float, float] | None]:
    name = f"p_{classes[1]}" if f"p_{classes[1]}" in frame else "score"
    if name not in frame:
        raise DataError(f"table '{path}' has neither p_{classes[1]} nor score; one of them is needed")
    scores = _finite(path, frame, name)
    if not ranks:
        if (bad := ~scores.between(0.0, 1.0)).any():
            raise DataError(
                f"table '{path}' has {name} {scores[bad].iloc[0]:g} of image '{frame['image'][bad].iloc[0]}', which is "
                "no probability; pass --ranks if only the order of scores means something"
            )
        other = f"p_{classes[0]}"
        if name != "score" and other in frame:
            off = (scores + _finite(path, frame, other) - 1.0).abs() > TOLERANCE
            if off.any():
                raise DataError(
                    f"{name} and {other} of image '{frame['image'][off].iloc[0]}' in '{path}' do not sum to 1; pass "
                    "probabilities, or --ranks"
                )
        return scores, None
    low, high = float(scores.min()), float(scores.max())
    if not low < high:
        raise DataError(f"all scores in '{path}' are {low:g}; they rank nothing")
    return (scores - low) / (high - low), (low, high)


def _finite(path: Path, frame: pd.DataFrame, name: str) -> pd.Series:
    numbers = pd.to_numeric(frame[name], errors="coerce").astype(float)
    if (bad := ~np.isfinite(numbers)).any():
        raise DataError(
            f"table '{path}' has {name} '{frame[name][bad].iloc[0]}' of image '{frame['image'][bad].iloc[0]}' "
            f"({int(bad.sum())} such); every image needs a finite number"
        )
    return numbers


def _folds(path: Path, frame: pd.DataFrame) -> pd.Series:
    if "fold" not in frame or (frame["fold"] == "").all():
        return pd.Series(-1, frame.index)
    numbers = pd.to_numeric(frame["fold"].replace("", "-1"), errors="coerce")
    bad = ~(numbers.ge(-1) & numbers.eq(numbers.round()))
    if bad.any():
        raise DataError(f"table '{path}' has fold '{frame['fold'][bad].iloc[0]}'; number the folds 0, 1, 2 ...")
    return numbers.astype(int)


def _check(path: Path, frame: pd.DataFrame) -> None:
    if unknown := set(frame["split"]) - set(SPLITS):
        raise DataError(f"table '{path}' has split '{min(unknown)}'; rows to be judged are {', '.join(SPLITS)}")
    doubled = frame["image"][frame["image"].duplicated()]
    if len(doubled):
        raise DataError(
            f"table '{path}' lists image '{doubled.iloc[0]}' twice ({len(doubled)} such rows); list it once"
        )
    for split, rows in frame.groupby("split"):
        if rows["label"].nunique() < 2:
            raise DataError(f"split {split} in '{path}' holds one class; figures need both")
    for column in ("split", "fold"):
        torn = frame[frame["fold"] >= 0] if column == "fold" else frame
        sides = torn.groupby("group")[column].nunique()
        if (sides > 1).any():
            raise LeakError(
                f"patient '{sides.index[sides > 1][0]}' stands in two {column}s of '{path}' ({int((sides > 1).sum())} "
                "such): what is fitted on one side was seen on the other. Give each patient one"
            )


def _numbers(column: pd.Series) -> pd.Series:
    filled = column.replace("", None)
    numbers = pd.to_numeric(filled, errors="coerce")
    return numbers if filled.notna().any() and numbers.notna().eq(filled.notna()).all() else column
