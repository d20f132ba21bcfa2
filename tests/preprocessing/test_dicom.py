import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEGLosslessSV1,
    generate_uid,
)

from mammo_lightning.errors import DataError
from mammo_lightning.preprocessing.dicom import read_dicom

PIXELS = np.arange(64, dtype=np.uint16).reshape(8, 8) * 65  # 0..4095: twelve bits


@pytest.fixture
def write(tmp_path):
    def writer(pixels=PIXELS, bits=12, *, syntax=ExplicitVRLittleEndian, **tags):
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = syntax
        data.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
        data.SOPInstanceUID = generate_uid()
        if pixels is not None:
            data.Rows, data.Columns = 8, 8
            data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
            data.BitsAllocated, data.BitsStored, data.HighBit = 16, bits, bits - 1
            data.PixelRepresentation = int(pixels.dtype.kind == "i")
            data.PixelData = pixels.tobytes() if syntax == ExplicitVRLittleEndian else encapsulate([b"\0" * 64])
            data["PixelData"].VR = "OW"
        for name, value in tags.items():
            setattr(data, name, value)
        path = tmp_path / "image.dcm"
        data.save_as(path, enforce_file_format=True)
        return path

    return writer


def table(values, first=0, bits=16):
    item = Dataset()
    item.LUTDescriptor = [len(values), first, bits]
    item.add_new("LUTData", "OW", np.array(values, "<u2" if bits > 8 else "u1").tobytes())
    item.ModalityLUTType = "US"
    return [item]


def white(values):
    return np.rint(np.clip(values, 0, 1) * 65535)


def test_twelve_bits_become_sixteen(write):
    image = read_dicom(write())
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, white(PIXELS / 4095))


def test_range_is_that_of_the_detector_not_of_the_image(write):
    assert read_dicom(write(PIXELS // 4)).max() == round(65535 * (4095 // 4) / 4095)


@pytest.mark.parametrize(
    "tags",
    [
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PresentationLUTShape": "INVERSE"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
    ],
)
def test_inversion_is_said_once_or_twice_and_done_once(write, tags):
    np.testing.assert_array_equal(read_dicom(write(**tags)), white(1 - PIXELS / 4095))


def test_identity_shape_does_not_invert(write):
    np.testing.assert_array_equal(read_dicom(write(PresentationLUTShape="IDENTITY")), white(PIXELS / 4095))


def test_first_window_is_used_and_clips(write):
    image = read_dicom(write(WindowCenter=[2000.0, 1], WindowWidth=[1001.0, 2]))
    np.testing.assert_array_equal(image, white((PIXELS - 1999.5) / 1000 + 0.5))
    assert image.min() == 0
    assert image.max() == 65535


def test_window_functions(write):
    tags = {"WindowCenter": 2048, "WindowWidth": 1000}
    exact = read_dicom(write(VOILUTFunction="LINEAR_EXACT", **tags))
    np.testing.assert_array_equal(exact, white((PIXELS - 2048.0) / 1000 + 0.5))
    sigmoid = read_dicom(write(VOILUTFunction="SIGMOID", **tags))
    np.testing.assert_array_equal(sigmoid, white(1 / (1 + np.exp(-4 * (PIXELS - 2048.0) / 1000))))
    assert set(np.unique(read_dicom(write(WindowCenter=2048, WindowWidth=1)))) == {0, 65535}


def test_window_counts_after_the_rescale(write):
    image = read_dicom(write(RescaleSlope=2, RescaleIntercept=-100, WindowCenter=3900, WindowWidth=2001))
    np.testing.assert_array_equal(image, white((PIXELS * 2.0 - 100 - 3899.5) / 2000 + 0.5))


def test_a_negative_slope_turns_the_image_round_windowed_or_not(write):
    tags = {"RescaleSlope": -1, "RescaleIntercept": 4095}
    np.testing.assert_array_equal(read_dicom(write(**tags)), white(1 - PIXELS / 4095))
    windowed = read_dicom(write(WindowCenter=2048, WindowWidth=1001, **tags))
    np.testing.assert_array_equal(windowed, white((4095.0 - PIXELS - 2047.5) / 1000 + 0.5))


def test_signed_pixels(write):
    signed = (PIXELS.astype(np.int32) - 2048).astype(np.int16)
    np.testing.assert_array_equal(read_dicom(write(signed)), white(PIXELS / 4095))


def test_modality_and_voi_tables(write):
    table_values = [value * 16 for value in reversed(range(4096))]
    image = read_dicom(write(ModalityLUTSequence=table(table_values)))
    np.testing.assert_array_equal(image, white((4095 - PIXELS) * 16.0 / 65535))
    coarse = table([value // 16 for value in range(4096)], bits=8)
    image = read_dicom(write(VOILUTSequence=coarse, WindowCenter=1, WindowWidth=5))
    np.testing.assert_array_equal(image, white((PIXELS // 16) / 255))
    image = read_dicom(write(VOILUTSequence=table([0, 65535], first=2000)))
    np.testing.assert_array_equal(image, white(PIXELS > 2000))


def test_refusals(write, tmp_path):
    note = tmp_path / "note.dcm"
    note.write_text("no DICOM at all " * 20)
    with pytest.raises(DataError, match=r"note.dcm' is not a DICOM file"):
        read_dicom(note)
    with pytest.raises(DataError, match=r"image.dcm' has no pixels"):
        read_dicom(write(None))
    with pytest.raises(DataError, match=r"image.dcm' is RGB; expected MONOCHROME1 or MONOCHROME2"):
        read_dicom(write(SamplesPerPixel=3, PhotometricInterpretation="RGB"))
    with pytest.raises(DataError, match=r"image.dcm' has 2 frames; expected one"):
        read_dicom(write(np.stack([PIXELS, PIXELS]), NumberOfFrames=2))
    with pytest.raises(DataError, match=r"image.dcm' is compressed \(JPEG Lossless.*install a decoder"):
        read_dicom(write(syntax=JPEGLosslessSV1))
    short = table([0, 1])
    short[0].LUTDescriptor = [4, 0, 16]
    with pytest.raises(DataError, match=r"image.dcm' has a lookup table of 2 of 4 entries"):
        read_dicom(write(VOILUTSequence=short))
    with pytest.raises(DataError, match=r"image.dcm' has a window of width 0; LINEAR needs more"):
        read_dicom(write(WindowCenter=1, WindowWidth=0))


@pytest.mark.parametrize("lost", [1, 60, 140, 300])
def test_a_truncated_file_is_refused(write, lost):
    path = write()
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(DataError, match=r"image.dcm' .*(Copy it again|Remove it)"):
        read_dicom(path)
