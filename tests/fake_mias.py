"""mini-MIAS: films of 1024 x 1024 with a breast, a label and black padding beside the chest wall, and Info.txt."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

SIDE, COARSE = 1024, 8
KINDS = ("CIRC", "SPIC", "CALC", "ASYM")
PROSE = """MINI-MIAS, as distributed
mdb is the reference number. 1st column: film; 5th, 6th: x, y.

"""


def film(rng: np.random.Generator, number: int, centres: list[tuple[float, float]]) -> np.ndarray:
    """A breast with the chest wall to the right where the number is odd; discs at centres, y from below."""
    small = SIDE // COARSE
    y, x = np.mgrid[:small, :small].astype(np.float32)
    inside = ((y - small / 2) / (0.46 * small)) ** 2 + ((x - 16) / (0.6 * small)) ** 2 < 1
    grey = cv2.GaussianBlur(rng.normal(size=(small, small)).astype(np.float32), (0, 0), 4) * 150 + 120
    grey = np.where(inside & (x >= 16), grey + rng.normal(scale=5, size=grey.shape), 4)
    grey[4:14, 105:115] = 255  # the label
    grey[:, :16] = 0
    grey = np.clip(grey[:, ::-1] if number % 2 else grey, 0, 220).astype(np.uint8)
    image = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    for across, up in centres:
        cv2.circle(image, (round(across), round(SIDE - up)), 30, 250, -1)
    return image


def write_mias(root: Path, *, patients: int = 20, seed: int = 0) -> dict[str, Any]:
    """Two films a patient; odd patients have a lesion in one of them, every eighth two; one more film is listed."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    lines = []
    for patient in range(1, patients + 1):
        for number in (2 * patient - 1, 2 * patient):
            name, density = f"mdb{number:03d}", "FGD"[patient % 3]
            centres = []
            if patient % 2 and (number + patient // 2) % 2:
                for _ in range(1 + (patient % 8 == 3)):
                    across, up = float(rng.integers(250, 500)), float(rng.integers(350, 650))
                    centres.append((SIDE - across if number % 2 else across, up))
                    kind, severity = KINDS[patient // 2 % 4], "BM"[patient // 2 % 2]
                    lines.append(f"{name} {density} {kind} {severity} {centres[-1][0]:.0f} {centres[-1][1]:.0f} 30")
            else:
                lines.append(f"{name} {density} NORM ")
            cv2.imwrite(str(root / f"{name}.pgm"), film(rng, number, centres))
    lines.append(f"mdb{2 * patients + 1:03d} G CALC M *NOTE 3*")
    (root / "Info.txt").write_text(PROSE + "\r\n".join(lines) + "\n")
    return {"root": root, "field_mm": 20.0}
