"""Small films in the way of a screening archive: tissue, and white ellipses drawn about lesions."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from dicoms import write_dicom
from pydicom.uid import generate_uid

WHITE = 4095
HEIGHT, WIDTH = 480, 420


def uid(*parts: object) -> str:
    """The same for the same parts."""
    return str(generate_uid(entropy_srcs=[str(part) for part in parts]))


def tissue(rng: np.random.Generator, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Texture everywhere, without a breast's outline, 12 bit; alike at every place: nothing tells a block's corner."""
    small = cv2.GaussianBlur(rng.normal(size=(height // 8 + 16, width // 8 + 16)), (0, 0), 1.5)
    left, top = rng.integers(40, 60, 2)
    wide = cv2.resize(small, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    field = wide[top : top + height, left : left + width] * 1800 + 1700
    return np.clip(field + rng.normal(scale=80, size=field.shape), 400, 3400).astype(np.uint16)


def draw(
    film: np.ndarray,
    centre: tuple[float, float],
    axes: tuple[float, float],
    angle: float,
    thickness: int = 4,
    white: int = WHITE,
) -> np.ndarray:
    """Burn a smooth-edged white ellipse into a film, in place."""
    stroke = np.zeros(film.shape, np.uint8)
    cv2.ellipse(stroke, (centre, axes, angle), 255, thickness, cv2.LINE_AA)
    film[:] = np.rint(film + (white - film.astype(float)) * (stroke / 255)).astype(film.dtype)
    return film


def lesion_film(
    rng: np.random.Generator, film: np.ndarray, *, lesion: bool = True, axes: tuple[float, float] = (226, 290)
) -> np.ndarray:
    """A film with an ellipse wide about a bright disc, or about nothing."""
    first, second = rng.uniform(*axes, 2)
    half = max(first, second) / 2 + 8
    x, y = rng.uniform(half, film.shape[1] - half), rng.uniform(half, film.shape[0] - half)
    if lesion:
        across, down = np.meshgrid(np.arange(film.shape[1]) - x, np.arange(film.shape[0]) - y)
        bump = np.exp(-(across**2 + down**2) / (2 * 9.0**2)) * 1200
        film[:] = np.minimum(film + bump, 3600).astype(film.dtype)
    return draw(film, (x, y), (first, second), rng.uniform(0, 180), int(rng.integers(3, 7)))


def compressed(film: np.ndarray, quality: int) -> np.ndarray:
    """A film of 12 bit after JPEG of 8, on the grid of 8 x 8 that starts at its corner."""
    _, content = cv2.imencode(".jpg", (film >> 4).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(content, cv2.IMREAD_GRAYSCALE).astype(np.uint16) << 4


def write_screening(
    root: Path,
    *,
    patients: int = 20,
    seed: int = 0,
    lesions: bool = True,
    axes: tuple[float, float] = (226, 290),
    quality: int | None = None,
) -> dict[str, Any]:
    """Half of the patients of BI-RADS 1, the others of 0 or 2 with an ellipse; one or two views each.

    With a quality, films are compressed before anything is drawn into them.
    """
    rng = np.random.default_rng(seed)
    lines = ["exam,birads"]
    for number in range(patients):
        lesion, patient = number % 2, f"anon-{number:04d}"
        exam = uid(patient, "exam")
        lines.append(f"{exam},{(1, 1, 0, 2)[number % 2 * 2 + (number % 10 == 9)]}")
        for view in ("CC", "MLO")[: 1 + number % 3 // 2]:
            film = tissue(rng) if quality is None else compressed(tissue(rng), quality)
            if lesion:
                lesion_film(rng, film, lesion=lesions, axes=axes)
            write_dicom(
                root / f"{number // 10:02d}" / patient / f"IM{view}",
                film,
                PatientID=patient,
                StudyInstanceUID=exam,
                SOPInstanceUID=uid(seed, patient, view),
                ViewPosition=view,
                ImageLaterality="LR"[number % 4 // 2],
                Manufacturer="Anon",
                ImagerPixelSpacing=[0.07, 0.07],
            )
    (root / "readme.txt").write_text("films of the archive\n")
    table = root / "birads.csv"
    table.write_text("\n".join(lines) + "\n")
    return {"root": root, "table": table}
