"""Who is trained on, who is scored, who is tested on: made once by group, frozen, carried by digest."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
from filelock import FileLock
from numpy.typing import NDArray

from mammo_lightning.datamodules.base import MammoDataModule
from mammo_lightning.datamodules.quick import frozen_patients, looked_at
from mammo_lightning.errors import DataError, LeakError, SettingsError
from mammo_lightning.types import digest, seed_from

#: codes of the column `fold` below zero
TRAIN_ONLY, RESERVE, TEST, DROPPED = -1, -2, -3, -4
INNER = 0.15
MANY_GROUPS = 100


@dataclass(frozen=True)
class FitRows:
    """Positions of the rows of one fit; no group stands in two of the three."""

    train: NDArray[np.int64]
    inner: NDArray[np.int64]
    score: NDArray[np.int64]


@dataclass(frozen=True)
class Splits:
    """The frozen manifest: for every row its group and its fold (0 ... K-1, or a code below zero)."""

    frame: pd.DataFrame  # image group label fold
    dataset_digest: str
    grouping: str = "patient"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        used = self.frame[self.frame["fold"] != DROPPED]
        per_group = used.groupby("group")["fold"].agg(lambda fold: len(set(fold)))
        if len(torn := per_group[per_group > 1]):
            raise LeakError(
                f"group '{torn.index[0]}' stands in two folds ({len(torn)} such groups); give each one fold"
            )
        if self.grouping == "patient" and "pixels" in self.frame:
            per_pixels = used.groupby("pixels")["fold"].agg(lambda fold: len(set(fold)))
            if len(torn := per_pixels[per_pixels > 1]):
                names = used.loc[used["pixels"] == torn.index[0], "image"].tolist()
                raise LeakError(
                    f"identical images '{names[0]}' and '{names[1]}' stand in two folds; merge their groups"
                )

    @property
    def fold(self) -> NDArray[np.int64]:
        """The fold of every row."""
        return self.frame["fold"].to_numpy(np.int64)

    @property
    def folds(self) -> list[int]:
        """The folds that are scored."""
        return sorted(int(fold) for fold in set(self.fold) if fold >= 0)

    @property
    def digest(self) -> str:
        """Names this division of these images."""
        return digest(self.dataset_digest, self.grouping, self.manifest())

    @property
    def test_digest(self) -> str:
        """Names the test split alone: reads are counted under it, across studies."""
        rows = self.frame[self.fold == TEST]
        return digest(*sorted(rows["content"] if "content" in rows else rows["image"]))

    def manifest(self) -> str:
        """The division as csv, for a run's artifacts."""
        return self.frame[["image", "group", "fold"]].to_csv(index=False)

    def rows(self, fold: int, *, inner: bool) -> FitRows:
        """The rows of one fit: all other folds train, less an inner slice of groups where one is asked for."""
        score = np.flatnonzero(self.fold == fold)
        train = np.flatnonzero((self.fold != fold) & (self.fold >= TRAIN_ONLY))
        watched = np.array([], dtype=np.int64)
        if inner:
            seed = seed_from(self.digest, fold, "inner")
            watched = train[_slice(self.frame.iloc[train], INNER, seed)]
            train = np.setdiff1d(train, watched)
        return self.check(FitRows(train, watched, score))

    def check(self, rows: FitRows) -> FitRows:
        """Refuse rows of one fit that share a group or an image, or that come from behind the wall."""
        parts = {"train": rows.train, "inner": rows.inner, "score": rows.score}
        seen: dict[str, str] = {}
        for part, positions in parts.items():
            hidden = positions[self.fold[positions] < TRAIN_ONLY]
            if len(hidden):
                raise LeakError(
                    f"image '{self.frame['image'].iloc[hidden[0]]}' of the test split or reserve is in {part}"
                )
            for group in self.frame["group"].iloc[positions].unique():
                if seen.setdefault(group, part) != part:
                    raise LeakError(f"group '{group}' stands in both {seen[group]} and {part} of one fit")
        return rows

    def narrowed(self, fold: int, share: float) -> Splits:
        """The hold-out inside one outer fold: its rows vanish, `share` of the other groups becomes fold 0."""
        outer = self.fold
        inside = np.flatnonzero((outer != fold) & (outer >= TRAIN_ONLY))
        chosen = inside[_slice(self.frame.iloc[inside], share, seed_from(self.digest, fold, "hold-out"))]
        code = np.where(outer == fold, DROPPED, np.where(outer >= 0, TRAIN_ONLY, outer))
        code[chosen] = 0
        return Splits(self.frame.assign(fold=code), self.dataset_digest, self.grouping, self.notes)


def make_splits(
    data: MammoDataModule,
    *,
    folds: int,
    fold_seed: int = 0,
    test: float | None = None,
    reserve: float = 0.0,
    holdout: bool = False,
    straddle: str = "drop",
    grouping: str = "patient",
) -> Splits:
    """Divide a dataset: first the test split, then the reserve, then the folds. Nothing is written (see `freeze`)."""
    frame = data.frame[["image", "group", "label", "pixels", "content"]].copy()
    notes: list[str] = []
    code = np.full(len(frame), TRAIN_ONLY)
    official = data.frame["split"].to_numpy(str) == "test"
    if grouping == "image":
        frame["group"] = frame["image"]
    if official.any():
        if test is not None:
            raise SettingsError(
                f"--test {test:g} means nothing here: {data.name!r} has an official test split. Drop --test"
            )
        code[official] = TEST
        if grouping == "patient":
            code = _straddling(data, frame, official, code, straddle, notes)
    else:
        code[_test_rows(data, test)] = TEST
    if reserve:
        left = np.flatnonzero(code == TRAIN_ONLY)
        code[left[_slice(frame.iloc[left], reserve, seed_from(data.source, "reserve"))]] = RESERVE
    left = np.flatnonzero(code == TRAIN_ONLY)
    if "fold" in data.frame and not holdout:
        code[left] = data.frame["fold"].to_numpy(np.int64)[left]
        if (count := len(set(code[left]))) != folds:
            notes.append(f"the dataset names {count} folds of its own; --folds {folds} is not used")
        if count < 2:
            raise DataError("column 'fold' names one fold; at least 2 are needed. Drop the column, or number 2 or more")
    elif holdout:
        seed = seed_from(data.source, fold_seed, "hold-out")
        code[left[_slice(frame.iloc[left], data.holdout_share, seed)]] = 0
    else:
        code[left] = _folds(frame.iloc[left], folds, seed_from(data.source, folds, fold_seed))
    made = Splits(frame.assign(fold=code), data.digest, grouping, tuple(notes))
    for fold in [*made.folds, *([TEST] if (code == TEST).any() else [])]:
        if len(labels := set(frame["label"][code == fold])) < 2:
            where = "the test split" if fold == TEST else f"fold {fold}"
            only = data.classes[labels.pop()]
            raise DataError(
                f"{where} holds only class {only!r}; no AUC can be told there. Divide the patients otherwise"
            )
    return made


def reserve_folds(splits: Splits, folds: int = 5) -> NDArray[np.int64]:
    """A fold for each reserved row, by group: what is fitted on some reserved patients is judged on others."""
    frame = splits.frame.iloc[np.flatnonzero(splits.fold == RESERVE)]
    fewest, _ = _fewest(frame)
    if fewest < 2:
        return np.zeros(len(frame), np.int64)
    return _folds(frame, min(folds, fewest), seed_from("reserve", *sorted(frame["image"])))


def freeze(data: MammoDataModule, splits: Splits, test: float | None) -> None:
    """Write down the test split of a dataset without an official one; from now on every study shares it."""
    if data.limit or (data.frame["split"] == "test").any() or (path := data.split_file).exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    patients = sorted(set(data.frame["patient"][splits.fold == TEST]))
    with FileLock(f"{path}.lock"):
        if not path.exists():
            part = path.with_suffix(".part")
            part.write_text(json.dumps({"share": _share(data, test), "patients": patients}))
            part.replace(path)


def frozen_test_groups(data: MammoDataModule) -> set[str]:
    """Groups of the frozen test split; empty where none was made."""
    return set(data.frame["group"][data.frame["patient"].isin(frozen_patients(data.split_file))])


def _share(data: MammoDataModule, share: float | None) -> float:
    if data.limit is not None:  # a quick look reads no test split, and freezes none
        return 0.0
    return share if share is not None else (0.2 if data.frame["group"].nunique() >= MANY_GROUPS else 0.0)


def _straddling(
    data: MammoDataModule,
    frame: pd.DataFrame,
    official: NDArray[np.bool_],
    code: NDArray[np.int64],
    straddle: str,
    notes: list[str],
) -> NDArray[np.int64]:
    both = sorted(set(frame["group"][official]) & set(frame["group"][~official]))
    if not both:
        return code
    named = ", ".join(both[:5]) + (" ..." if len(both) > 5 else "")
    if straddle == "refuse" or not data.official:
        cure = "Pass --straddle drop" if data.official else "Give every patient one side"
        raise LeakError(f"{len(both)} patients stand in both train and test: {named}; a split is by patient. {cure}")
    leaving = frame["group"].isin(both).to_numpy() & ~official
    notes.append(f"straddle: {len(both)} patients of the official test split left the training part: {named}")
    return np.where(leaving, DROPPED, code)


def _test_rows(data: MammoDataModule, share: float | None) -> NDArray[np.int64]:
    """The test split of a dataset without an official one: the frozen one, or what would be frozen."""
    path = data.split_file
    if path.exists():
        frozen = json.loads(path.read_text())["share"]
        if share is not None and abs(frozen - share) > 1e-9:
            raise SettingsError(
                f"--test {share:g} differs from the {frozen:g} frozen with the first study of these images: patients "
                f"it trained on cannot become a test split. Pass --test {frozen:g}, or drop it"
            )
        return np.flatnonzero(data.frame["group"].isin(frozen_test_groups(data)).to_numpy())
    wanted = _share(data, share)
    if not wanted:
        return np.array([], dtype=np.int64)
    looked = set(data.frame["group"][data.frame["patient"].isin(looked_at(path))])
    unseen = np.flatnonzero(~data.frame["group"].isin(looked).to_numpy())
    if not len(unseen):
        raise DataError(f"a quick look has shown every patient: there is no one for --test {wanted:g}. Pass --test 0")
    wanted = min(wanted * data.frame["group"].nunique() / (data.frame["group"].nunique() - len(looked)), 0.9)
    return unseen[_slice(data.frame.iloc[unseen], wanted, seed_from(data.source, "test"))]


def _folds(frame: pd.DataFrame, folds: int, seed: int) -> NDArray[np.int64]:
    from sklearn.model_selection import StratifiedGroupKFold

    fewest, word = _fewest(frame)
    if fewest < folds:
        cure = f"pass --folds {fewest}" if fewest > 1 else "more patients are needed"
        raise DataError(f"{fewest} patients with {word} images are fewer than {folds} folds; {cure}")
    for attempt in range(20):  # the splitter does not promise both classes in every fold
        code = np.zeros(len(frame), dtype=np.int64)
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed + attempt)
        for fold, (_, scored) in enumerate(splitter.split(frame, frame["label"], frame["group"])):
            code[scored] = fold
        if (frame["label"].groupby(code).nunique() == 2).all():
            return code
    raise DataError(f"the patients cannot be put into {folds} folds with both classes in each; pass fewer --folds")


def _slice(frame: pd.DataFrame, share: float, seed: int) -> NDArray[np.int64]:
    """Positions of about `share` of the groups, with both classes in and outside of the slice."""
    if not 0 < share < 1:
        raise SettingsError(f"a share of {share:g} is not between 0 and 1; try 0.2")
    fewest, word = _fewest(frame)
    if fewest < 2:
        raise DataError(f"{fewest} patients with {word} images cannot be divided; at least 2 are needed on each side")
    parts = min(fewest, max(2, round(1 / min(share, 1 - share))))
    code = _folds(frame, parts, seed)
    return np.flatnonzero(code == 0 if share <= 0.5 else code != 0)


def _fewest(frame: pd.DataFrame) -> tuple[int, str]:
    """The smaller number of groups with images of a class, and that class."""
    groups = {
        word: frame.loc[frame["label"] == label, "group"].nunique()
        for label, word in ((1, "positive"), (0, "negative"))
    }
    word = min(groups, key=lambda each: groups[each])
    return groups[word], word
