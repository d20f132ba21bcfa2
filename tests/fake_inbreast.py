"""INbreast: INbreast.csv, AllDICOMs and AllXML, as distributed."""

import plistlib
from pathlib import Path
from typing import Any

import numpy as np
from dicoms import breast, write_dicom

HEAD = "Patient ID;Patient age;Laterality;View;Acquisition date;File Name;ACR;Bi-Rads"
BIRADS = ("1", "4a", "2", "5", "3", "6")


def outlines(*named: tuple[str, list[tuple[float, float]]]) -> bytes:
    """A property list of outlines, as OsiriX writes them."""
    rois = [
        {"Area": 1.5, "Name": name, "NumberOfPoints": len(points), "Point_px": [f"({x:f}, {y:f})" for x, y in points]}
        for name, points in named
    ]
    return plistlib.dumps({"Images": [{"ImageIndex": 0, "NumberOfROIs": len(rois), "ROIs": rois}]})


def disc(x: float, y: float, radius: float) -> list[tuple[float, float]]:
    """Points of a circle."""
    return [(x + radius * float(np.cos(turn)), y + radius * float(np.sin(turn))) for turn in np.linspace(0, 6, 12)]


def write_inbreast(root: Path, *, patients: int = 12, seed: int = 0) -> dict[str, Any]:
    """Four views a patient, of both breasts; every third left breast has BI-RADS 3, those of 4 or more have a mass."""
    rng = np.random.default_rng(seed)
    (root / "AllXML").mkdir(parents=True, exist_ok=True)
    rows = [HEAD]
    for patient in range(patients):
        for index, (side, view) in enumerate((side, view) for side in "RL" for view in ("CC", "MLO")):
            number = 20586908 + 100 * patient + 13 * index
            birads = BIRADS[patient % len(BIRADS) if side == "L" else patient % 2]
            name = f"{number}_{patient:04x}c0ffee{patient:02d}_MG_{side}_{view.replace('MLO', 'ML')}_ANON.dcm"
            pixels = breast(rng, side=side, lesion=birads[0] in "456")
            uid = f"1.2.3.{seed}.{number}"
            write_dicom(root / "AllDICOMs" / name, pixels, PatientID="removed", SOPInstanceUID=uid)
            date = "200901" if patient % 2 else "201001"
            rows.append(f"removed;removed;{side};{view};{date};{number};{1 + patient // 2 % 4};{birads}")
            if birads != "1":
                found = ("Mass" if birads[0] in "456" else "Calcification", disc(60, 80, 12))
                (root / "AllXML" / f"{number}.xml").write_bytes(outlines(found))
    (root / "INbreast.csv").write_bytes("\r\n".join([*rows, ""]).encode())
    return {"root": root}
