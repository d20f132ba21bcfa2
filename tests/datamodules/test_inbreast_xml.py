from pathlib import Path

import cv2
import numpy as np
import pytest
from dicoms import breast
from fake_inbreast import disc, outlines

from mammo_lightning.datamodules.decoding import resized
from mammo_lightning.datamodules.inbreast_xml import Roi, placed, rois
from mammo_lightning.errors import DataError
from mammo_lightning.preprocessing.breast import standing
from mammo_lightning.preprocessing.patches import Box


def test_outlines_are_read_with_their_names_and_boxes(tmp_path: Path) -> None:
    path = tmp_path / "1.xml"
    path.write_bytes(outlines(("Assymetry", [(1.5, 2.5), (10.25, 2.0), (4.0, 20.5)]), ("Point 1", [(7.0, 8.0)])))
    one, point = rois(path)
    assert one == Roi("asymmetry", ((1.5, 2.5), (10.25, 2.0), (4.0, 20.5)))
    assert one.box == Box(1, 2, 10, 19)
    assert (point.name, point.box) == ("", Box(7, 8, 1, 1))


@pytest.mark.parametrize("side", ["L", "R"])
@pytest.mark.parametrize("size", [61, 299])
def test_a_box_follows_its_lesion_into_the_image(side: str, size: int) -> None:
    film = np.pad(breast(np.random.default_rng(3), height=320, width=256), ((40, 20), (0, 90)))
    film = np.minimum(film, 2500)
    cv2.circle(film, (70, 150), 16, 3800, -1)
    x = 70 if side == "L" else film.shape[1] - 1 - 70
    film = film if side == "L" else np.ascontiguousarray(film[:, ::-1])
    box = Roi("mass", tuple(disc(x, 150, 16.5))).box
    seen = standing(film, side)
    assert seen.flipped == (side == "R")
    assert seen.box.y > 40
    assert seen.box.height < 320
    found = placed(box, seen, size)
    assert found is not None
    image = resized(seen.image[None], size)[0]
    across, down = np.nonzero((image > 65000).any(0))[0], np.nonzero((image > 65000).any(1))[0]
    assert len(across) > 3
    assert found.x <= across[0] <= found.x + 4
    assert found.x + found.width - 5 <= across[-1] < found.x + found.width
    assert found.y <= down[0] <= found.y + 4
    assert found.y + found.height - 5 <= down[-1] < found.y + found.height


def test_a_box_beside_the_breast_is_nowhere_and_one_across_its_edge_ends_there() -> None:
    film = np.pad(breast(np.random.default_rng(3)), ((30, 30), (0, 30)))
    seen = standing(film, "L")
    assert placed(Box(0, 0, 20, 10), seen, 64) is None
    over = placed(Box(0, 0, film.shape[1], film.shape[0]), seen, 64)
    assert over is not None
    assert (over.x, over.y, max(over.width, over.height)) == (0, 0, 64)


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
