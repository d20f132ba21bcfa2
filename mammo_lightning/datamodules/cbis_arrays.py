"""CBIS-DDSM as four NumPy arrays: a baseline patch at every even index, its abnormality at the odd one after it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo_lightning.errors import DataError

PARTS = {
    "train": ("train_tensor.npy", "train_labels.npy"),
    "test": ("public_test_tensor.npy", "public_test_labels.npy"),
}
NAMES = tuple(name for pair in PARTS.values() for name in pair)
#: what the codes stand for: abnormality and pathology
CODES = {0: ("", ""), 1: ("mass", "benign"), 2: ("mass", "malignant"), 3: ("calc", "benign"), 4: ("calc", "malignant")}


def are_arrays(root: Path) -> bool:
    """Whether a folder holds any of the four arrays."""
    return any(_there(root / name) for name in NAMES)


def array_rows(root: Path) -> pd.DataFrame:
    """One row a patch, baseline patches among them: abnormality, pathology and the pair it belongs to."""
    if missing := [name for name in NAMES if not _there(root / name)]:
        raise DataError(f"'{root}' lacks {', '.join(missing)}; expected {', '.join(NAMES)}")
    frames = [_part(root, split) for split in PARTS]
    shapes = {split: tensor(root / names[0]).shape[1:] for split, names in PARTS.items()}
    if shapes["train"] != shapes["test"]:
        told = " and ".join("x".join(map(str, shape)) for shape in shapes.values())
        raise DataError(f"patches of '{root}' are {told} pixels; those of train and test must be of one size")
    return pd.concat(frames, ignore_index=True)


def tensor(path: Path) -> NDArray[np.uint16]:
    """All patches of a file, mapped: nothing is read until it is looked at."""
    array = _mapped(path)
    if array.dtype.newbyteorder("=") != np.uint16:
        raise DataError(f"'{path}' holds {array.dtype}; the patches are 16-bit (uint16). Save them without conversion")
    if array.ndim != 3 or not array.size:
        raise DataError(f"'{path}' has shape {array.shape}; expected number x height x width, grey")
    return array


def patches_of(patches: NDArray[np.uint16], image: str, pairs: bool) -> NDArray[np.uint16]:
    """The patch of a row, with `pairs` as the first of two channels before its baseline patch."""
    number = int(image.rpartition("/")[2])
    found = np.stack([patches[number], patches[number - 1]], axis=-1) if pairs else patches[number]
    return np.array(found, np.uint16)


def _part(root: Path, split: str) -> pd.DataFrame:
    patches, labels = (root / name for name in PARTS[split])
    codes = _codes(labels)
    count = len(tensor(patches))
    if len(codes) != count:
        raise DataError(
            f"'{patches}' has {count} patches and '{labels}' {len(codes)} labels; both must be of one length"
        )
    if count % 2:
        raise DataError(f"'{patches}' has {count} patches; they come in pairs, a baseline patch and its abnormality")
    odd = np.arange(count) % 2 == 1
    if (wrong := (codes > 0) != odd).any():
        at = int(wrong.argmax())
        raise DataError(
            f"'{labels}' has code {codes[at]} at index {at}; even indices are baseline patches (0), odd ones "
            "abnormalities (1-4). Do not shuffle or sort the arrays"
        )
    pairs = [f"{'' if split == 'train' else 'test-'}pair-{number // 2:05d}" for number in range(count)]
    return pd.DataFrame(
        {
            "image": [f"{split}/{number:05d}" for number in range(count)],
            "path": str(patches),
            "patient": pairs,
            "pair": pairs,
            "split": split,
            "abnormality": [CODES[code][0] for code in codes.tolist()],
            "pathology": [CODES[code][1] for code in codes.tolist()],
        }
    )


def _codes(path: Path) -> NDArray[np.int64]:
    values = _mapped(path)
    if values.ndim != 1 or values.dtype.kind not in "iuf":
        raise DataError(f"'{path}' holds {values.dtype} of shape {values.shape}; expected one code of 0-4 a patch")
    if (outside := ~np.isin(values, list(CODES))).any():
        at = int(outside.argmax())
        raise DataError(f"'{path}' has code {values[at]} at index {at}; known: 0 (baseline), 1-4")
    return np.asarray(values, np.int64)


def _there(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises below a folder that may not be entered


def _mapped(path: Path) -> NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception:  # a head that is damaged is parsed as Python, and raises what that happens to provoke
        raise DataError(f"'{path}' is cut short or no plain NumPy array. Write it with numpy.save") from None
    if not isinstance(array, np.ndarray):  # several arrays in one archive
        raise DataError(f"'{path}' is an archive of arrays; expected one array. Write it with numpy.save")
    if isinstance(array, np.memmap) and path.stat().st_size != array.offset + array.nbytes:
        raise DataError(f"'{path}' is longer than its head says: it is damaged. Copy it again")
    return array
