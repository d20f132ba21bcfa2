"""The members of an ensemble: runs that scored the same rows in the same folds, and what they said of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mammo_lightning.errors import DataError, SettingsError, one_of
from mammo_lightning.evaluation import metrics
from mammo_lightning.evaluation.calibration import Platt
from mammo_lightning.evaluation.combining import mean_fold_aucs
from mammo_lightning.record import TABLES
from mammo_lightning.runs import Scored
from mammo_lightning.types import Level, Predictions

Floats = NDArray[np.float64]

#: what members are chosen by, and the metric it is
BY = {"val_auc": "", "val_pooled_auc": "auc", "val_pauc": "pauc", "val_ap": "ap"}
#: the same for members that a person named
BY_HAND = "named"
#: the rows on which members can be combined: out of fold, or patients reserved from all of them
SPLITS = ("val", "reserve")
#: columns in which the tables of members must agree
ALIKE = ("image", "label", "group", "fold")


@dataclass(frozen=True)
class Pool:
    """Runs with their scores of the same rows; what is chosen of them is chosen by rows, never by all that is known."""

    members: tuple[Scored, ...]
    digests: tuple[str, ...]
    rows: Predictions
    raw: Floats  # members x rows
    split: str = "val"
    _calibrators: dict[int, dict[frozenset[int | None], Platt]] = field(default_factory=dict, init=False, repr=False)
    _at: dict[Level, tuple[Predictions, Floats]] = field(default_factory=dict, init=False, repr=False)

    @property
    def folds(self) -> list[int]:
        """The folds of the rows."""
        return sorted(set(self.rows.folds.tolist()))

    def scores(self, chosen: Sequence[int], without: int | None = None) -> Floats:
        """Calibrated scores of some members: each fold's by rows of other folds, and none by rows of `without`.

        Fold models are calibrated as those of a final are. What experts said of reserved patients is calibrated
        already, on other rows.
        """
        if self.split == "reserve":
            return np.asarray(self.raw[list(chosen)], float)
        return np.stack([self._across(each, without) for each in chosen])

    def _across(self, member: int, without: int | None) -> Floats:
        scores = np.asarray(self.raw[member], float)
        done = scores.copy()
        if member not in self._calibrators:
            self._calibrators[member] = self._fitted(scores)
        for fold in self.folds:
            platt = self._calibrators[member].get(frozenset({fold, without} - {None}))
            if platt:  # of two folds none is left for the other: its scores stay
                rows = self.rows.folds == fold
                done[rows] = platt(scores[rows])
        return done

    def _fitted(self, scores: Floats) -> dict[frozenset[int | None], Platt]:
        """A calibrator for each fold or pair of folds that is not looked at."""
        unseen = [frozenset(pair) for pair in (*combinations(self.folds, 1), *combinations(self.folds, 2))]
        unseen = [folds for folds in unseen if len(folds) < len(self.folds)]
        subsets = np.stack([~np.isin(self.rows.folds, list(folds)) for folds in unseen])
        return dict(zip(unseen, Platt.fit_each(self.rows.labels, scores, subsets), strict=True))

    def ranked(self, by: str, level: Level, without: int | None = None) -> list[int]:
        """Members, the best first, by rows of folds other than `without`."""
        if by not in BY:
            raise SettingsError(f"--by {by!r} is not known; {one_of(BY)}")
        rows, scores = self._of_level(level)
        seen = rows.folds != without
        labels, folds = rows.labels[seen], rows.folds[seen]
        if by == "val_auc":
            values = mean_fold_aucs(scores[:, seen], labels, folds)
        else:
            values = np.array([metrics.measure(labels, each, each >= 0.5)[BY[by]][0] for each in scores[:, seen]])
        return [int(each) for each in np.argsort(-values, kind="stable")]

    def _of_level(self, level: Level) -> tuple[Predictions, Floats]:
        if level not in self._at:
            at = [self.rows.with_scores(scores).at(level) for scores in self.raw]
            self._at[level] = at[0], np.stack([each.scores for each in at])
        return self._at[level]


def pool(members: Sequence[Scored], split: str = "val") -> Pool:
    """Read what the members predicted, in one order; refuse those that do not belong together, by name.

    Args:
        members: Runs of the same images and folds.
        split: `val`, or `reserve` for the experts of nested studies.
    """
    members = list({each.run_id: each for each in members}.values())
    if len(members) < 2:
        raise SettingsError(
            f"{len(members)} member{'' if len(members) == 1 else 's'}; an ensemble needs 2 or more. Name more runs or "
            "studies"
        )
    digests = tuple(each.digest(split) for each in members)
    first = members[0].predictions(split)
    if len(first.classes) != 2:
        raise DataError(f"run '{members[0].run_id}' has classes {', '.join(first.classes)}; two can be combined")
    rows = {column: pa.chunked_array([pa.array(first.frame[column])]) for column in ALIKE}
    raw = [first.scores]
    for each in members[1:]:
        _same_kind(members[0], each)
        scores = _quickly(each, split, rows, first.classes)
        if scores is None:
            table = each.predictions(split)
            _same(members[0], first, each, table)
            scores = table.scores[_order(first, table)]
        _same_pixels(members[0], each)
        raw.append(scores)
    return Pool(tuple(members), digests, first, np.stack(raw), split)


def _quickly(member: Scored, split: str, rows: dict[str, pa.ChunkedArray], classes: tuple[str, ...]) -> Floats | None:
    """The scores of a table whose rows are the first's, in its order; of hundreds, nothing else need be read."""
    try:
        table = pq.read_table(member.run.artifacts / TABLES[split])
    except pa.ArrowInvalid:  # told by whoever reads it in whole
        return None
    if (
        not {*ALIKE} <= set(table.column_names)
        or tuple(name[2:] for name in table.column_names if name.startswith("p_")) != classes
    ):
        return None
    if not all(table[name].cast(kept.type).equals(kept) for name, kept in rows.items()):
        return None
    scores = table[f"p_{classes[-1]}"].to_numpy().astype(float)
    return scores if np.isfinite(scores).all() else None


def _order(first: Predictions, other: Predictions) -> NDArray[np.int64]:
    places = {image: place for place, image in enumerate(other.frame["image"])}
    return np.array([places[image] for image in first.frame["image"]], np.int64)


def _same_kind(one: Scored, other: Scored) -> None:
    for what in ("domain", "leaky"):
        mine, theirs = one.tags.get(what), other.tags.get(what)
        if mine != theirs:
            raise DataError(
                f"run '{other.run_id}' is tagged {what}={theirs} and '{one.run_id}' {what}={mine}; combine runs that "
                "are alike"
            )


def _same_pixels(one: Scored, other: Scored) -> None:
    """Refuse members of the same images read otherwise: one image is given to all members."""
    mine, theirs = one.tags.get("folds"), other.tags.get("folds")
    if mine and theirs and mine != theirs:
        raise DataError(
            f"run '{other.run_id}' has read the images of '{one.run_id}' in another way (folds {theirs} and {mine}): "
            "pixels, or images that are in no fold, differ. Combine runs of one --size and the same options of the data"
        )


def _same(one: Scored, first: Predictions, other: Scored, second: Predictions) -> None:
    """Refuse a member of other classes, images, labels, groups or folds, saying which."""
    names = f"run '{other.run_id}'", f"'{one.run_id}'"
    if first.classes != second.classes:
        raise DataError(
            f"{names[0]} tells {', '.join(second.classes)} apart and {names[1]} {', '.join(first.classes)}; combine "
            "runs of one task"
        )
    left, right = first.frame.set_index("image"), second.frame.set_index("image")
    if len(alone := left.index.symmetric_difference(right.index)):
        raise DataError(
            f"{names[0]} has other images than {names[1]}: '{alone[0]}' and {len(alone) - 1} more stand in one of them "
            "only. Combine runs of one dataset"
        )
    for column in ("label", "group", "fold"):
        differ = left.index[(left[column] != right[column].reindex(left.index)).to_numpy()]
        if len(differ):
            raise DataError(
                f"{names[0]} has another {column} of image '{differ[0]}' than {names[1]} ({len(differ)} such); combine "
                "runs with the same folds (--folds, --fold-seed, --test, --reserve)"
            )
