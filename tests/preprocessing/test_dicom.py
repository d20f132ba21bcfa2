import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from dicoms import dicom, write_dicom
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from mammo_lightning.errors import DataError
from mammo_lightning.preprocessing import dicom as module
from mammo_lightning.preprocessing.codestream import frame_size
from mammo_lightning.preprocessing.dicom import read_dicom, read_header

PIXELS = np.arange(64, dtype=np.uint16).reshape(8, 8) * 65  # 0..4095: twelve bits
WIDE = np.random.default_rng(0).integers(0, 4096, (71, 65)).astype(np.uint16)  # JPEG 2000 has a least size
ODD = np.arange(63, dtype=np.uint8).reshape(7, 9) * 4


@pytest.fixture
def write(tmp_path):
    def writer(pixels=PIXELS, bits=12, **tags):
        return write_dicom(tmp_path / "image.dcm", pixels, bits, **tags)

    return writer


def table(values, first=0, bits=16, vr="OW"):
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(values) % 65536, first, bits])
    words = np.array(values, "<u2" if bits > 8 else "u1")
    item.add_new("LUTData", vr, words.tobytes() if vr == "OW" else words.tolist())
    item.ModalityLUTType = "US"
    return [item]


def claim(path, syntax):
    """Make a file say that it has another transfer syntax."""
    content = path.read_bytes()
    about = pydicom.filereader.read_file_meta_info(path)
    length = about.FileMetaInformationGroupLength
    about.TransferSyntaxUID = syntax
    pydicom.filewriter.write_file_meta_info(new := pydicom.filebase.DicomBytesIO(), about)
    path.write_bytes(content[:132] + new.getvalue() + content[132 + 12 + length :])


def white(values):
    return np.rint(np.clip(values, 0, 1) * 65535)


class TestShades:
    def test_twelve_bits_become_sixteen(self, write):
        image = read_dicom(write())
        assert image.dtype == np.uint16
        np.testing.assert_array_equal(image, white(PIXELS / 4095))

    @pytest.mark.parametrize("bits", [10, 12, 14, 16])
    def test_range_is_that_of_the_detector_not_of_the_image(self, write, bits):
        top = 2**bits - 1
        pixels = np.linspace(0, top // 2, 64).astype(np.uint16).reshape(8, 8)
        np.testing.assert_array_equal(read_dicom(write(pixels, bits)), white(pixels / top))

    def test_eight_bits(self, write):
        np.testing.assert_array_equal(read_dicom(write(ODD, 8)), ODD.astype(int) * 257)

    @pytest.mark.parametrize(
        "tags",
        [
            {"PhotometricInterpretation": "MONOCHROME1"},
            {"PresentationLUTShape": "INVERSE"},
            {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
            {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "IDENTITY"},
        ],
    )
    def test_inversion_is_said_once_or_twice_and_done_once(self, write, tags):
        np.testing.assert_array_equal(read_dicom(write(**tags)), white(1 - PIXELS / 4095))

    def test_identity_shape_does_not_invert(self, write):
        np.testing.assert_array_equal(read_dicom(write(PresentationLUTShape="IDENTITY")), white(PIXELS / 4095))

    def test_first_window_is_used_and_clips(self, write):
        image = read_dicom(write(WindowCenter=[2000.0, 1], WindowWidth=[1001.0, 2]))
        np.testing.assert_array_equal(image, white((PIXELS - 1999.5) / 1000 + 0.5))
        assert image.min() == 0
        assert image.max() == 65535

    def test_window_functions(self, write):
        tags = {"WindowCenter": 2048, "WindowWidth": 1000}
        exact = read_dicom(write(VOILUTFunction="LINEAR_EXACT", **tags))
        np.testing.assert_array_equal(exact, white((PIXELS - 2048.0) / 1000 + 0.5))
        sigmoid = read_dicom(write(VOILUTFunction="SIGMOID", **tags))
        np.testing.assert_array_equal(sigmoid, white(1 / (1 + np.exp(-4 * (PIXELS - 2048.0) / 1000))))

    def test_a_window_of_width_one_is_a_threshold_as_the_standard_has_it(self, write):
        pixels = np.array([[1999, 2000], [2001, 2002]], np.uint16)
        above = read_dicom(write(pixels, WindowCenter=2000.5, WindowWidth=1)) > 0
        np.testing.assert_array_equal(above, [[False, False], [True, True]])

    def test_an_empty_window_is_none(self, write):
        np.testing.assert_array_equal(read_dicom(write(WindowCenter="", WindowWidth="")), white(PIXELS / 4095))

    def test_window_counts_after_the_rescale(self, write):
        image = read_dicom(write(RescaleSlope=2, RescaleIntercept=-100, WindowCenter=3900, WindowWidth=2001))
        np.testing.assert_array_equal(image, white((PIXELS * 2.0 - 100 - 3899.5) / 2000 + 0.5))

    def test_a_negative_slope_turns_the_image_round_windowed_or_not(self, write):
        tags = {"RescaleSlope": -1, "RescaleIntercept": 4095}
        np.testing.assert_array_equal(read_dicom(write(**tags)), white(1 - PIXELS / 4095))
        windowed = read_dicom(write(WindowCenter=2048, WindowWidth=1001, **tags))
        np.testing.assert_array_equal(windowed, white((4095.0 - PIXELS - 2047.5) / 1000 + 0.5))

    def test_signed_pixels(self, write):
        signed = (PIXELS.astype(np.int32) - 2048).astype(np.int16)
        np.testing.assert_array_equal(read_dicom(write(signed)), white(PIXELS / 4095))

    def test_modality_and_voi_tables(self, write):
        table_values = [value * 16 for value in reversed(range(4096))]
        image = read_dicom(write(ModalityLUTSequence=table(table_values)))
        np.testing.assert_array_equal(image, white((4095 - PIXELS) * 16.0 / 65535))
        coarse = table([value // 16 for value in range(4096)], bits=8)
        image = read_dicom(write(VOILUTSequence=coarse, WindowCenter=1, WindowWidth=5))
        np.testing.assert_array_equal(image, white((PIXELS // 16) / 255))
        image = read_dicom(write(VOILUTSequence=table([0, 65535], first=2000)))
        np.testing.assert_array_equal(image, white(PIXELS > 2000))

    def test_a_table_counts_after_the_modality_and_before_the_one_inversion(self, write):
        voi = table([value * 8 for value in range(8192)])
        image = read_dicom(
            write(RescaleSlope=2, RescaleIntercept=1, VOILUTSequence=voi, PresentationLUTShape="INVERSE")
        )
        np.testing.assert_array_equal(image, white(1 - (PIXELS * 2.0 + 1) * 8 / 65535))

    @pytest.mark.parametrize("vr", ["OW", "US"])
    def test_a_table_may_begin_below_zero(self, write, vr):
        signed = (PIXELS.astype(np.int32) - 2048).astype(np.int16)
        values = [value * 16 for value in range(4096)]
        lookup = table(values, first=-2048, vr=vr)
        np.testing.assert_array_equal(read_dicom(write(signed, VOILUTSequence=lookup)), white(PIXELS * 16.0 / 65535))
        unsigned = table(values, first=65536 - 2048, vr=vr)  # as some writers state it
        np.testing.assert_array_equal(read_dicom(write(signed, VOILUTSequence=unsigned)), white(PIXELS * 16.0 / 65535))

    def test_a_table_of_more_bits_than_it_states_is_not_cut_off(self, write):
        lookup = table(list(range(4096)), bits=10)
        np.testing.assert_array_equal(read_dicom(write(VOILUTSequence=lookup)), white(PIXELS / 4095))

    def test_tables_of_big_endian(self, tmp_path):
        for bits in (8, 16):
            lookup = table([value * 16 // (1 if bits == 16 else 257) for value in range(4096)], bits=bits)
            lookup[0].LUTData = np.frombuffer(lookup[0].LUTData, "<u2").astype(">u2").tobytes()
            data = dicom(PIXELS, VOILUTSequence=lookup, PixelData=PIXELS.astype(">u2").tobytes())
            data.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
            data.save_as(tmp_path / "i.dcm", implicit_vr=False, little_endian=False, enforce_file_format=True)
            expected = white(PIXELS * 16.0 / 65535) if bits == 16 else white(PIXELS * 16 // 257 / 255)
            np.testing.assert_array_equal(read_dicom(tmp_path / "i.dcm"), expected)


class TestPadding:
    def test_one_value_is_black_whatever_is_done_to_it(self, write):
        for more in ({}, {"PhotometricInterpretation": "MONOCHROME1"}, {"RescaleSlope": -1, "RescaleIntercept": 4095}):
            image = read_dicom(write(PixelPaddingValue=4095, **more))
            assert image[-1, -1] == 0
            assert (image[:-1] > 0).sum() > 50

    def test_a_range_whichever_way_round(self, write):
        for value, limit in ((3000, 4095), (4095, 3000)):
            image = read_dicom(write(PixelPaddingValue=value, PixelPaddingRangeLimit=limit))
            np.testing.assert_array_equal(image, np.where(PIXELS >= 3000, 0, white(PIXELS / 4095)))

    def test_it_may_be_written_without_its_sign(self, tmp_path):
        signed = np.array([[-2000, -1], [0, 2047]], np.int16)
        data = dicom(signed)
        data.add_new("PixelPaddingValue", "US", 65536 - 2000)
        data.save_as(tmp_path / "i.dcm", enforce_file_format=True)
        np.testing.assert_array_equal(read_dicom(tmp_path / "i.dcm"), white((signed + 2048) / 4095) * (signed > -2000))


@pytest.mark.parametrize(
    "tags",
    [
        {"WindowCenter": [2000, 5], "WindowWidth": [1500, 7]},
        {"WindowCenter": 2000, "WindowWidth": 1500, "VOILUTFunction": "LINEAR_EXACT"},
        {"WindowCenter": 1000, "WindowWidth": 900, "VOILUTFunction": "SIGMOID"},
        {"RescaleSlope": 1.5, "RescaleIntercept": -30, "WindowCenter": 3000, "WindowWidth": 2500},
        {"ModalityLUTSequence": table([65535 - 16 * value for value in range(4096)])},
        {"VOILUTSequence": table([min(value * 20, 65535) for value in range(3000)], first=300, vr="US")},
    ],
)
@pytest.mark.parametrize("signed", [False, True])
def test_an_independent_reading_says_the_same(write, tags, signed):
    pixels = (PIXELS.astype(np.int32) - 2048 * signed).astype(np.int16 if signed else np.uint16)
    path = write(pixels, **tags)
    data = pydicom.dcmread(path)
    modality = apply_modality_lut(data.pixel_array, data)
    theirs = apply_voi_lut(modality, data).astype(float)
    if "WindowCenter" in tags:  # pydicom gives them in the range of what there can be after the modality transform
        slope, intercept = data.get("RescaleSlope", 1), data.get("RescaleIntercept", 0)
        low, high = (slope * end + intercept for end in ((-2048, 2047) if signed else (0, 4095)))
        theirs = (theirs - low) / (high - low)
    else:
        theirs = theirs / 65535
    assert np.abs(read_dicom(path) / 65535 - theirs).max() < 1e-3


class TestSyntaxes:
    @pytest.mark.parametrize("signed", [False, True])
    @pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
    def test_lossless_compression_changes_nothing(self, tmp_path, syntax, signed):
        stored = (WIDE.astype(np.int32) - 2048).astype(np.int16) if signed else WIDE
        data = dicom(stored)
        data.compress(syntax)
        data.save_as(tmp_path / "i.dcm", enforce_file_format=True)
        np.testing.assert_array_equal(read_dicom(tmp_path / "i.dcm"), white(WIDE / 4095))

    @pytest.mark.parametrize("signed", [False, True])
    @pytest.mark.parametrize("pixels", [PIXELS, ODD], ids=["16", "odd 8"])
    @pytest.mark.parametrize(
        "syntax",
        [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
        ids=lambda uid: uid.name,
    )
    def test_plain_pixels_in_every_order(self, tmp_path, syntax, pixels, signed):
        bits = 12 if pixels is PIXELS else 8
        stored = (pixels.astype(np.int32) - 2 ** (bits - 1) * signed).astype(f"{'ui'[signed]}{pixels.dtype.itemsize}")
        data = dicom(stored, bits)
        data.file_meta.TransferSyntaxUID = syntax
        if not syntax.is_little_endian:
            body = stored.tobytes() + b"\0" * (stored.nbytes % 2)
            data.PixelData = np.frombuffer(body, "<u2").astype(">u2").tobytes()
        data.save_as(
            tmp_path / "i.dcm",
            implicit_vr=syntax.is_implicit_VR,
            little_endian=syntax.is_little_endian,
            enforce_file_format=True,
        )
        np.testing.assert_array_equal(read_dicom(tmp_path / "i.dcm"), white(pixels / (2**bits - 1)))

    def test_permissive_decoders_come_first(self):
        def order(syntax):
            known = ["pylibjpeg", "pillow", "gdcm", "pyjpegls"]
            return sorted(known, key=lambda plugin: module._turn(syntax, plugin))

        assert order(JPEGLosslessSV1)[-1] == order(JPEGLSLossless)[-1] == order(JPEGBaseline8Bit)[-1] == "pylibjpeg"
        assert order(JPEG2000Lossless)[0] == "pylibjpeg"

    def test_without_a_decoder_the_cure_is_said(self, write, monkeypatch):
        path = write(WIDE)
        data = pydicom.dcmread(path)
        data.compress(JPEG2000Lossless)
        data.save_as(path)
        monkeypatch.setattr(pydicom.pixels.decoders.JPEG2000LosslessDecoder, "_available", {})
        with pytest.raises(DataError, match=r"is compressed \(JPEG 2000.*pip install 'mammo-lightning\[jpeg\]'"):
            read_dicom(path)

    def test_a_file_without_its_mark_is_read(self, write):
        path = write(WindowCenter=2000, WindowWidth=3000)
        whole, expected = path.read_bytes(), read_dicom(path)
        path.write_bytes(whole[132:])  # no preamble and no mark
        np.testing.assert_array_equal(read_dicom(path), expected)
        assert read_header(path).rows == 8
        data = pydicom.dcmread(path, force=True)
        body = pydicom.filebase.DicomBytesIO()
        body.is_implicit_VR, body.is_little_endian = True, True
        pydicom.filewriter.write_dataset(body, data)
        path.write_bytes(body.getvalue())  # nor any file meta information
        np.testing.assert_array_equal(read_dicom(path), expected)

    @pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLosslessSV1, RLELossless, ExplicitVRBigEndian])
    def test_a_wrong_transfer_syntax_is_refused(self, write, syntax, capfd):
        path = write()
        claim(path, syntax)
        with pytest.raises(DataError, match=r"image.dcm' "):
            read_dicom(path)
        assert not capfd.readouterr().err

    def test_implicit_called_explicit_is_read(self, tmp_path):
        data = dicom(PIXELS)
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        data.save_as(tmp_path / "i.dcm", implicit_vr=True, enforce_file_format=True)
        claim(tmp_path / "i.dcm", ExplicitVRLittleEndian)
        np.testing.assert_array_equal(read_dicom(tmp_path / "i.dcm"), white(PIXELS / 4095))


def test_sizes_are_read_from_the_codestream():
    for syntax in (JPEG2000Lossless, JPEGLSLossless):
        data = dicom(WIDE)
        data.compress(syntax)
        frame = pydicom.encaps.get_frame(data.PixelData, 0, number_of_frames=1)
        assert frame_size(frame) == (71, 65, 1)
        assert frame_size(frame[:6]) is None
    assert frame_size(b"\xff\xd8" + b"\xff\xe0\0\4ab" + b"\xff\xff\xc3\0\x0b\x0c\0\5\0\7\1") == (5, 7, 1)
    assert frame_size(b"nothing") is None


class TestRefusals:
    @pytest.mark.parametrize(
        ("tags", "match"),
        [
            ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "is RGB; expected MONOCHROME1 or MONOCHROME2"),
            ({"PhotometricInterpretation": None}, "is of no PhotometricInterpretation; expected MONOCHROME1"),
            ({"NumberOfFrames": 2}, "has 2 frames; expected one"),
            ({"Rows": None}, "has no tag Rows"),
            ({"BitsStored": None}, "has no tag BitsStored"),
            ({"PixelRepresentation": None}, "has no tag PixelRepresentation"),
            ({"Rows": 0}, "says it is 0 x 8 pixels"),
            ({"Rows": 65535, "Columns": 65535}, "says it is 65535 x 65535 pixels"),
            ({"Rows": 16}, "has 128 bytes of pixels, and 16 x 8 take 256"),
            ({"Columns": 7}, "has 128 bytes of pixels, and 8 x 7 take 112"),
            ({"BitsAllocated": 8}, "has 12 bits stored in 8"),
            ({"BitsAllocated": 32}, "has 12 bits stored in 32"),
            ({"HighBit": 15}, "has 12 bits stored up to bit 15; expected 11"),
            ({"WindowCenter": 1, "WindowWidth": 0}, "has a window of width 0; LINEAR needs more"),
            ({"WindowCenter": 1, "WindowWidth": -5, "VOILUTFunction": "SIGMOID"}, "has a window of width -5; SIGMOID"),
            ({"WindowCenter": 1, "WindowWidth": 9, "VOILUTFunction": "LOG"}, "has a window function 'LOG'; known: LIN"),
            ({"RescaleSlope": 0, "RescaleIntercept": 0}, "has a rescale slope of 0"),
            ({"VOILUTSequence": table([0, 1], bits=40)}, "has a lookup table of 40 bits"),
        ],
    )
    def test_tags_that_make_no_image(self, write, tags, match):
        path = write(**tags)
        with pytest.raises(DataError, match=rf"image.dcm' {match}") as error:
            read_dicom(path)
        assert "\n" not in str(error.value)

    def test_what_is_no_image_at_all(self, write, tmp_path):
        for content in (b"no DICOM at all " * 20, b"\x08\0 begins like one" * 20, b"\2\0", b""):
            note = tmp_path / "note.dcm"
            note.write_bytes(content)
            for read in (read_dicom, read_header):
                with pytest.raises(DataError, match=r"note.dcm' is not a DICOM file"):
                    read(note)
        with pytest.raises(DataError, match=r"image.dcm' has no pixels"):
            read_dicom(write(None))
        for path in (tmp_path, tmp_path / "absent.dcm"):
            with pytest.raises(DataError, match="cannot be opened"):
                read_dicom(path)

    def test_a_table_cut_short(self, write):
        short = table([0, 1])
        short[0].LUTDescriptor = [4, 0, 16]
        with pytest.raises(DataError, match=r"image.dcm' has a lookup table of 2 of 4 entries"):
            read_dicom(write(VOILUTSequence=short))

    @pytest.mark.parametrize("name", ["RescaleSlope", "WindowCenter"])
    def test_numbers_that_are_none(self, write, name):
        others = {"RescaleIntercept": "0", "WindowWidth": "10"}
        path = write(**{name: "12345"}, **others)
        path.write_bytes(path.read_bytes().replace(b"12345 ", b"1.e999"))
        with pytest.raises(DataError, match=r"image.dcm' has a rescale or window that is no number"):
            read_dicom(path)
        path.write_bytes(path.read_bytes().replace(b"1.e999", b"a lot "))
        with pytest.raises(DataError, match=r"image.dcm' has a tag that cannot be used"):
            read_dicom(path)

    @pytest.mark.parametrize("lost", [1, 60, 140, 300])
    @pytest.mark.parametrize("syntax", [None, JPEG2000Lossless, RLELossless, JPEGLSLossless])
    def test_a_truncated_file_is_refused(self, write, lost, syntax, capfd):
        path = write(WIDE)
        if syntax:
            data = pydicom.dcmread(path)
            data.compress(syntax)
            data.save_as(path)
        path.write_bytes(path.read_bytes()[: -lost - 8])
        with pytest.raises(DataError, match=r"image.dcm' .*(Copy it again|Remove it|Export it again)"):
            read_dicom(path)
        assert not capfd.readouterr().err

    def test_a_frame_of_another_size_is_refused_before_it_is_decoded(self, write):
        path = write(WIDE)
        data = pydicom.dcmread(path)
        data.compress(JPEG2000Lossless)
        data.Rows = 9
        data.save_as(path)
        with pytest.raises(DataError, match=r"is 9 x 65 in its header, and 71 x 65 with 1 channels in its pixels"):
            read_dicom(path)
        data.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        data.PixelData = encapsulate([b"\0" * 64])
        data.save_as(path)
        with pytest.raises(DataError, match=r"says it is compressed \(JPEG Lossless.*and its pixels are not"):
            read_dicom(path)

    def test_nothing_is_said_but_by_us(self, write, caplog, recwarn):
        path = write(PatientID="x" * 80)
        recwarn.clear()
        read_header(path)
        read_dicom(path)
        data = pydicom.dcmread(path)
        data.PixelData = encapsulate([b"\0" * 64])
        data.file_meta.TransferSyntaxUID = RLELossless
        data.save_as(path)
        with pytest.raises(DataError, match="broken or missing pixels"):
            read_dicom(path)
        assert not caplog.records
        assert not [each for each in recwarn if "pydicom" in str(each.filename)]


@pytest.mark.proof
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["dcmcjpeg", "+e1"], "JPEG Lossless, Non-Hierarchical, First-Order"),
        (["dcmcjpeg", "+el"], "JPEG Lossless, Non-Hierarchical (Process 14)"),
        (["dcmcjpls", "+el"], "JPEG-LS Lossless"),
        (["dcmcrle"], "RLE Lossless"),
    ],
)
def test_what_another_program_compressed_is_decoded_without_the_gpl(tmp_path, options, name, signed):
    assert shutil.which(options[0]), "install dcmtk"
    rng = np.random.default_rng(0)
    pixels = np.clip(np.cumsum(rng.normal(0, 40, (240, 181)), 1) + 2000, 0, 4095).astype(np.uint16)
    stored = (pixels.astype(np.int32) - 2048).astype(np.int16) if signed else pixels
    tags = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4", "PatientID": "p"}
    plain = write_dicom(tmp_path / "plain.dcm", stored, **tags)
    out = tmp_path / "small.dcm"
    subprocess.run([*options, str(plain), str(out)], check=True, capture_output=True, timeout=60)
    data = pydicom.dcmread(out)
    assert data.file_meta.TransferSyntaxUID.name.startswith(name)
    decoder = pydicom.pixels.get_decoder(data.file_meta.TransferSyntaxUID)
    first = sorted(decoder.available_plugins, key=lambda plugin: module._turn(decoder.UID, plugin))[0]
    assert first != "pylibjpeg" or "RLE" in name
    np.testing.assert_array_equal(read_dicom(out), white(pixels / 4095))
    np.testing.assert_array_equal(read_dicom(out), read_dicom(plain))
