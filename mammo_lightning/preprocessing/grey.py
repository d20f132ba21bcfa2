"""From stored values to shades: the modality transform, the first VOI transform, one inversion, black padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammo_lightning.errors import DataError

Values = NDArray[np.float64]
WHITE = 65535
FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


def shades(path: Path, data: Any, stored: NDArray[Any]) -> NDArray[np.uint16]:
    """The shade, 0 (black) to 65535 (white), of each stored value.

    Args:
        path: The file, for messages.
        data: Its pydicom dataset.
        stored: Values as they stand in the pixels, usually all that there can be.
    """
    with np.errstate(all="ignore"):  # what is no number is refused below
        values, low, high = _modality(path, data, stored.astype(np.float64))
        unit = _seen(path, data, values, low, high)
    if not np.isfinite(unit).all():
        raise DataError(f"'{path}' has a rescale or window that is no number. Correct or remove the tag.")
    unit = np.clip(unit, 0.0, 1.0)
    shape = str(data.get("PresentationLUTShape") or "").strip().upper()
    if data.PhotometricInterpretation == "MONOCHROME1" or shape == "INVERSE":
        unit = 1.0 - unit
    seen = np.rint(unit * WHITE).astype(np.uint16)
    seen[_padding(data, stored)] = 0
    return seen


def _modality(path: Path, data: Any, values: Values) -> tuple[Values, float, float]:
    """Values after the modality transform, with the least and the greatest that there can be."""
    bits = int(data.BitsStored)
    low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if data.PixelRepresentation else (0.0, 2.0**bits - 1)
    if data.get("ModalityLUTSequence"):
        values, high = _look_up(path, data, data.ModalityLUTSequence[0], np.clip(values, low, high))
        return values, 0.0, high
    slope, intercept = first(data, "RescaleSlope"), first(data, "RescaleIntercept")
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    if slope == 0:
        raise DataError(f"'{path}' has a rescale slope of 0, which makes all pixels alike. Correct or remove the tag.")
    low, high = sorted((slope * low + intercept, slope * high + intercept))
    return slope * values + intercept, low, high


def _seen(path: Path, data: Any, values: Values, low: float, high: float) -> Values:
    """Values as a fraction of white by the first VOI transform; without one, of what the detector can give."""
    if data.get("VOILUTSequence"):
        values, high = _look_up(path, data, data.VOILUTSequence[0], values)
        return values / high
    center, width = first(data, "WindowCenter"), first(data, "WindowWidth")
    if center is not None and width is not None:
        return _window(path, values, center, width, str(data.get("VOILUTFunction") or "LINEAR").strip().upper())
    return (values - low) / (high - low)


def _window(path: Path, values: Values, center: float, width: float, function: str) -> Values:
    """A window as a fraction of white (DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3).

    pydicom's own windowing returns values in a range that it does not tell, and turns it round for a negative slope.
    """
    if function not in FUNCTIONS:
        raise DataError(f"'{path}' has a window function '{function}'; known: {', '.join(FUNCTIONS)}. Correct the tag.")
    if not (width >= 1 if function == "LINEAR" else width > 0):
        raise DataError(f"'{path}' has a window of width {width:g}; {function} needs more. Correct or remove the tag.")
    if function == "SIGMOID":
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - center) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return (values - center) / width + 0.5
    if width == 1:
        return np.where(values - (center - 0.5) > 0, 1.0, 0.0)
    return (values - (center - 0.5)) / (width - 1.0) + 0.5


def _look_up(path: Path, data: Any, table: Any, values: Values) -> tuple[Values, float]:
    """Values through a lookup table, and the greatest it can give; entries of 8 bit may be packed or in words."""
    count, start, bits = (int(number) for number in table.LUTDescriptor)
    count = count or 65536  # 0 stands for what does not fit into 16 bit
    if not 1 <= bits <= 16:
        raise DataError(f"'{path}' has a lookup table of {bits} bits; expected 8 to 16. Correct or remove it.")
    if start >= 2**15 and values.min() < 0 and start > values.max():
        start -= 2**16  # negative, written as if it had no sign
    stored = table.LUTData
    if isinstance(stored, bytes):
        if data.original_encoding[1] is False:  # words of big endian
            stored = np.frombuffer(stored[: len(stored) // 2 * 2], ">u2").astype("<u2").tobytes()
        packed = bits <= 8 and len(stored) < 2 * count
        stored = np.frombuffer(stored[: len(stored) // 2 * 2] if not packed else stored, "u1" if packed else "<u2")
    entries = np.atleast_1d(stored)[:count].astype(np.float64)
    if len(entries) < count:
        raise DataError(f"'{path}' has a lookup table of {len(entries)} of {count} entries. Copy it again.")
    places = np.clip(np.rint(values) - start, 0, count - 1)
    if not np.isfinite(places).all():
        raise DataError(f"'{path}' has a rescale or window that is no number. Correct or remove the tag.")
    # some files state fewer bits than their entries have
    bits = max(bits, int(entries.max()).bit_length())
    return entries[places.astype(np.int64)], float(2**bits - 1)


def _padding(data: Any, stored: NDArray[Any]) -> NDArray[np.bool_]:
    """Which stored values are padding: one value, or a range of them."""
    value, limit = first(data, "PixelPaddingValue"), first(data, "PixelPaddingRangeLimit")
    if value is None:
        return np.zeros(stored.shape, bool)
    ends = sorted(_as_stored(end, stored.dtype) for end in (value, value if limit is None else limit))
    return np.asarray((stored >= ends[0]) & (stored <= ends[1]))


def _as_stored(value: float, dtype: np.dtype[Any]) -> int:
    """A padding value of 16 bit, which may be written with or without a sign whatever the pixels have."""
    number = int(value)
    if dtype.kind == "i" and number >= 2**15:
        return number - 2**16
    return number + 2**16 if dtype.kind == "u" and number < 0 else number


def first(data: Any, name: str) -> float | None:
    """The first number of a tag; None where it is absent or empty."""
    value = data.get(name)
    if value is None or isinstance(value, str | bytes):
        return float(value) if value else None
    if hasattr(value, "__len__"):
        return float(value[0]) if len(value) else None
    return float(value)
