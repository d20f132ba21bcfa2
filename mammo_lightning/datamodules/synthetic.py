"""The embedded dataset: mammogram-like patches from a seed, and faults to try an audit on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo_lightning.datamodules import phantom
from mammo_lightning.datamodules.base import MammoDataModule
from mammo_lightning.errors import SettingsError, one_of
from mammo_lightning.registry import DATASETS
from mammo_lightning.types import digest

TRAPS = ("patient", "source", "duplicate", "label-noise")
#: share of training labels that the trap `label-noise` turns over
NOISE = 0.15
SUBTLETIES = ("subtle", "moderate", "obvious")

Content = tuple[phantom.Images, pd.DataFrame]


@DATASETS.register("synthetic")
class Synthetic(MammoDataModule):
    """Patches of 64 x 64 pixels of 0.15 mm from a model of tissue, lesion and detector (`phantom.py`); no files.

    Paper: none. The texture is a power law of exponent about 3 (Burgess 1999, Med Phys 26:419); the attenuation of
    gland, fat and carcinoma follows Johns and Yaffe 1987 (Phys Med Biol 32:675).
    Licence: that of this package.
    Layout on disk: none; patients 0, 1, 2 ... of `seed`. More patients leave the first ones as they are.
    Classes: `normal`, `lesion`. A quarter of the patients have one lesion, seen in one of two patches of both views,
    so one patch in eight is positive. Every fourth patient is in the official test split.
    Columns: `source` (film, digital) and `density` (A to D) describe the image; `lesion_type` and `subtlety` follow
    from the label and serve only to break figures down.

    Args:
        patients: How many patients, four patches each.
        seed: Which patients.
        trap: A fault planted for the audit to find:
            `patient`: the MLO view of every 20th patient stands in the other official split than her CC view;
            `source`: 97 % of lesion patches are film and 97 % of normal ones digital, in pixels, column and file name;
            `duplicate`: of every 20 patients, two pairs of patients share one identical normal patch, one of the
            pairs across the official split;
            `label-noise`: 15 % of the labels in the training split are turned over. In a third of the training
            patients without lesion the CC view holds the same image twice, labelled independently: about a quarter
            of these pairs (2 x 0.15 x 0.85) contradict themselves, which is how the noise can be seen and estimated.
        options: What every dataset takes.
    """

    name: ClassVar[str] = "synthetic"
    classes = ("normal", "lesion")
    sampling: Literal["exhaustive", "selected"] = "exhaustive"
    synthetic: ClassVar[bool] = True
    spacing_mm = phantom.PIXEL_MM
    #: columns that follow from the label: figures are broken down by them, nothing is predicted from them
    answers: ClassVar[tuple[str, ...]] = ("lesion_type", "subtlety")

    def __init__(self, *, patients: int = 240, seed: int = 0, trap: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        if trap is not None and trap not in TRAPS:
            raise SettingsError(f"no trap {trap!r}; {one_of(TRAPS)}")
        if patients < 20:
            raise SettingsError(f"patients={patients} is too few for two splits with lesions; use 20 or more")
        _check_seed(seed)
        self.patients, self.seed, self.trap = patients, seed, trap

    def index(self) -> pd.DataFrame:
        """One row a patch; see the columns above."""
        return self._content[1].copy()

    def read(self, row: Mapping[str, Any]) -> NDArray[np.uint16]:
        """The pixels of one patch, 64 x 64, 16 bits."""
        pixels: NDArray[np.uint16] = self._content[0][self._rows[row["image"]]]
        return pixels

    def fresh(self, patients: int) -> Iterator[tuple[phantom.Images, NDArray[np.int64], pd.DataFrame]]:
        """New patients of the same kind, to measure the truth on."""
        return fresh(self.seed, patients)

    def contents(self, frame: pd.DataFrame) -> list[str]:
        """What the pixels follow from."""
        return [
            digest("phantom", phantom.VERSION, self.seed, self.patients, self.trap, image) for image in frame["image"]
        ]

    @cached_property
    def _content(self) -> Content:
        images, frame = phantom.generate(self.seed, 0, self.patients, source_follows_label=self.trap == "source")
        number = frame["patient"].to_numpy()
        frame = _named(frame).assign(split=np.where(number % 4 == 3, "test", "train"))
        if self.trap == "source":
            frame["image"] = frame["source"] + "_" + frame["image"]
        if self.trap in _PLANTS:
            images, frame = _PLANTS[self.trap](images, frame, number, np.random.default_rng(self.seed))
        return images, frame

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {image: row for row, image in enumerate(self._content[1]["image"])}


def fresh(
    seed: int, patients: int, *, chunk: int = 320
) -> Iterator[tuple[phantom.Images, NDArray[np.int64], pd.DataFrame]]:
    """Patients that no dataset of any seed holds, to measure what a score is worth: images, labels, frame in chunks.

    Args:
        seed: Which patients; streams of fresh patients share nothing with the dataset of the same seed.
        patients: How many; four patches each.
        chunk: Patients at a time.
    """
    _check_seed(seed)
    for start in range(0, patients, chunk):
        images, frame = phantom.generate(seed, start, min(chunk, patients - start), stream=1)
        yield images, frame["label"].to_numpy(np.int64), _named(frame)


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise SettingsError(f"seed={seed} is negative; use 0 or more")


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    """The index of drawn patients: names for numbers, and three degrees for a lesion's contrast."""
    patient = "p" + frame["patient"].astype(str).str.zfill(4)
    degree = np.array(SUBTLETIES)[np.digitize(frame["contrast"], (1.5, 3.0))]
    return pd.DataFrame(
        {
            "image": patient + "_" + frame["view"] + "_" + frame["patch"].astype(str),
            **{"patient": patient, "view": frame["view"], "label": frame["label"]},
            **{column: frame[column] for column in ("source", "density")},
            "lesion_type": frame["lesion"],
            "subtlety": np.where(frame["label"] == 1, degree, "none"),
        }
    )


def _plant_patient(
    images: phantom.Images, frame: pd.DataFrame, number: NDArray[np.int64], rng: np.random.Generator
) -> Content:
    """A patient on both sides of the official split."""
    moved = (number % 20 == 3) & (frame["view"] == "MLO").to_numpy()
    return images, frame.assign(split=frame["split"].mask(moved, "train"))


def _plant_duplicate(
    images: phantom.Images, frame: pd.DataFrame, number: NDArray[np.int64], rng: np.random.Generator
) -> Content:
    """A normal patch of one patient under the name of another, inside the training split and across the splits."""
    images = images.copy()
    normal = np.flatnonzero(frame["label"] == 0)
    patients, first = np.unique(number[normal], return_index=True)
    row = dict(zip(patients.tolist(), normal[first].tolist(), strict=True))
    for one in range(0, len(row) - 3, 20):
        images[row[one + 1]] = images[row[one]]
        images[row[one + 3]] = images[row[one + 2]]  # every fourth patient is in the test split
    return images, frame


def _plant_label_noise(
    images: phantom.Images, frame: pd.DataFrame, number: NDArray[np.int64], rng: np.random.Generator
) -> Content:
    """Labels turned over, images given twice; what is recorded about a lesion agrees with the recorded label."""
    images = images.copy()
    healthy = ~frame["label"].groupby(number).transform("any").to_numpy(bool)
    second = (number % 4 == 0) & healthy & frame["image"].str.endswith("CC_2").to_numpy()
    rows = np.flatnonzero(second)
    images[rows] = images[rows - 1]
    training = np.flatnonzero(frame["split"] == "train")
    turned = np.zeros(len(frame), bool)
    turned[rng.choice(training, round(NOISE * len(training)), replace=False)] = True
    label = frame["label"].to_numpy() ^ turned
    lesion = frame["lesion_type"].mask(turned, pd.Series(np.where(label == 1, "round", "none")))
    subtlety = frame["subtlety"].mask(turned, pd.Series(np.where(label == 1, "subtle", "none")))
    return images, frame.assign(label=label, lesion_type=lesion, subtlety=subtlety)


_PLANTS: dict[str | None, Callable[..., Content]] = {
    "patient": _plant_patient,
    "duplicate": _plant_duplicate,
    "label-noise": _plant_label_noise,
}
