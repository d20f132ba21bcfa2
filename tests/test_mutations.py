"""A broken file is read or refused by name: never another exception, a hang, or all of the memory."""

import io
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from dicoms import breast, dicom
from mutations import mutants
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from mammo_lightning.datamodules.files import read_table
from mammo_lightning.errors import DataError
from mammo_lightning.preprocessing.breast import standing
from mammo_lightning.preprocessing.dicom import read_dicom, read_header
from mammo_lightning.preprocessing.images import read_image

GREY = breast(np.random.default_rng(0), height=72, width=66)
ROOM = 3 * 2**30  # bytes that reading a file of some kilobytes may take at most


def saved(syntax: str, **tags: Any) -> bytes:
    data = dicom(GREY, PatientID="p1", WindowCenter=[2000, 9], WindowWidth=[3000, 9], PixelSpacing=[0.1, 0.1], **tags)
    if syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian):
        data.file_meta.TransferSyntaxUID = syntax
    else:
        data.compress(syntax)
    data.save_as(out := io.BytesIO(), implicit_vr=syntax == ImplicitVRLittleEndian, enforce_file_format=True)
    return out.getvalue()


def encoded(suffix: str, image: np.ndarray = GREY) -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


def npy(image: np.ndarray) -> bytes:
    np.save(out := io.BytesIO(), image)
    return out.getvalue()


TABLE = b"path,patient,label\n" + b"".join(
    b"images/%03d.png,p%d,%s\n" % (n, n // 2, b"ab"[n % 2 :][:1]) for n in range(20)
)
FILES: dict[str, tuple[bytes, Callable[[Path], Any]]] = {
    "plain.dcm": (saved(ExplicitVRLittleEndian), read_dicom),
    "implicit.dcm": (saved(ImplicitVRLittleEndian, PresentationLUTShape="INVERSE"), read_dicom),
    "deflated.dcm": (saved(DeflatedExplicitVRLittleEndian), read_dicom),
    "rle.dcm": (saved(RLELossless), read_dicom),
    "jpeg2000.dcm": (saved(JPEG2000Lossless), read_dicom),
    "jpegls.dcm": (saved(JPEGLSLossless), read_dicom),
    "header.dcm": (saved(ExplicitVRLittleEndian), read_header),
    "standing.dcm": (saved(ExplicitVRLittleEndian), lambda path: standing(read_dicom(path), "L")),
    "grey.png": (encoded(".png"), read_image),
    "raw.pgm": (encoded(".pgm"), read_image),
    "plain.pgm": (b"P2\n# made\n8 8\n4095\n" + b" ".join(b"%d" % n for n in range(64)), read_image),
    "grey.tif": (encoded(".tif"), read_image),
    "grey.jpg": (encoded(".jpg", (GREY // 16).astype(np.uint8)), read_image),
    "float.npy": (npy((GREY / 4095).astype(np.float32)), read_image),
    "words.csv": (TABLE, lambda path: read_table(path, ["path", "patient", "label"])),
    "wide.csv": (TABLE.decode().encode("utf-16"), read_table),
}


@pytest.fixture
def limited():
    """An address space that a decoder which believes every size it is told runs out of."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def tried(path: Path, read: Callable[[Path], Any], content: bytes) -> bool:
    """Whether it was read; if not it was refused in one line that names the file."""
    path.write_bytes(content)
    said, start = "", time.monotonic()
    try:
        read(path)
    except DataError as error:
        said = str(error)
    assert time.monotonic() - start < 20  # a hang
    assert "\n" not in said
    assert not said or path.name in said or "breast" in said
    return not said


@pytest.mark.parametrize("name", FILES)
def test_a_broken_file_is_read_or_refused(name, tmp_path, limited):
    content, read = FILES[name]
    assert tried(tmp_path / name, read, content)
    outcomes = [tried(tmp_path / name, read, changed) for changed in mutants(content, 60)]
    assert not all(outcomes)


@pytest.mark.proof
@pytest.mark.parametrize("name", FILES)
def test_two_thousand_broken_files_are_read_or_refused(name, tmp_path, limited):
    content, read = FILES[name]
    for changed in mutants(content, 2000, seed=1):
        tried(tmp_path / name, read, changed)


GIANT = {
    "a.pgm": b"P5\n99999999 99999999\n255\n\0\0\0",
    "b.pgm": b"P2\n99999999 99999999\n255\n1 2 3",
    "c.pgm": b"P2\n2 2\n255\n1 2 -3 4",
    "d.pgm": b"P2\n2 2\n255\n1 2 three 4",
    "e.pgm": b"P2\n2 2\n255\n1 2 99999999999999999999999 4",
    "f.pgm": b"P5\n" + b"9" * 5000 + b" 1\n255\n\0",
    "g.npy": npy(np.zeros((2, 2), np.uint8)).replace(b"(2, 2)", b"(99999, 99999)"),
    "h.npy": npy(np.zeros((2, 2), np.uint8)).replace(b"(2, 2)", b"(2 ,-2)"),
    "i.npy": npy(np.zeros((2, 2), np.uint8)).replace(b"|u1", b"|O8"),
}


@pytest.mark.parametrize("name", GIANT)
def test_sizes_and_numbers_that_cannot_be(name, tmp_path, limited):
    assert not tried(tmp_path / name, read_image, GIANT[name])


def test_a_message_is_one_line_that_can_be_printed_whatever_stood_in_the_file():
    said = str(DataError("'a\nb\udcff\x1b[2J.png' and " + "x" * 5000 + " the cure"))
    assert said.startswith(r"'a\nb\udcff\x1b[2J.png' and xxx")
    assert said.endswith("the cure")
    assert len(said.encode()) < 1300
