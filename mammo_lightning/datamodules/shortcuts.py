"""What gives a label away without looking at tissue: each trivial predictor alone, out of fold, grouped by patient."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo_lightning.datamodules.predictors import FEW, Predictor, predictors
from mammo_lightning.errors import DataError
from mammo_lightning.evaluation.resampling import Estimate
from mammo_lightning.evaluation.statistics import mean_fold_auc_interval
from mammo_lightning.types import Predictions

#: the AUC from which a predictor of each kind is called a shortcut; pixels may be right for the right reason
LIMITS = {"name": 0.65, "column": 0.65, "size": 0.65, "count": 0.65, "intensity": 0.75}
#: and the lower end of its interval must be above this
SURE = 0.55
#: as it is printed below the table
RULE = (
    f"a shortcut reaches {LIMITS['name']:g} or more ({LIMITS['intensity']:g} by brightness), "
    f"with an interval above {SURE:g}"
)
#: from here on a predictor is the label itself
WRITTEN = 0.995
FOLDS = 5
#: rows of training weight that the prevalence has in the rate of a value
PRIOR = 2.0
MEANING = {
    "name": "whoever recognises what it stands for (a scanner, an archive) needs no lesion",
    "column": "whoever recognises it in the pixels needs no lesion",
    "size": "the way images were cut depends on the class",
    "count": "how many images a patient has depends on the class",
    "intensity": "a network may learn brightness or contrast instead of structure",
}
CURE = {
    "name": "Report the AUC within each value",
    "column": "Report the AUC within each value",
    "size": "Cut and resize both classes alike",
    "count": "Weigh patients alike, or take as many images of each",
    "intensity": "Compare with contrast normalised, and look at the contact sheets",
}


@dataclass(frozen=True)
class Shortcut:
    """What one trivial predictor reaches alone: the mean of its out-of-fold AUCs; chance is 0.5."""

    predictor: Predictor
    auc: Estimate
    told: str = ""  # how the classes differ in it

    @property
    def works(self) -> bool:
        """Whether it does well enough to be warned of."""
        return self.auc.value >= LIMITS[self.predictor.kind] and sure(self.auc)

    @property
    def line(self) -> str:
        """The warning, in plain words."""
        kind = self.predictor.kind
        where = f", {self.predictor.where}," if self.predictor.where else ""
        told = f" ({self.told})" if self.told else ""
        if kind == "name" and self.auc.value >= WRITTEN:
            return (
                f"shortcut: {self.predictor.title}{where} writes the label out, AUC {self.auc}{told}. "
                "Harmless as long as names stay out of what is trained and of what is read blind"
            )
        if kind == "column" and self.auc.value >= WRITTEN:
            return (
                f"shortcut: {self.predictor.title} is the label under another name, AUC {self.auc}{told}. "
                "Right if it describes the lesion; if it names a source, no study of these images can be believed"
            )
        cure = (
            "See whether it follows the source of the images"
            if kind == "name" and self.predictor.numeric
            else CURE[kind]
        )
        return f"shortcut: {self.predictor.title}{where} alone reaches AUC {self.auc}{told}: {MEANING[kind]}. {cure}"


def sure(auc: Estimate) -> bool:
    """Whether an AUC is above chance beyond doubt; one without a single error is, however few the patients."""
    return auc.lo > SURE or auc.value >= WRITTEN


def readable(frame: pd.DataFrame, frozen: Collection[str] = ()) -> NDArray[np.int64]:
    """Positions of the rows that may be looked at: of no group in a test split, official or `frozen` by a study."""
    tested = {*frame.loc[frame["split"] == "test", "group"], *frozen}
    return np.flatnonzero(~frame["group"].isin(tested).to_numpy())


def grouped_folds(
    frame: pd.DataFrame, *, folds: int = FOLDS, seed: int = 0, frozen: Collection[str] = ()
) -> NDArray[np.int64]:
    """A fold for every row, by group and stratified; -1 for rows that stay unread (see `readable`)."""
    from sklearn.model_selection import StratifiedGroupKFold

    code = np.full(len(frame), -1)
    inside = readable(frame, frozen)
    part = frame.iloc[inside]
    fewest = min(part.loc[part["label"] == label, "group"].nunique() for label in (0, 1))
    if fewest < 2:
        raise DataError(f"the scarcer class has {fewest} of the patients; predictors can be tried from 2 on")
    splitter = StratifiedGroupKFold(min(folds, fewest), shuffle=True, random_state=seed)
    for fold, (_, held) in enumerate(splitter.split(part, part["label"], part["group"])):
        code[inside[held]] = fold
    return code


def shortcuts(
    frame: pd.DataFrame,
    images: NDArray[Any],
    folds: NDArray[np.int64],
    *,
    classes: tuple[str, str],
    columns: Sequence[str] = (),
    formats: pd.DataFrame | None = None,
    replicates: int = 1000,
) -> list[Shortcut]:
    """What every trivial predictor reaches, the best first.

    Args:
        frame: One row an image, as a dataset's `frame` is after set-up.
        images: The decoded images (N, C, H, W), in the order of the rows.
        folds: A fold for every row, -1 for rows that stay unread.
        classes: Names of label 0 and 1.
        columns: Further columns of the frame to try (source, density ...).
        formats: Width, height, channels and bits of every file.
        replicates: Bootstrap replicates of an interval.
    """
    rows = np.flatnonzero(folds >= 0)
    part = frame.iloc[rows].reset_index(drop=True)
    shapes = None if formats is None else formats.iloc[rows].reset_index(drop=True)
    found = []
    for predictor in predictors(part, images, rows, columns=columns, formats=shapes):
        auc = out_of_fold_auc(part, predictor, folds[rows], replicates=replicates)
        found.append(Shortcut(predictor, auc, _told(predictor, part["label"].to_numpy(), classes)))
    return sorted(found, key=lambda each: -each.auc.value)


def out_of_fold_auc(
    frame: pd.DataFrame, predictor: Predictor, folds: NDArray[np.int64], *, replicates: int = 1000
) -> Estimate:
    """The mean fold AUC of a predictor whose direction is learned from the other folds only."""
    labels = frame["label"].to_numpy(np.int64)
    scores = np.empty(len(labels))
    for held, train in _divided(folds):
        learn = _by_rank if predictor.numeric else _by_value
        scores[held] = learn(predictor.values[train], labels[train], predictor.values[held])
    return judged(frame, scores, folds, replicates=replicates)


def judged(
    frame: pd.DataFrame, scores: NDArray[np.float64], folds: NDArray[np.int64], *, replicates: int = 1000
) -> Estimate:
    """Mean fold AUC of scores, with an interval from a bootstrap over groups."""
    core = frame[["image", "patient", "group", "view", "label"]]
    table = core.assign(fold=folds, split="val", p_negative=1 - scores, p_positive=scores)
    return mean_fold_auc_interval(Predictions(table.reset_index(drop=True)), replicates)


def table(found: Sequence[Shortcut]) -> pd.DataFrame:
    """The shortcut table, as it is printed and kept."""
    rows = [
        (s.predictor.key, s.predictor.kind, s.predictor.title, s.auc.value, s.auc.lo, s.auc.hi, s.works, s.told)
        for s in found
    ]
    return pd.DataFrame(rows, columns=["predictor", "kind", "what", "auc", "lo", "hi", "shortcut", "classes"])


def _divided(folds: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    for fold in np.unique(folds):
        yield folds == fold, folds != fold


def _by_value(seen: NDArray[Any], labels: NDArray[np.int64], asked: NDArray[Any]) -> NDArray[np.float64]:
    """The positive rate of each value in training, drawn towards the prevalence; the prevalence for an unseen one."""
    counts = pd.DataFrame({"value": seen, "label": labels}).groupby("value")["label"].agg(["sum", "count"])
    prevalence = float(labels.mean())
    rate = (counts["sum"] + PRIOR * prevalence) / (counts["count"] + PRIOR)
    return pd.Series(asked).map(rate).fillna(prevalence).to_numpy(float)


def _by_rank(seen: NDArray[Any], labels: NDArray[np.int64], asked: NDArray[Any]) -> NDArray[np.float64]:
    """A logistic regression on the training rank and its square: a class may also lie in the middle or at both ends."""
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(labels)) < 2:
        return np.full(len(asked), float(labels.mean()))
    ordered = np.sort(seen)

    def design(values: NDArray[Any]) -> NDArray[np.float64]:
        between = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
        rank = between / (2 * len(ordered)) - 0.5
        return np.stack([rank, rank**2], axis=1) * 4

    model = LogisticRegression(C=10.0).fit(design(seen), labels)
    return np.asarray(model.predict_proba(design(asked))[:, 1], float)


def _told(predictor: Predictor, labels: NDArray[np.int64], classes: tuple[str, str]) -> str:
    """Counts of each value, or the median of each class."""
    if predictor.numeric:
        medians = [float(np.median(predictor.values[labels == label])) for label in (0, 1)]
        return "median " + ", ".join(f"{m:.4g} in {name}" for m, name in zip(medians, classes, strict=True))
    counts = pd.crosstab(predictor.values, labels).reindex(columns=[0, 1], fill_value=0)
    if len(counts) > FEW:
        return f"{len(counts)} values"
    rows = [f"{value or 'none'} {row[0]}/{row[1]}" for value, row in counts.iterrows()]
    return f"{'/'.join(classes)}: " + ", ".join(rows)
