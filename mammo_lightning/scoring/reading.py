"""From a file to the pixels a model takes, by the readers that its training images went through."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammo_lightning.datamodules.base import MammoDataModule
from mammo_lightning.datamodules.decoding import resized
from mammo_lightning.datamodules.files import shown, walk
from mammo_lightning.errors import DataError
from mammo_lightning.preprocessing.breast import standing
from mammo_lightning.preprocessing.dicom import read_dicom, read_header
from mammo_lightning.preprocessing.images import SUFFIXES, read_image
from mammo_lightning.tracking.manifest import Manifest, Reading

DEPTHS = {"uint8": "8-bit", "uint16": "16-bit", "float32": "of floats"}
KINDS = {1: "grey", 3: "colour"}
#: datasets that stand a whole DICOM mammogram up
STOOD = ("table", "inbreast")
MARK_AT, MARK = 128, b"DICM"


def reading_of(data: MammoDataModule) -> Reading:
    """How the files of a dataset became its images."""
    boxed = "box" in data.frame and bool(data.frame["box"].astype(str).ne("").any())
    return Reading(
        dataset=data.name,
        source=data.source,
        domain=data.domain,
        dicom="refused" if boxed else "whole" if data.name in STOOD else "stored",
        size=data.size,
        padded=getattr(data, "borders", "") == "pad",
        synthetic=data.synthetic,
    )


def is_dicom(path: Path) -> bool:
    """Whether a file is read as DICOM: by its suffix, or for it has none that says otherwise."""
    return path.suffix.lower() == ".dcm" or path.suffix.lower() not in SUFFIXES


def images_below(root: Path) -> Iterator[Path]:
    """Every image below a folder: what has the suffix of one, or the mark of DICOM in it."""
    for path in walk(root):
        if path.suffix.lower() in SUFFIXES or _marked(path):
            yield path


def _marked(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            stream.seek(MARK_AT)
            return stream.read(len(MARK)) == MARK
    except OSError:
        return False


def read_pixels(path: Path, about: Manifest) -> NDArray[Any]:
    """C x H x W in native depth, as the model takes it; a file that cannot become that is one line.

    Args:
        path: A file of one image.
        about: The model's manifest.
    """
    image, name = _content(path, about), shown(path)
    if str(image.dtype) != about.dtype:
        raise DataError(
            f"'{name}' is {DEPTHS.get(str(image.dtype), str(image.dtype))}, and the model takes images that are "
            f"{DEPTHS[about.dtype]}; grey values of another depth mean something else to it. Export it as the images "
            "it was trained on"
        )
    planes = image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)
    channels, height, width = about.shape
    if len(planes) != channels:
        kinds = [KINDS.get(count, f"of {count} channels") for count in (len(planes), channels)]
        raise DataError(f"'{name}' is {kinds[0]}, and the model takes images that are {kinds[1]}; convert it")
    if about.reading.padded:
        planes = _padded(planes, height, width)
    planes = resized(planes, about.reading.size)
    if planes.shape[1:] != (height, width):
        raise DataError(
            f"'{name}' is {planes.shape[1]}x{planes.shape[2]} pixels, and the model takes {height}x{width}; cut it as "
            "the images it was trained on"
        )
    if planes.min() == planes.max():
        raise DataError(f"'{name}' is constant ({planes.flat[0]}); an image needs contrast. Leave it out")
    return planes


def _content(path: Path, about: Manifest) -> NDArray[Any]:
    if not is_dicom(path):
        return read_image(path)
    match about.reading.dicom:
        case "refused":
            raise DataError(
                f"'{shown(path)}' is a DICOM file, and the model takes patches that were cut out of such: cut them "
                "with `python -m experiments.extract`"
            )
        case "whole":
            return standing(read_dicom(path), read_header(path).laterality).image
        case _:
            return read_dicom(path)


def _padded(planes: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Smaller images, filled up by repeating their edge."""
    lacking = (max(0, height - planes.shape[1]), max(0, width - planes.shape[2]))
    return np.pad(planes, ((0, 0), (0, lacking[0]), (0, lacking[1])), mode="edge") if any(lacking) else planes
