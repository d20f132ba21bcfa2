"""What the tags of a mammogram say about it: whose, which breast and view, how it was taken, how large a pixel is."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

#: tomosynthesis: images, projections for presentation and for processing
TOMOSYNTHESIS = tuple(f"1.2.840.10008.5.1.4.1.1.13.1.{last}" for last in (3, 4, 5))
PRESENTATION = {
    "1.2.840.10008.5.1.4.1.1.1.2": "presentation",
    "1.2.840.10008.5.1.4.1.1.1.2.1": "processing",
    "1.2.840.10008.5.1.4.1.1.1.1": "presentation",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "processing",
}
#: DICOM CID 4014 and 4015: views and their modifiers, in SNOMED CT and RT
VIEWS = {"399260004": "ML", "399368009": "MLO", "399352003": "LM", "399099002": "LMO", "399162004": "CC"}
VIEWS |= {"399196006": "FB", "399188001": "SIO", "441555000": "ISO", "399192008": "XCCL", "399101009": "XCCM"}
VIEWS |= {"R-10224": "ML", "R-10226": "MLO", "R-10228": "LM", "R-10230": "LMO", "R-10242": "CC", "R-10244": "FB"}
VIEWS |= {"R-102D0": "SIO", "R-40AAA": "ISO", "R-1024A": "XCCL", "R-1024B": "XCCM"}
VIEWS |= {"Y-X1770": "XCCL", "Y-X1771": "XCCM"}  # of an earlier edition
MODIFIERS = {"399163009": "magnification", "399055006": "spot", "399209000": "implant"}
MODIFIERS |= {"R-102D6": "magnification", "R-102D7": "spot", "R-102D5": "implant"}
#: a contact view has a factor of about 1.05; a magnified one 1.5 or more
MAGNIFIED = 1.25


@dataclass(frozen=True)
class Header:
    """The tags of one image that matter here; what a file does not say is empty."""

    patient: str
    exam: str  # StudyInstanceUID
    instance: str  # SOPInstanceUID
    series: str
    laterality: str  # L, R
    view: str  # CC, MLO, ML ...
    spacing_mm: float | None
    sex: str
    presentation: str  # presentation, processing
    inverse: bool  # PresentationLUTShape INVERSE
    image_type: tuple[str, ...]
    vendor: str
    model: str
    rows: int
    columns: int
    bits: int  # stored of each pixel
    spot: bool
    magnification: bool
    implant: bool
    tomosynthesis: bool

    @classmethod
    def of(cls, data: Any) -> Header:
        """From a pydicom dataset; a tag that is broken counts as absent."""
        words = {word.upper() for word in _several(data, "ImageType")}
        modifiers = _modifiers(data)
        factor = _number(data, "EstimatedRadiographicMagnificationFactor") or 1.0
        paddle = _text(data, "PaddleDescription").upper()
        uid = _text(data, "SOPClassUID")
        return cls(
            patient=_text(data, "PatientID"),
            exam=_text(data, "StudyInstanceUID"),
            instance=_text(data, "SOPInstanceUID"),
            series=_text(data, "SeriesInstanceUID"),
            laterality=_side(_text(data, "ImageLaterality")) or _side(_text(data, "Laterality")),
            view=(_text(data, "ViewPosition") or _coded_view(data)).upper(),
            spacing_mm=_spacing(data, factor),
            sex=_text(data, "PatientSex").upper(),
            presentation=_intent(data, uid),
            inverse=_text(data, "PresentationLUTShape").upper() == "INVERSE",
            image_type=tuple(_several(data, "ImageType")),
            vendor=_text(data, "Manufacturer"),
            model=_text(data, "ManufacturerModelName"),
            rows=int(_number(data, "Rows") or 0),
            columns=int(_number(data, "Columns") or 0),
            bits=int(_number(data, "BitsStored") or 0),
            spot="spot" in modifiers or "SPOT" in paddle,
            magnification="magnification" in modifiers or factor >= MAGNIFIED or bool(re.search(r"\bMAG", paddle)),
            implant="implant" in modifiers or _text(data, "BreastImplantPresent").upper() == "YES",
            tomosynthesis=uid in TOMOSYNTHESIS
            or (_number(data, "NumberOfFrames") or 1) > 1
            or any("TOMO" in word or word == "GENERATED_2D" for word in words),
        )


def _text(data: Any, name: str) -> str:
    return "\\".join(_several(data, name))


def _several(data: Any, name: str) -> list[str]:
    try:
        value = data.get(name)
        one = isinstance(value, str | bytes) or not hasattr(value, "__iter__")
        return [str(each).replace("\0", "").strip() for each in ([value] if one else value) if each is not None]
    except Exception:  # pydicom raises what a broken element happens to provoke
        return []


def _number(data: Any, name: str) -> float | None:
    try:
        number = float(_text(data, name))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _side(text: str) -> str:
    """L or R; both breasts in one image, or neither said, have no side."""
    side = text[:1].upper()
    return side if side in ("L", "R") else ""


def _items(data: Any, name: str) -> list[Any]:
    try:
        return list(data.get(name) or [])
    except Exception:  # as in `_several`: a broken tag counts as absent, whatever pydicom raises of it
        return []


def _modifiers(data: Any) -> set[str]:
    """Modifiers of the view, by code or, of private codes, by what they are called."""
    found = set()
    for place in (*_items(data, "ViewCodeSequence"), data):  # where it belongs, and where some writers put it
        for item in _items(place, "ViewModifierCodeSequence"):
            meaning = _text(item, "CodeMeaning").lower()
            known = MODIFIERS.get(_text(item, "CodeValue"), "")
            found.add(known or next((word for word in ("magnification", "spot", "implant") if word in meaning), ""))
    return found - {""}


def _coded_view(data: Any) -> str:
    return next((VIEWS.get(_text(view, "CodeValue"), "") for view in _items(data, "ViewCodeSequence")), "")


def _intent(data: Any, uid: str) -> str:
    said = _text(data, "PresentationIntentType").upper()
    known = {"FOR PRESENTATION": "presentation", "FOR PROCESSING": "processing"}
    return known.get(said) or PRESENTATION.get(uid, "")


def _spacing(data: Any, factor: float) -> float | None:
    """Millimetres of tissue a pixel: as calibrated, else as it is at the detector less the magnification."""
    for name, divisor in (("PixelSpacing", 1.0), ("ImagerPixelSpacing", factor)):
        try:
            values = [float(value) for value in _several(data, name)]
        except ValueError:
            continue
        if len(values) == 2 and min(values) > 0 and math.isfinite(sum(values)) and divisor > 0:
            return round(sum(values) / 2 / divisor, 6)
    return None
