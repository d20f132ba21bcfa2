"""CBIS-DDSM as it is downloaded, and as four arrays: drawn films, a mask and a crop for each abnormality."""

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from dicoms import breast, write_dicom

SPACING = 0.5  # of a film of 24 x 19 cm: the default field is 80 pixels across, and there is tissue beside it
HEIGHT, WIDTH = 480, 384
HEADS = "patient_id,{density},left or right breast,image view,abnormality id,abnormality type,{one},{two},assessment,"
HEADS += "pathology,subtlety,image file path,cropped image file path,ROI mask file path"
PATHOLOGIES = ("BENIGN", "MALIGNANT", "BENIGN_WITHOUT_CALLBACK")


def uid(*parts: object) -> str:
    """A series UID that follows from the parts."""
    numbers = [sum(ord(letter) * 31**place for place, letter in enumerate(str(part))) % 10**7 for part in parts]
    return "1.3.6.1.4.1.9590.100." + ".".join(map(str, numbers)) + f".{10000 + sum(numbers) % 89999}"


def film(rng: np.random.Generator, side: str, centre: tuple[int, int], radius: int, kind: str) -> np.ndarray:
    """A breast of 16 bit with a disc, or with specks."""
    image = breast(rng, height=HEIGHT, width=WIDTH, side="L").astype(np.int64) * 16
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
    image[inside if kind == "mass" else inside & (rng.random(image.shape) < 0.1)] += 20000
    image = np.clip(image, 0, 65535).astype(np.uint16)
    return image if side == "L" else np.ascontiguousarray(image[:, ::-1])


def write_cbis_ddsm(
    root: Path,
    *,
    patients: int = 20,
    seed: int = 0,
    test: int = 2,
    films: bool = True,
    suffix: str = ".dcm",
    spacing: float | None = SPACING,
    straddle: int = 0,
) -> dict[str, Any]:
    """NBIA's layout, every second patient with a mass, every third lesion malignant; two views each, one lesion a view.

    The last `test` patients are of the test part, every second of them malignant; of the first `straddle` a test lesion
    of the other kind is added.
    """
    rng = np.random.default_rng(seed)
    numbers = [(number, "Test" if number >= patients - test else "Training") for number in range(patients)]
    wanted = [(number, part, ("Mass", "Calc")[number % 2]) for number, part in numbers]
    wanted += [(number, "Test", ("Calc", "Mass")[number % 2]) for number in range(straddle)]
    rows: dict[tuple[str, str], list[list[str]]] = {}
    for number, part, kind in wanted:
        for view in ("CC", "MLO"):
            rows.setdefault((kind, part), []).append(
                _lesion(root, rng, number, part, kind, view, films, suffix, spacing)
            )
    root.mkdir(parents=True, exist_ok=True)
    for (kind, part), lines in rows.items():
        density, one, two = ("breast_density", "mass shape", "mass margins")
        if kind == "Calc":
            density, one, two = ("breast density", "calc type", "calc distribution")
        name = f"{kind.lower()}_case_description_{'train' if part == 'Training' else 'test'}_set.csv"
        with (root / name).open("w", newline="") as stream:
            csv.writer(stream).writerows([HEADS.format(density=density, one=one, two=two).split(","), *lines])
    return {"root": root}


def _lesion(
    root: Path,
    rng: np.random.Generator,
    number: int,
    part: str,
    kind: str,
    view: str,
    films: bool,
    suffix: str,
    spacing: float | None,
) -> list[str]:
    patient, side = f"P_{number:05d}", "LR"[number // 2 % 2]
    word = {"L": "LEFT", "R": "RIGHT"}[side]
    name = f"{kind}-{part}_{patient}_{word}_{view}"
    centre, radius = (int(rng.integers(200, 280)), int(rng.integers(50, 110))), int(rng.integers(8, 16))
    image = film(rng, side, centre, radius, kind.lower())
    mask = np.zeros(image.shape, np.uint8)
    cv2.circle(mask, (centre[1] if side == "L" else WIDTH - 1 - centre[1], centre[0]), radius, 255, cv2.FILLED)
    x, y, width, height = cv2.boundingRect(mask)
    crop = image[y - 4 : y + height + 4, x - 4 : x + width + 4]
    places = {}
    for what, series in (("film", uid(name, "film", name)), ("marks", uid(name, "marks", name))):
        owner, title = (name, "full mammogram images") if what == "film" else (f"{name}_1", "ROI mask images")
        folder = root / "CBIS-DDSM" / owner / f"08-29-2017-DDSM-{series[-4:]}" / f"1.000000-{title}-{series[-5:]}"
        places[what] = (owner, series, folder)
    for what, file, pixels in (("film", "1-1", image), ("marks", "1-1", crop), ("marks", "1-2", mask)):
        owner, series, folder = places[what]
        if what == "film" and not films:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        if suffix == ".png":
            cv2.imwrite(str(folder / f"{file}.png"), pixels)
            continue
        tags = {
            "SeriesInstanceUID": series,
            "PatientID": owner,
            "SOPInstanceUID": f"{series}.{file[-1]}.{int(image.sum(dtype=np.int64)) % 10**9}",
        }
        tags |= {"PixelSpacing": [spacing, spacing]} if spacing and what == "film" else {}
        write_dicom(folder / f"{file}.dcm", pixels, bits=8 * pixels.dtype.itemsize, **tags)
    swapped = number % 5 == 0  # as in some rows of the real files
    told = {what: f"{owner}/1.2.3.4.5.6.7.8/{series}/00000" for what, (owner, series, _) in places.items()}
    marks = [f"{told['marks']}{int(swapped)}.dcm", f"{told['marks']}{int(not swapped)}.dcm\n"]
    about = ("OVAL", "SPICULATED") if kind == "Mass" else ("PLEOMORPHIC", "CLUSTERED")
    pathology = PATHOLOGIES[number // 2 % 3 if part == "Training" else number % 2]  # both classes to test on
    sort = "mass" if kind == "Mass" else "calcification"
    scores = ["5" if pathology == "MALIGNANT" else "3", pathology, str(1 + number % 5)]
    return [patient, str(1 + number // 2 % 4), word, view, "1", sort, *about, *scores, f"{told['film']}0.dcm", *marks]


def write_cbis_arrays(root: Path, *, patients: int = 20, seed: int = 0, side: int = 24) -> dict[str, Any]:
    """The four arrays: `patients` pairs to train on and half as many to test on, codes in order."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    for name, pairs in (("train", patients), ("public_test", patients // 2)):
        codes = np.zeros(2 * pairs, np.int64)
        codes[1::2] = np.sort(1 + np.arange(pairs) % 4)
        patches = rng.integers(9000, 20000, (2 * pairs, side, side)).astype(np.uint16)
        patches[1::2, 8:16, 8:16] += (codes[1::2, None, None] * 8000).astype(np.uint16)
        np.save(root / f"{name}_tensor.npy", patches)
        np.save(root / f"{name}_labels.npy", codes)
    return {"root": root}
