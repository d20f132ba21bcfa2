"""DICOM files as scanners write them, and drawn mammograms to put into them."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)


def dicom(pixels: np.ndarray | None, bits: int = 12, **tags: Any) -> Dataset:
    """A digital mammogram FOR PRESENTATION, uncompressed; `tags` are set on top (None removes one)."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    content = b"" if pixels is None else pixels.tobytes()
    data.SOPInstanceUID = generate_uid(entropy_srcs=[content.hex(), repr(sorted(tags))])
    data.PatientSex, data.Modality = "F", "MG"
    data.PresentationIntentType = "FOR PRESENTATION"
    data.ImageType = ["DERIVED", "PRIMARY"]
    if pixels is not None:
        data.Rows, data.Columns = pixels.shape
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit = 8 * pixels.dtype.itemsize, bits, bits - 1
        data.PixelRepresentation = int(pixels.dtype.kind == "i")
        data.PixelData = pixels.tobytes()
        data["PixelData"].VR = "OW"
    for name, value in tags.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    return data


def write_dicom(path: Path, pixels: np.ndarray | None, bits: int = 12, **tags: Any) -> Path:
    """Write what `dicom` makes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dicom(pixels, bits, **tags).save_as(path, enforce_file_format=True)
    return path


def breast(
    rng: np.random.Generator, *, height: int = 160, width: int = 128, side: str = "L", lesion: bool = False
) -> np.ndarray:
    """A half ellipse of tissue on black, 12 bit, chest wall on the side of its name; a lesion is a bright disc."""
    y, x = np.mgrid[:height, :width]
    inside = ((y - height / 2) / (0.45 * height)) ** 2 + (x / (0.75 * width)) ** 2 < 1
    tissue = cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), 4) * 3000 + 1200
    tissue = tissue + rng.normal(scale=20, size=tissue.shape)
    if lesion:
        cy, cx = height * rng.uniform(0.4, 0.6), width * rng.uniform(0.2, 0.45)
        tissue[(y - cy) ** 2 + (x - cx) ** 2 < (0.07 * height) ** 2] += 1200
    image = np.where(inside, np.clip(tissue, 200, 3800), 0).astype(np.uint16)
    return image if side == "L" else np.ascontiguousarray(image[:, ::-1])
