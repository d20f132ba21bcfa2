import pydicom
import pytest
from dicoms import dicom
from pydicom.dataset import Dataset
from pydicom.uid import BreastTomosynthesisImageStorage, DigitalMammographyXRayImageStorageForProcessing

from mammo_lightning.preprocessing.dicom import read_header
from mammo_lightning.preprocessing.header import MODIFIERS, VIEWS, Header


def header(**tags):
    return Header.of(dicom(None, **tags))


def flagged(found):
    return {name for name in ("spot", "magnification", "implant", "tomosynthesis") if getattr(found, name)}


def code(value, meaning="", modifiers=()):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    if modifiers:
        item.ViewModifierCodeSequence = list(modifiers)
    return item


def test_what_a_plain_image_says(tmp_path):
    data = dicom(None, PatientID="p1", StudyInstanceUID="1.2", SeriesInstanceUID="1.3", SOPInstanceUID="1.4")
    data.ImageLaterality, data.ViewPosition, data.Rows, data.Columns = "R", "mlo", 4096, 3328
    data.Manufacturer, data.ManufacturerModelName = "A vendor", "A model"
    data.save_as(tmp_path / "i.dcm", enforce_file_format=True)
    found = read_header(tmp_path / "i.dcm")
    assert (found.patient, found.exam, found.series, found.instance) == ("p1", "1.2", "1.3", "1.4")
    assert (found.laterality, found.view, found.rows, found.columns) == ("R", "MLO", 4096, 3328)
    assert (found.presentation, found.inverse, found.sex) == ("presentation", False, "F")
    assert (found.vendor, found.model, found.image_type) == ("A vendor", "A model", ("DERIVED", "PRIMARY"))
    assert flagged(found) == set()
    assert found.spacing_mm is None


def test_what_is_absent_is_empty():
    found = Header.of(Dataset())
    assert (found.patient, found.laterality, found.view, found.presentation, found.spacing_mm) == ("", "", "", "", None)
    assert flagged(found) == set()
    assert not found.inverse


@pytest.mark.parametrize(
    ("tags", "side"),
    [
        ({"ImageLaterality": "L"}, "L"),
        ({"Laterality": "R"}, "R"),
        ({"ImageLaterality": "R", "Laterality": "L"}, "R"),
        ({"ImageLaterality": "B"}, ""),
        ({"ImageLaterality": "U", "Laterality": "L"}, "L"),
        ({}, ""),
    ],
)
def test_side(tags, side):
    assert header(**tags).laterality == side


@pytest.mark.parametrize(("value", "view"), [("R-10226", "MLO"), ("399162004", "CC"), ("399101009", "XCCM"), ("9", "")])
def test_a_view_is_known_by_its_code_in_either_edition(value, view):
    assert header(ViewCodeSequence=[code(value)]).view == view
    assert header(ViewCodeSequence=[code(value)], ViewPosition="LM").view == "LM"


def test_codes_are_those_of_the_standard():
    # DICOM PS3.16 CID 4014 and 4015, SNOMED CT and RT
    assert {VIEWS["R-10242"], VIEWS["399162004"]} == {"CC"}
    assert {VIEWS["R-10226"], VIEWS["399368009"]} == {"MLO"}
    assert {VIEWS["R-10224"], VIEWS["399260004"]} == {"ML"}
    assert {VIEWS["R-10228"], VIEWS["399352003"]} == {"LM"}
    assert {VIEWS["R-1024A"], VIEWS["399192008"]} == {"XCCL"}
    assert MODIFIERS == {
        **dict.fromkeys(("R-102D6", "399163009"), "magnification"),
        **dict.fromkeys(("R-102D7", "399055006"), "spot"),
        **dict.fromkeys(("R-102D5", "399209000"), "implant"),
    }


@pytest.mark.parametrize(
    ("tags", "flags"),
    [
        ({"ViewCodeSequence": [code("R-10242", modifiers=[code("R-102D7")])]}, {"spot"}),
        (
            {"ViewCodeSequence": [code("1", modifiers=[code("399163009"), code("399055006")])]},
            {"spot", "magnification"},
        ),
        ({"ViewCodeSequence": [code("1", modifiers=[code("X1", "Spot compression")])]}, {"spot"}),
        ({"ViewModifierCodeSequence": [code("R-102D6")]}, {"magnification"}),
        ({"ViewCodeSequence": [code("1", modifiers=[code("399209000")])]}, {"implant"}),
        ({"BreastImplantPresent": "YES"}, {"implant"}),
        ({"BreastImplantPresent": "NO"}, set()),
        ({"PaddleDescription": "SPOT CONTACT"}, {"spot"}),
        ({"PaddleDescription": "10CM MAG"}, {"magnification"}),
        ({"PaddleDescription": "FULL IMAGER"}, set()),
        ({"EstimatedRadiographicMagnificationFactor": "1.8"}, {"magnification"}),
        ({"EstimatedRadiographicMagnificationFactor": "1.07"}, set()),
        ({"SOPClassUID": BreastTomosynthesisImageStorage}, {"tomosynthesis"}),
        ({"ImageType": ["DERIVED", "PRIMARY", "TOMO_2D"]}, {"tomosynthesis"}),
        ({"ImageType": ["DERIVED", "PRIMARY", "", "GENERATED_2D"]}, {"tomosynthesis"}),
        ({"NumberOfFrames": 60}, {"tomosynthesis"}),
        ({"NumberOfFrames": 1}, set()),
    ],
)
def test_what_is_no_plain_view_is_flagged(tags, flags):
    assert flagged(header(**tags)) == flags


def test_for_processing_is_told_from_for_presentation():
    processing = DigitalMammographyXRayImageStorageForProcessing
    assert header().presentation == "presentation"
    assert header(PresentationIntentType="FOR PROCESSING").presentation == "processing"
    assert header(PresentationIntentType=None, SOPClassUID=processing).presentation == "processing"
    assert header(PresentationIntentType=None).presentation == "presentation"
    assert header(PresentationIntentType=None, SOPClassUID="1.2.840.10008.5.1.4.1.1.7").presentation == ""


@pytest.mark.parametrize(
    ("tags", "spacing"),
    [
        ({"PixelSpacing": [0.07, 0.07]}, 0.07),
        ({"PixelSpacing": [0.07, 0.07], "ImagerPixelSpacing": [0.1, 0.1]}, 0.07),
        ({"ImagerPixelSpacing": [0.1, 0.1]}, 0.1),
        ({"ImagerPixelSpacing": [0.1, 0.1], "EstimatedRadiographicMagnificationFactor": 2}, 0.05),
        ({"PixelSpacing": [0.1, 0.1], "EstimatedRadiographicMagnificationFactor": 2}, 0.1),
        ({"ImagerPixelSpacing": [0.1, 0.1], "EstimatedRadiographicMagnificationFactor": 0}, 0.1),
        ({"PixelSpacing": [0, 0], "ImagerPixelSpacing": [0.1, 0.1]}, 0.1),
        ({"PixelSpacing": 0.1}, None),
        ({"PixelSpacing": ["1e999", "1e999"]}, None),
    ],
)
def test_spacing_is_of_tissue(tags, spacing):
    found = header(**tags).spacing_mm
    assert found == (pytest.approx(spacing) if spacing else None)


def test_a_broken_tag_is_an_absent_one():
    data = pydicom.Dataset()
    raw = pydicom.dataelem.RawDataElement
    for keyword, vr, value in (
        ("NumberOfFrames", "IS", b"many"),
        ("PixelSpacing", "DS", b"a\\b"),
        ("EstimatedRadiographicMagnificationFactor", "DS", b"x"),
        ("Rows", "US", b"\1"),
        ("PatientID", "LO", b"p\\q"),
    ):
        tag = pydicom.tag.Tag(keyword)
        data._dict[tag] = raw(tag, vr, len(value), value, 0, False, True)
    found = Header.of(data)
    assert (found.rows, found.spacing_mm, found.tomosynthesis, found.magnification) == (0, None, False, False)
    assert found.patient == "p\\q"
