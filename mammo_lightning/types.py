"""The few nouns everybody shares."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo_lightning.errors import DataError, one_of

CORE_COLUMNS = ("image", "patient", "group", "view", "fold", "split", "label")


#: what a row is beyond that, where it is known; carried along, and never a subgroup
PLACE_COLUMNS = ("exam", "laterality", "lesion", "label_basis", "target")


class Level(StrEnum):
    """What one row stands for."""

    patch = "patch"
    lesion = "lesion"
    view = "view"
    breast = "breast"
    exam = "exam"
    patient = "patient"


#: the columns that name one thing of a level; a table that lacks one has no such level
LEVEL_KEYS: dict[Level, tuple[str, ...]] = {
    Level.patch: ("image",),
    Level.lesion: ("patient", "exam", "laterality", "lesion"),
    Level.view: ("patient", "exam", "laterality", "view"),
    Level.breast: ("patient", "exam", "laterality"),
    Level.exam: ("patient", "exam"),
    Level.patient: ("patient",),
}
#: what must be known on every row for a level to mean something
LEVEL_NEEDS: dict[Level, tuple[str, ...]] = {
    Level.patch: (),
    Level.lesion: (),  # patches of no lesion stay by themselves
    Level.view: ("view",),
    Level.breast: ("laterality", "view"),
    Level.exam: ("exam",),
    Level.patient: (),
}


class Split(StrEnum):
    """Which side of a wall a row stands on."""

    train = "train"
    val = "val"
    test = "test"
    external = "external"


class Outcome(StrEnum):
    """How a run ended; MLflow's states are mapped from it."""

    completed = "completed"
    pruned = "pruned"
    failed = "failed"
    interrupted = "interrupted"


class Kind(StrEnum):
    """What a run is."""

    study = "study"
    reference = "reference"
    trial = "trial"
    final = "final"
    ensemble = "ensemble"
    comparison = "comparison"
    external = "external"
    generator = "generator"
    audit = "audit"


#: stands before the name of a patch without lesion, which is no name of a lesion
_ALONE = "\0"


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and how it was chosen: score >= threshold is called positive."""

    threshold: float
    level: Level
    rule: str  # youden | sens0.95 | spec0.80 | fixed0.5


@dataclass(frozen=True)
class Predictions:
    """What a run ends in: one row an image, with the probability of each class.

    Columns: image, patient, group, view, fold, split, label (0 or 1), p_<class> for each class in order (the
    positive class last), then subgroups (source, density ...).
    """

    frame: pd.DataFrame
    _above: dict[Level, Predictions] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        missing = [column for column in CORE_COLUMNS if column not in self.frame]
        if missing or len(self.classes) < 2:
            raise DataError(
                f"predictions lack {missing or 'p_<class> columns'}; needed: {', '.join(CORE_COLUMNS)}, p_*"
            )
        if not np.isfinite(self.frame[[f"p_{name}" for name in self.classes]].to_numpy(float)).all():
            raise DataError("predictions hold NaN or infinite scores; every image needs a finite score")

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in order, positive last."""
        return tuple(column[2:] for column in self.frame.columns if column.startswith("p_"))

    @property
    def scores(self) -> NDArray[np.float64]:
        """Probability of the positive class."""
        return self.frame[f"p_{self.classes[-1]}"].to_numpy(float)

    @property
    def labels(self) -> NDArray[np.int64]:
        """1 for the positive class."""
        return self.frame["label"].to_numpy(np.int64)

    @property
    def groups(self) -> NDArray[np.object_]:
        """Patients that must stay together: the unit that is resampled."""
        return self.frame["group"].astype(str).to_numpy(object)

    @property
    def folds(self) -> NDArray[np.int64]:
        """The fold in which a row was scored; -1 where there is none."""
        return self.frame["fold"].to_numpy(np.int64)

    def at(self, level: Level | str) -> Predictions:
        """One row a lesion, view, breast, exam or patient.

        It is positive iff any of its patches is, hence the maximum of scores and labels; the score of a breast is the
        mean of its views (CC and MLO).
        """
        level = Level(level)
        if level is Level.patch:
            return self
        if level not in self._above:
            self._above[level] = self._aggregated(level)
        return self._above[level]

    def _aggregated(self, level: Level) -> Predictions:
        if level is Level.breast:
            return self.at(Level.view)._one_each(level, "mean")
        return self._one_each(level, "max")

    def _one_each(self, level: Level, score: str) -> Predictions:
        if level not in (known := levels_of(self.frame)):
            raise DataError(f"no level {level} here: its columns are not filled in on every row; {one_of(known)}")
        keys = [key for key in LEVEL_KEYS[level] if key in self.frame]
        frame = self.frame.drop(
            columns=["target"], errors="ignore"
        )  # a patch has a finer class, what holds it has many
        if level is Level.lesion:  # tissue without a lesion stays as many patches as it is
            alone = _ALONE + frame["image"].astype(str)
            frame = frame.assign(lesion=frame["lesion"].astype(str).where(_told(frame["lesion"]), alone))
        positive = f"p_{self.classes[-1]}"
        firsts = [column for column in frame.columns if column not in keys and not column.startswith(("p_", "q_"))]
        how: dict[str, str] = dict.fromkeys(firsts, "first") | {"label": "max", positive: score}
        frame = frame.groupby([*keys, "fold"], sort=True, as_index=False, dropna=False).agg(how)
        named = frame[keys[0]].astype(str)
        for key in keys[1:]:
            named = named + "/" + frame[key].astype(str)
        if level is Level.lesion:
            frame["lesion"] = frame["lesion"].where(~frame["lesion"].str.startswith(_ALONE), "")
        frame["image"] = named
        frame[f"p_{self.classes[0]}"] = 1.0 - frame[positive]
        return Predictions(frame[[column for column in self.frame.columns if column in frame]])

    def where(self, mask: NDArray[np.bool_] | pd.Series) -> Predictions:
        """The rows a mask keeps."""
        return Predictions(self.frame.loc[np.asarray(mask)].reset_index(drop=True))

    def with_scores(self, scores: NDArray[np.float64]) -> Predictions:
        """The same rows with other probabilities of the positive class (two classes)."""
        first, last = self.classes
        return Predictions(self.frame.assign(**{f"p_{first}": 1.0 - scores, f"p_{last}": scores}))

    def counts(self) -> str:
        """The counts printed beside every figure: `117+/219- · 141 patients`."""
        positive = int(self.labels.sum())
        return f"{positive}+/{len(self) - positive}- · {self.frame['patient'].nunique()} patients"

    def write(self, path: Path) -> Path:
        """Write as parquet, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        self.frame.to_parquet(part, index=False)
        part.replace(path)
        return path

    @classmethod
    def read(cls, path: Path) -> Predictions:
        """Read what `write` wrote."""
        if not path.is_file():
            raise DataError(f"no predictions at '{path}'; expected a predictions.parquet of a run")
        return cls(pd.read_parquet(path))


def _told(column: pd.Series) -> pd.Series:
    """Where a column says something."""
    return column.notna() & ~column.astype(str).str.strip().isin(["", "nan", "None", "<NA>"])


def levels_of(frame: pd.DataFrame) -> list[Level]:
    """The levels whose columns are filled in on every row; lesions, on any row."""
    told = {column: bool(_told(frame[column]).all()) for column in ("view", "laterality", "exam") if column in frame}
    found = [level for level, needs in LEVEL_NEEDS.items() if all(told.get(need, False) for need in needs)]
    if "lesion" not in frame or not _told(frame["lesion"]).any():
        found.remove(Level.lesion)
    return found


def digest(*parts: object) -> str:
    """A short, stable name for a content: 16 hex digits of SHA-256 over the parts."""
    hasher = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogateescape")
        hasher.update(len(data).to_bytes(8, "little"))
        hasher.update(data)
    return hasher.hexdigest()[:16]


def seed_from(*parts: object) -> int:
    """A 31-bit seed that depends on the parts and on nothing else (not on order of execution or time)."""
    return int(digest(*parts)[:12], 16) % (2**31 - 1)
