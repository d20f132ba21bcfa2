"""A monochrome DICOM image as it is meant to be seen, in 16 bit."""

from __future__ import annotations

import functools
import logging
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammo_lightning.errors import DataError
from mammo_lightning.preprocessing.codestream import frame_size
from mammo_lightning.preprocessing.grey import shades
from mammo_lightning.preprocessing.header import Header

#: more pixels than any detector or film has; a broken header may ask for the memory of four billion
LARGEST = 2**27
#: so many bytes may stand behind the pixels
TRAILING = 512
NEEDED = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation")
#: the plug-ins of pydicom that are under permissive licences; `pylibjpeg` is that for JPEG 2000 and RLE alone, for
#: what it decodes other JPEGs with is under the GPL
PERMISSIVE = ("gdcm", "pillow", "pydicom", "pyjpegls")
#: JPEG 2000 as a file of its own, which some writers put where only its codestream belongs
BOXED = b"\0\0\0\x0cjP"
IMAGE = "1.2.840.10008.5.1.4.1.1."


def read_header(path: Path) -> Header:
    """What the tags say, without decoding the pixels."""
    return Header.of(_dataset(path, pixels=False))


def read_dicom(path: Path) -> NDArray[np.uint16]:
    """The pixels of a single-frame monochrome file, 0 (black) to 65535 (white); padding is black.

    The modality LUT (or rescale) comes first, then the first VOI LUT or window; without one the range is that of
    BitsStored, so that images of one detector stay comparable. MONOCHROME1 and PresentationLUTShape INVERSE both say
    that low values are bright; together they say it once.

    Args:
        path: A DICOM file, with or without its mark. JPEG-Lossless and JPEG-LS need a decoder plug-in of pydicom.
    """
    data = _dataset(path, pixels=True)
    try:
        _check(path, data)
        stored = _decoded(path, data)
        # what a value is shown as depends on it alone: 65,536 are looked at, and not twelve million
        whole = np.dtype(f"u{stored.dtype.itemsize}")
        every = np.arange(2 ** (8 * whole.itemsize), dtype=whole)
        seen: NDArray[np.uint16] = shades(path, data, every.view(stored.dtype))[stored.view(whole)]
        return seen
    except DataError:
        raise
    except Exception as error:  # pydicom raises what a broken tag happens to provoke
        raise DataError(f"'{path}' has a tag that cannot be used ({_line(error)}). Copy it again.") from None


@functools.cache
def _pydicom() -> Any:
    import pydicom  # a second, and only DICOM needs it

    # strange tags and failed decoders would be told on the terminal; what matters is refused here by name
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    warnings.filterwarnings("ignore", module="pydicom")
    for talker in ("pydicom", "pylibjpeg", "openjpeg"):
        logging.getLogger(talker).setLevel(logging.CRITICAL)
    return pydicom


def _dataset(path: Path, *, pixels: bool) -> Any:
    pydicom = _pydicom()
    try:
        try:
            return pydicom.dcmread(path, stop_before_pixels=not pixels)
        except pydicom.errors.InvalidDicomError:
            return _unmarked(path, pixels=pixels)
    except DataError:
        raise
    except OSError as error:
        why = error.strerror or _line(error)
        raise DataError(f"'{path}' cannot be opened ({why}). Check the file and its permissions.") from None
    except Exception as error:
        raise DataError(f"'{path}' cannot be read as DICOM ({_line(error)}). Copy it again.") from None


def _unmarked(path: Path, *, pixels: bool) -> Any:
    """A file that lacks the DICM mark, as older archives wrote them, if it parses as the image it says it is."""
    with Path(path).open("rb") as stream:
        group = stream.read(2)
    if group in (b"\2\0", b"\0\2", b"\x08\0", b"\0\x08"):
        with suppress(Exception):  # then it is something else that begins like it
            data = _pydicom().dcmread(path, stop_before_pixels=not pixels, force=True)
            if str(data.get("SOPClassUID", "")).startswith(IMAGE):
                return data
    raise DataError(f"'{path}' is not a DICOM file; expected the DICM mark. Convert or remove it.")


def _check(path: Path, data: Any) -> None:
    """Refuse what is not one monochrome image of 8 or 16 bit."""
    if "PixelData" not in data:
        raise DataError(f"'{path}' has no pixels; expected an image. Remove it (a report or a directory file?).")
    photometric = str(data.get("PhotometricInterpretation") or "of no PhotometricInterpretation")
    if (data.get("SamplesPerPixel") or 1) != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise DataError(f"'{path}' is {photometric}; expected MONOCHROME1 or MONOCHROME2. Remove it or convert it.")
    frames = int(data.get("NumberOfFrames") or 1)
    if frames != 1:
        raise DataError(f"'{path}' has {frames} frames; expected one image a file. Export single frames.")
    if absent := [name for name in NEEDED if data.get(name) is None]:
        raise DataError(f"'{path}' has no tag {absent[0]}, without which pixels have no meaning. Copy it again.")
    rows, columns, allocated, stored = (int(data[name].value) for name in NEEDED[:4])
    if rows < 1 or columns < 1 or rows * columns > LARGEST:
        raise DataError(f"'{path}' says it is {rows} x {columns} pixels; expected up to {LARGEST} in all. Copy it.")
    if allocated not in (8, 16) or not 1 < stored <= allocated:
        raise DataError(f"'{path}' has {stored} bits stored in {allocated}; expected 2 to 16 in 8 or 16. Convert it.")
    highest = data.get("HighBit")
    if highest is not None and int(highest) != stored - 1:
        raise DataError(f"'{path}' has {stored} bits stored up to bit {highest}; expected {stored - 1}. Convert it.")


def _decoded(path: Path, data: Any) -> NDArray[Any]:
    """Values as they stand in the pixels, in the machine's byte order."""
    from pydicom.pixels import get_decoder, pixel_array

    syntax = _syntax(data)
    rows, columns = int(data.Rows), int(data.Columns)
    if not syntax.is_compressed:
        _check_length(path, data, rows, columns)
    try:
        plugins = sorted(get_decoder(syntax).available_plugins, key=functools.partial(_turn, syntax))
    except NotImplementedError:
        raise DataError(f"'{path}' has pixels in a form that is not known ({syntax.name}). Convert it.") from None
    if "gdcm" in plugins and "pyjpegls" in plugins:
        plugins.remove("pyjpegls")  # it takes ten seconds over some broken streams
    if syntax.is_compressed:
        if not plugins:
            cure = "Decompress it, or install a decoder: pip install 'mammo-lightning[jpeg]'."
            raise DataError(f"'{path}' is compressed ({syntax.name}) and cannot be decoded here. {cure}")
        _check_frame(path, data, syntax, rows, columns)
    why = ""
    for plugin in plugins or [""]:
        try:
            stored = pixel_array(data, raw=True, index=0, decoding_plugin=plugin)
        except Exception as error:
            why = why or _line(error)
            continue
        if stored.shape == (rows, columns) and stored.dtype.kind in "iu" and stored.dtype.itemsize <= 2:
            return np.ascontiguousarray(stored, stored.dtype.newbyteorder("="))
        why = why or f"{stored.dtype} of {stored.shape}"
    raise DataError(f"'{path}' has broken or missing pixels ({why}). Copy it again.")


def _syntax(data: Any) -> Any:
    """The transfer syntax; where the file does not state it, the one by which it could be parsed."""
    from pydicom import uid
    from pydicom.dataset import FileMetaDataset

    if not hasattr(data, "file_meta"):
        data.file_meta = FileMetaDataset()
    if not data.file_meta.get("TransferSyntaxUID"):
        implicit, little = data.original_encoding
        explicit = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
        data.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if implicit else explicit
    return data.file_meta.TransferSyntaxUID


def _turn(syntax: Any, plugin: str) -> tuple[bool, int]:
    """When a plug-in is tried: those that are not under a permissive licence last."""
    from pydicom.uid import JPEG2000TransferSyntaxes, RLETransferSyntaxes

    place = PERMISSIVE.index(plugin) if plugin in PERMISSIVE else -1
    if syntax in (*JPEG2000TransferSyntaxes, *RLETransferSyntaxes):
        return plugin != "pylibjpeg", place
    return plugin not in PERMISSIVE, place


def _check_length(path: Path, data: Any, rows: int, columns: int) -> None:
    """Pixels that are not compressed have a length that follows; another means that rows would be torn apart."""
    row = columns * int(data.BitsAllocated) // 8
    there, expected = len(data.PixelData), rows * row
    if there < expected or there - expected >= max(2, min(TRAILING, row)):
        raise DataError(
            f"'{path}' has {there} bytes of pixels, and {rows} x {columns} take {expected}: it is cut short or its "
            "header is wrong. Copy it again."
        )


def _check_frame(path: Path, data: Any, syntax: Any, rows: int, columns: int) -> None:
    """A compressed frame states its own size, and a decoder may allocate what it says."""
    from pydicom.encaps import get_frame
    from pydicom.uid import RLETransferSyntaxes

    try:
        frame = get_frame(data.PixelData, 0, number_of_frames=1)
    except Exception as error:
        raise DataError(f"'{path}' has broken or missing pixels ({_line(error)}). Copy it again.") from None
    size = frame_size(frame)
    if size is None and not frame.startswith(BOXED) and syntax not in RLETransferSyntaxes:
        raise DataError(f"'{path}' says it is compressed ({syntax.name}) and its pixels are not. Export it again.")
    if size is not None and size != (rows, columns, 1):
        raise DataError(
            f"'{path}' is {rows} x {columns} in its header, and {size[0]} x {size[1]} with {size[2]} channels in its "
            "pixels. Copy it again."
        )


def _line(error: Exception) -> str:
    """The first line of what a library said that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.rstrip().endswith(":")]
    return (lines or [type(error).__name__])[0][:120]
