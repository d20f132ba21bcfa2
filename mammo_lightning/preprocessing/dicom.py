"""A monochrome DICOM image as it is meant to be seen, in 16 bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammo_lightning.errors import DataError


def read_dicom(path: Path) -> NDArray[np.uint16]:
    """The pixels of a single-frame monochrome file, 0 (black) to 65535 (white).

    The modality LUT (or rescale) comes first, then the first VOI LUT or window; without one the range is that of
    BitsStored, so that images of one detector stay comparable. MONOCHROME1 and PresentationLUTShape INVERSE both say
    that low values are bright; together they say it once.

    Args:
        path: A DICOM file. JPEG-Lossless and JPEG-LS need a decoder plug-in of pydicom.
    """
    import pydicom  # a second, and only this function needs it
    from pydicom.errors import InvalidDicomError
    from pydicom.pixels import pixel_array

    try:
        data = pydicom.dcmread(path)
    except InvalidDicomError:
        raise DataError(f"'{path}' is not a DICOM file; expected the DICM mark. Convert or remove it.") from None
    except Exception as error:  # pydicom raises what the broken element happens to provoke
        raise DataError(f"'{path}' cannot be read as DICOM ({_line(error)}). Copy it again.") from None
    _check(path, data)
    try:
        raw = pixel_array(data, raw=True)
    except Exception as error:
        syntax = data.file_meta.get("TransferSyntaxUID") if hasattr(data, "file_meta") else None
        if syntax is not None and syntax.is_compressed:
            cure = "Decompress it, or install a decoder: pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg."
            raise DataError(f"'{path}' is compressed ({syntax.name}) and cannot be decoded here. {cure}") from None
        raise DataError(f"'{path}' has broken or missing pixels ({_line(error)}). Copy it again.") from None

    values, (low, high) = raw.astype(np.float64), _range(data)
    if data.get("ModalityLUTSequence"):
        values, high = _look_up(path, values, data.ModalityLUTSequence[0])
        low = 0.0
    else:
        slope, intercept = _rescale(data)
        values = slope * values + intercept
    if data.get("VOILUTSequence"):
        values, high = _look_up(path, values, data.VOILUTSequence[0])
        unit = values / high
    elif data.get("WindowCenter") is not None and data.get("WindowWidth") is not None:
        unit = _window(path, values, data)
    else:
        unit = (values - low) / (high - low)
    unit = np.clip(unit, 0.0, 1.0)
    if data.PhotometricInterpretation == "MONOCHROME1" or data.get("PresentationLUTShape", "") == "INVERSE":
        unit = 1.0 - unit
    return np.rint(unit * 65535).astype(np.uint16)


def _check(path: Path, data: Any) -> None:
    """Refuse what is not one monochrome image."""
    if "PixelData" not in data:
        raise DataError(f"'{path}' has no pixels; expected an image. Remove it (a report or a directory file?).")
    photometric = str(data.get("PhotometricInterpretation", "nothing"))
    if data.get("SamplesPerPixel", 1) != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise DataError(f"'{path}' is {photometric}; expected MONOCHROME1 or MONOCHROME2. Remove it or convert it.")
    frames = int(data.get("NumberOfFrames") or 1)
    if frames > 1:
        raise DataError(f"'{path}' has {frames} frames; expected one image a file. Export single frames.")


def _rescale(data: Any) -> tuple[float, float]:
    slope, intercept = data.get("RescaleSlope"), data.get("RescaleIntercept")
    return 1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)


def _range(data: Any) -> tuple[float, float]:
    """Least and greatest value that a pixel can have after the rescale."""
    bits = int(data.BitsStored)
    ends = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if data.PixelRepresentation else (0, 2**bits - 1)
    slope, intercept = _rescale(data)
    low, high = sorted(slope * end + intercept for end in ends)
    return low, high


def _look_up(path: Path, values: NDArray[np.float64], table: Any) -> tuple[NDArray[np.float64], float]:
    """Values through a lookup table, and the greatest it can give; entries of 8 bit may be packed or in words."""
    count, first, bits = (int(number) for number in table.LUTDescriptor)
    count = count or 65536  # 0 stands for what does not fit into 16 bit
    stored = table.LUTData
    if isinstance(stored, bytes):
        stored = np.frombuffer(stored, "u1" if bits <= 8 and len(stored) < 2 * count else "<u2")
    entries = np.atleast_1d(stored)[:count].astype(np.float64)
    if len(entries) < count:
        raise DataError(f"'{path}' has a lookup table of {len(entries)} of {count} entries. Copy it again.")
    places = np.clip(np.rint(values) - first, 0, count - 1).astype(np.int64)
    return entries[places], float(2**bits - 1)


def _window(path: Path, values: NDArray[np.float64], data: Any) -> NDArray[np.float64]:
    """The first window as a fraction of white (DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3).

    pydicom's own windowing returns values in a range that it does not tell, and turns it round for a negative slope.
    """
    center, width = (float(np.atleast_1d(data[name].value)[0]) for name in ("WindowCenter", "WindowWidth"))
    function = str(data.get("VOILUTFunction") or "LINEAR").upper()
    least = 1.0 if function == "LINEAR" else 0.0
    if width < least or (width == 0 and function != "LINEAR"):
        raise DataError(f"'{path}' has a window of width {width:g}; {function} needs more. Correct or remove the tag.")
    if function == "SIGMOID":
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - center) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return (values - center) / width + 0.5
    return (values - (center - 0.5)) / max(width - 1.0, 1e-9) + 0.5


def _line(error: Exception) -> str:
    """The first line of what a library said."""
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
