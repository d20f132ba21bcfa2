"""One image file as an array, whole and in native depth, or one line on what is wrong with it."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammo_lightning.errors import DataError
from mammo_lightning.preprocessing.dicom import read_dicom

SUFFIXES = (".png", ".pgm", ".tif", ".tiff", ".jpg", ".jpeg", ".npy", ".dcm")
_PGM = re.compile(rb"P([25])(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)\s")
_AGAIN = "Copy or export it again."


def read_image(path: Path) -> NDArray[Any]:
    """Height x width (x channels) of uint8, uint16, or float32 in [0, 1].

    Colour is in RGB order; an alpha channel that is opaque everywhere is left out. A gray map whose maximum is not that
    of its depth (12 bit in 16) is stretched to it, as DICOM is. Constant images are returned: whether they are wanted
    is for the dataset to say.

    Args:
        path: A file with one of `SUFFIXES`.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"'{path}' is no image that can be read; expected {', '.join(SUFFIXES)}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"'{path}' cannot be opened ({error.strerror}). Check the path and its permissions.") from None
    if not data:
        raise DataError(f"'{path}' is an empty file; expected an image. {_AGAIN}")
    if suffix == ".dcm":
        return read_dicom(path)
    if suffix == ".npy":
        image = _numpy(path)
    else:
        pgm = _PGM.match(data)
        image = _gray_map(path, data, pgm) if pgm else _decode(path, data)
    return _checked(path, image)


def _numpy(path: Path) -> NDArray[Any]:
    again = "Write it with numpy.save."
    try:
        image = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped, a size it does not have is no memory taken
    except Exception:  # its head is Python source, and numpy passes on what reading that provokes
        raise DataError(f"'{path}' is cut short or no plain NumPy array. {again}") from None
    if not isinstance(image, np.ndarray):
        raise DataError(f"'{path}' is no plain NumPy array but an archive of some. {again}")
    return np.array(image)


def _gray_map(path: Path, data: bytes, header: re.Match[bytes]) -> NDArray[Any]:
    """A PGM, plain or raw; read here because OpenCV passes over its maximum."""
    if any(len(part) > 9 for part in header.groups()):
        raise DataError(f"'{path}' states a size that no image has. {_AGAIN}")
    kind, width, height, top = (int(part) for part in header.groups())
    if not 0 < top < 65536:
        raise DataError(f"'{path}' states a maximum of {top}; expected 1 to 65535. {_AGAIN}")
    depth = np.uint8 if top < 256 else np.uint16
    body = data[header.end() :]
    if kind == 2:
        try:
            values = np.array(re.sub(rb"#[^\n]*", b"", body).split()[: width * height], np.int64)
        except (ValueError, OverflowError):
            raise DataError(f"'{path}' holds what is no whole number; a plain PGM is of those. {_AGAIN}") from None
    else:
        values = np.frombuffer(
            body[: len(body) // depth().itemsize * depth().itemsize], np.dtype(depth).newbyteorder(">")
        )
    if len(values) < width * height:
        raise DataError(f"'{path}' holds {len(values)} of {width * height} pixels: it is cut short. {_AGAIN}")
    image = values[: width * height].reshape(height, width)
    if image.size and not 0 <= image.min() <= image.max() <= top:
        worst = image.min() if image.min() < 0 else image.max()
        raise DataError(f"'{path}' holds a value of {worst}, and states 0 to {top} as its range. {_AGAIN}")
    full = int(np.iinfo(depth).max)
    return image.astype(depth) if top == full else np.rint(image * (full / top)).astype(depth)


def _decode(path: Path, data: bytes) -> NDArray[Any]:
    if not _whole(data):
        raise DataError(f"'{path}' is cut short: its end is missing or damaged. {_AGAIN}")
    if _pages(data) > 1:
        raise DataError(f"'{path}' holds more than one page; expected one image a file. Split it.")
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it would print what we say in one line
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    finally:
        cv2.utils.logging.setLogLevel(level)
    if image is None:
        raise DataError(f"'{path}' cannot be decoded: it is cut short, damaged or no image. {_AGAIN}")
    if image.ndim == 3 and image.shape[2] == 3:
        return np.asarray(image[..., ::-1])
    if image.ndim == 3 and image.shape[2] == 4:
        opaque = np.issubdtype(image.dtype, np.integer) and (image[..., 3] == np.iinfo(image.dtype).max).all()
        return np.asarray(image[..., [2, 1, 0] if opaque else [2, 1, 0, 3]])
    return np.asarray(image)


def png_size(path: Path) -> tuple[int, int] | None:
    """Width and height of a PNG from its head, without decoding it; None of any other file."""
    try:
        with path.open("rb") as stream:
            head = stream.read(24)
    except OSError:
        return None
    return struct.unpack_from(">II", head, 16) if len(head) == 24 and head[:4] == b"\x89PNG" else None


def _whole(data: bytes) -> bool:
    """Whether a PNG reaches its IEND with every checksum right, and a JPEG its end mark; decoders may fill in gray."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        position, kind = 8, b""
        while kind != b"IEND" and position + 12 <= len(data):
            length, kind = struct.unpack_from(">I4s", data, position)
            end = position + 8 + length
            if end + 4 > len(data) or zlib.crc32(data[position + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
                return False
            position = end + 4
        return kind == b"IEND"
    if data.startswith(b"\xff\xd8"):
        # an end mark before the last scan belongs to an embedded thumbnail
        return data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")
    return True


def _pages(data: bytes) -> int:
    """Pages of a classic TIFF, counted as one or more than one."""
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(data[:4])
    if order is None or len(data) < 8:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (entries,) = struct.unpack_from(f"{order}H", data, start)
        (following,) = struct.unpack_from(f"{order}I", data, start + 2 + 12 * entries)
    except struct.error:
        return 1  # cut short: the decoder refuses it
    return 2 if following else 1


def _checked(path: Path, image: NDArray[Any]) -> NDArray[Any]:
    """The image in one of the three depths, contiguous, or why it is not one."""
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if image.ndim not in (2, 3) or not image.size:
        raise DataError(
            f"'{path}' has shape {image.shape}; expected height x width (x channels). Save one image a file."
        )
    if image.ndim == 3 and image.shape[2] > 4:
        raise DataError(
            f"'{path}' has {image.shape[2]} channels; expected 4 at most, as the last axis. Reorder the axes."
        )
    if image.dtype.kind == "f":
        if not np.isfinite(image).all():
            raise DataError(f"'{path}' holds NaN or infinite values; expected numbers in [0, 1]. Replace them.")
        low, high = float(image.min()), float(image.max())
        if low < 0 or high > 1:
            raise DataError(f"'{path}' holds values from {low:g} to {high:g}; floats must be in [0, 1]. Rescale them.")
        return np.ascontiguousarray(image, np.float32)
    if image.dtype not in (np.dtype(np.uint8), np.dtype(">u2"), np.dtype("<u2")):
        raise DataError(f"'{path}' holds {image.dtype}; expected uint8, uint16 or floats in [0, 1]. Convert it.")
    return np.ascontiguousarray(image, image.dtype.newbyteorder("="))
