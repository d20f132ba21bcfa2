"""A spreadsheet of one's own: whole DICOM mammograms of a few patients, four views each."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from dicoms import breast, write_dicom


def write_table(root: Path, *, patients: int = 20, seed: int = 0) -> dict[str, Any]:
    """Two breasts in two views of every patient; every second patient has a lesion in one of them."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(patients):
        ill = {"L": number % 4 == 1, "R": number % 4 == 3}
        for side in "LR":
            for view in ("CC", "MLO"):
                path = Path(f"p{number:03d}") / f"{side}{view}.dcm"
                tags: dict[str, Any] = {"ImageLaterality": side, "ViewPosition": view, "PixelSpacing": [0.1, 0.1]}
                pixels = breast(rng, height=96, width=80, side=side, lesion=ill[side])
                tags |= {"PatientID": f"p{number:03d}", "StudyInstanceUID": f"1.2.{number}"}
                tags["SOPInstanceUID"] = f"1.3.{seed}.{len(rows)}"  # the same files again have the same digest
                write_dicom(root / path, pixels, **tags)
                label = "malignant" if ill[side] else "benign"
                rows.append([path.as_posix(), f"p{number:03d}", label, view, side, "ABCD"[number % 4], 40 + number])
    columns = ["path", "patient", "label", "view", "laterality", "density", "age"]
    pd.DataFrame(rows, columns=columns).to_csv(root / "images.csv", index=False)
    return {"root": root, "table": root / "images.csv", "size": 32}
