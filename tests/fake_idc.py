"""Kaggle's breast histopathology folder, with its nested copy."""

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np

NESTED = "IDC_regular_ps50_idx5"


def patch(rng: np.random.Generator, label: int, height: int = 50, width: int = 50) -> np.ndarray:
    """Pink tissue with dark nuclei, BGR: more of them in carcinoma."""
    image = np.full((height, width, 3), (205, 160, 225), np.float64)
    image += cv2.GaussianBlur(rng.normal(size=(height, width, 3)), (0, 0), 4) * 120
    for x, y in rng.integers(2, min(height, width) - 2, (12 if label else 5, 2)):
        cv2.circle(image, (int(x), int(y)), 3, (130, 60, 110), -1)
    return np.clip(image + rng.normal(scale=5, size=image.shape), 0, 255).astype(np.uint8)


def write_idc(root: Path, *, patients: int = 12, seed: int = 0) -> dict[str, Any]:
    """Six patches a patient; of the first patient one is cut off, of the second one is grey, the third nested."""
    rng = np.random.default_rng(seed)
    for number in range(patients):
        patient = str(8863 + number)
        for place in range(6):
            label, cut = place % 2, number == 0 and place == 5
            image = patch(rng, label, 50, 31 if cut else 50)
            if number == 1 and place == 4:
                image = np.repeat(image.mean(2, keepdims=True), 3, axis=2).astype(np.uint8)
            folder = root / patient / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{patient}_idx5_x{51 + 50 * place}_y101_class{label}.png"), image)
        if number == 2:
            shutil.copytree(root / patient, root / NESTED / patient, dirs_exist_ok=True)
    return {"root": root}
