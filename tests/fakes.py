"""Small stand-ins for real data, generated on the spot: one writer for each dataset that reads files."""

import importlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from mammo_lightning.datamodules.base import MammoDataModule
from mammo_lightning.registry import DATASETS
from mammo_lightning.types import Predictions


def patch(rng: np.random.Generator, label: int, size: int = 32) -> np.ndarray:
    """Smooth noise, with a few bright specks where the label is 1."""
    field = cv2.GaussianBlur(rng.normal(size=(size, size)), (0, 0), 3) * 200 + 110
    if label:
        for y, x in rng.integers(8, size - 8, (6, 2)):
            field[y : y + 2, x : x + 2] += 60
    return np.clip(field + rng.normal(scale=4, size=field.shape), 0, 255).astype(np.uint8)


def write_microcalc(root: Path, *, patients: int = 20, seed: int = 0, test: int = 0) -> dict[str, Any]:
    """INFN's layout: the letter b is of clusters only, a of both; `test` patients stand in Test."""
    rng = np.random.default_rng(seed)
    for number in range(patients + test):
        part = "Train" if number < patients else "Test"
        label = number % 2
        letter = "s" if number % 4 < 2 else "b"
        folder = root / "IMAGES" / "Mammography_micro" / part / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        for crop in range(1, 4):
            name = f"{number:04d}{letter}1_{1 + crop % 2}_0.pgm_{crop}.pgm"
            cv2.imwrite(str(folder / name), patch(rng, label))
    return {"root": root}


def write_folder(root: Path, *, patients: int = 20, seed: int = 0) -> dict[str, Any]:
    """One folder a class, the patient in front of the underscore."""
    rng = np.random.default_rng(seed)
    for number in range(patients):
        label = number % 2
        folder = root / ("benign", "malignant")[label]
        folder.mkdir(parents=True, exist_ok=True)
        for crop in range(3):
            cv2.imwrite(str(folder / f"p{number:03d}_{crop}.png"), patch(rng, label))
    return {"root": root, "patient_from": r"(p\d+)_"}


def write_synthetic(root: Path, *, patients: int = 60, seed: int = 0) -> dict[str, Any]:
    """Nothing to write: it is generated."""
    return {"patients": patients}


WRITERS: dict[str, Callable[..., dict[str, Any]]] = {
    "microcalc": write_microcalc,
    "folder": write_folder,
    "synthetic": write_synthetic,
}


def _of_file(name: str) -> Callable[..., dict[str, Any]]:
    """The writer of a larger dataset, which stands in a file of its own."""

    def write(root: Path, **how: Any) -> dict[str, Any]:
        written: dict[str, Any] = getattr(importlib.import_module(f"fake_{name}"), f"write_{name}")(root, **how)
        return written

    return write


WRITERS |= {name: _of_file(name) for path in Path(__file__).parent.glob("fake_*.py") if (name := path.stem[5:])}


def dataset(name: str, tmp_path: Path, **how: Any) -> MammoDataModule:
    """A registered dataset on generated files, set up."""
    options = WRITERS[name](tmp_path / "data", **how)
    data: MammoDataModule = DATASETS.get(name)(mlruns=tmp_path / "mlruns", **options)
    data.prepare_data()
    return data


def archive(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> Path:
    """A tar.gz with the given members."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def predictions(
    *, patients: int = 60, per_patient: int = 3, folds: int = 5, effect: float = 1.5, seed: int = 0, split: str = "val"
) -> Predictions:
    """Clustered scores of a given quality."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), per_patient)
    label = (patient % 3 == 0).astype(int)
    logits = rng.normal(size=len(patient)) + effect * label + rng.normal(size=patients)[patient] * 0.7 - 1
    score = 1 / (1 + np.exp(-logits))
    names = [f"p{number:03d}" for number in patient]
    frame = pd.DataFrame(
        {
            "image": [f"{name}/{index}" for index, name in enumerate(names)],
            "patient": names,
            "group": names,
            "view": "",
            "fold": patient % folds,
            "split": split,
            "label": label,
            "p_negative": 1 - score,
            "p_positive": score,
        }
    )
    return Predictions(frame)
