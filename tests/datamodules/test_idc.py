import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_idc import NESTED, patch, write_idc
from fakes import dataset
from privileges import plain_user

from mammo_lightning.datamodules.idc import Idc
from mammo_lightning.errors import DataError, SettingsError

PADDED = "patches cut off at a border filled up by repeating their edge"
COLOURLESS = "patches almost without colour (glass, bad scans) kept and flagged"


def opened(root: Path, tmp_path: Path, **how: object) -> Idc:
    data = Idc(root=root, mlruns=tmp_path / "mlruns", **how)  # type: ignore[arg-type]
    data.prepare_data()
    return data


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_idc(tmp_path / "idc", patients=6)["root"]


def test_patients_and_labels_come_from_names(root: Path, tmp_path: Path) -> None:
    data = opened(root, tmp_path)
    assert len(data.frame) == 36
    assert data.frame["patient"].nunique() == 6
    named = data.frame["image"].str.extract(r"^(\d+)_.*class(\d)\.png$")
    assert named[0].eq(data.frame["patient"]).all()
    assert named[1].astype(int).eq(data.frame["label"]).all()
    assert set(data.frame["label_basis"]) == {"annotation"}
    assert data.domain == "histology"


def test_the_nested_copy_is_taken_once_and_counted(root: Path, tmp_path: Path) -> None:
    data = opened(root, tmp_path)
    assert data.notices[f"files that stand a second time below {NESTED} taken once"] == 6
    assert not data.frame["path"].str.contains(NESTED).any()


def test_patients_that_stand_only_in_the_nested_folder_are_found(root: Path, tmp_path: Path) -> None:
    (root / "8863").rename(root / NESTED / "8863")
    assert len(opened(root, tmp_path).frame) == 36


def test_patches_cut_off_are_padded_or_dropped_and_counted(root: Path, tmp_path: Path) -> None:
    padded, dropped = opened(root, tmp_path), opened(root, tmp_path, borders="drop")
    assert padded.notices[PADDED] == 1
    (row,) = np.flatnonzero(padded.frame["flags"].str.contains(PADDED, regex=False))
    image = np.asarray(padded.images[row])
    assert (image[:, :, 31:] == image[:, :, 30:31]).all()
    assert image[:, :, :31].std() > 1
    assert dropped.notices["patches cut off at a border left out"] == 1
    assert len(dropped.frame) == 35
    assert PADDED not in dropped.notices


def test_colourless_scans_are_flagged_and_counted(root: Path, tmp_path: Path) -> None:
    data = opened(root, tmp_path)
    assert data.notices[COLOURLESS] == 1
    assert data.frame.loc[data.frame["flags"].str.contains("colour"), "patient"].tolist() == ["8864"]
    assert data.notices == opened(root, tmp_path).notices, "what was noticed is kept with the images"


def test_colours_are_in_rgb_order(root: Path, tmp_path: Path) -> None:
    data = opened(root, tmp_path)
    red, green, _ = np.asarray(data.images).mean(axis=(0, 2, 3))
    assert red > green + 30


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("8863/0/8863_idx5_x1_y1_class1.png", "class 1 by its name.*class 0 by its folder"),
        ("8863/0/8864_idx5_x1_y1_class0.png", "of patient 8864 .*of patient 8863"),
        ("8863/0/picture.png", "not named like"),
        ("8863/0/8863_idx5_x1_y1_class2.png", "not named like"),
    ],
)
def test_names_that_contradict_their_folders_are_refused(root: Path, tmp_path: Path, name: str, match: str) -> None:
    cv2.imwrite(str(root / name), patch(np.random.default_rng(9), 0))
    with pytest.raises(DataError, match=match):
        opened(root, tmp_path)


@pytest.mark.parametrize(
    ("image", "match"),
    [
        (np.arange(2500, dtype=np.uint16).reshape(50, 50), "not 8-bit RGB"),
        (np.arange(2500, dtype=np.uint8).reshape(50, 50), "not 8-bit RGB"),
        (patch(np.random.default_rng(0), 0, 64, 64), "64x64"),
    ],
)
def test_other_pixels_are_refused(root: Path, tmp_path: Path, image: np.ndarray, match: str) -> None:
    cv2.imwrite(str(root / "8863" / "0" / "8863_idx5_x9_y9_class0.png"), image)
    with pytest.raises(DataError, match=match):
        opened(root, tmp_path)


def test_a_truncated_patch_is_named_or_left_out(root: Path, tmp_path: Path) -> None:
    path = next((root / "8865" / "1").iterdir())
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=f"{path.name}.*cut short"):
        opened(root, tmp_path)
    data = opened(root, tmp_path, lenient=True)
    assert [path.name] == [name for name, _ in data.unreadable]


def test_an_empty_folder_says_where_to_get_the_set(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match=r"no patch under .*expected <patient>/\{0,1\}.*kaggle.*CC0"):
        opened(tmp_path / "none", tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        opened(tmp_path / "nowhere", tmp_path)
    with pytest.raises(SettingsError, match="no borders 'keep'; known: drop, pad"):
        Idc(borders="keep")


def test_an_unreadable_folder_is_named(root: Path, tmp_path: Path) -> None:
    (root / "8866" / "1").chmod(0)
    with plain_user(), pytest.raises(DataError, match=r"8866.*cannot be read"):
        opened(root, tmp_path)


def test_a_quick_look_takes_whole_patients_of_both_classes(tmp_path: Path) -> None:
    data = dataset("idc", tmp_path, patients=12)
    few = Idc(root=data.root, mlruns=tmp_path / "mlruns", limit=20)
    few.prepare_data()
    assert 20 <= len(few.frame) < 26
    assert set(few.frame.groupby("patient").size()) == {6}
    assert set(few.frame["image"]) < set(data.frame["image"])


@pytest.mark.skipif("MAMMO_DATA" not in os.environ, reason="MAMMO_DATA names no folder of real images")
def test_real_patches(tmp_path: Path) -> None:
    frame = Idc(root=Path(os.environ["MAMMO_DATA"]) / "idc").index()
    assert (len(frame), int(frame["label"].sum()), frame["patient"].nunique()) == (7503, 1999, 200)
