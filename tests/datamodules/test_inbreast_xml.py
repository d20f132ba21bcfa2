from pathlib import Path

import pytest
from fake_inbreast import disc, outlines

from mammo_lightning.datamodules.inbreast_xml import Roi, rois
from mammo_lightning.errors import DataError
from mammo_lightning.preprocessing.patches import Box


def test_outlines_are_read_with_their_names_and_boxes(tmp_path: Path) -> None:
    path = tmp_path / "1.xml"
    path.write_bytes(outlines(("Assymetry", [(1.5, 2.5), (10.25, 2.0), (4.0, 20.5)]), ("Point 1", [(7.0, 8.0)])))
    one, point = rois(path)
    assert one == Roi("asymmetry", ((1.5, 2.5), (10.25, 2.0), (4.0, 20.5)))
    assert one.box == Box(1, 2, 10, 19)
    assert (point.name, point.box) == ("", Box(7, 8, 1, 1))


BOMB = b"""<?xml version="1.0"?><!DOCTYPE plist [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>
<plist version="1.0"><dict><key>Images</key><string>&b;</string></dict></plist>"""


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "no property list"),
        (outlines(("Mass", disc(5, 5, 2)))[:300], "cut short"),
        (BOMB, "no property list"),
        (b"bplist00" + bytes(40), "no property list"),
        (b"<plist><dict><key>Images</key></dict></plist>", "no property list"),
        (b"<plist><array/></plist>", "holds no list 'Images'"),
        (b"<plist><dict><key>Images</key><array><string>x</string></array></dict></plist>", "without a list 'ROIs'"),
        (outlines(("Mass", [])), "outline 1 has no points"),
        (outlines(("Mass", disc(5, 5, 2))).replace(b"(7.0", b"(seven"), "outline 1 has a point '.seven"),
    ],
)
def test_outlines_that_are_broken_are_refused_by_name(tmp_path: Path, content: bytes, match: str) -> None:
    path = tmp_path / "20586908.xml"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"20586908\.xml'.*{match}"):
        rois(path)
