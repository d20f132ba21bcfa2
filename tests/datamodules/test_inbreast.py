import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicoms import breast, write_dicom
from fake_inbreast import disc, outlines, workbook, write_inbreast
from privileges import plain_user

from mammo_lightning.datamodules.inbreast import INbreast
from mammo_lightning.datamodules.inbreast_xml import rois
from mammo_lightning.errors import DataError, SettingsError
from mammo_lightning.preprocessing.patches import Box
from mammo_lightning.types import Level, Predictions

SPELLED = "views called ML in the file name, MLO in the table; the table was believed"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inbreast(tmp_path_factory.mktemp("views") / "INbreast Release 1.0", patients=6)["root"]


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    return shutil.copytree(written, tmp_path / "inbreast")


def module(root: Path, tmp_path: Path, **how: Any) -> INbreast:
    return INbreast(root=root, mlruns=tmp_path / "mlruns", **how)


def edited(root: Path, old: str, new: str) -> None:
    """INbreast.csv with a text replaced."""
    path = root / "INbreast.csv"
    text = path.read_bytes().decode()
    assert old in text
    path.write_bytes(text.replace(old, new).encode())


def first(root: Path) -> Path:
    """The file of the right CC view of the first patient, whose BI-RADS is 1."""
    return next((root / "AllDICOMs").glob("20586908_*"))


@pytest.mark.parametrize(
    ("task", "classes", "expected"),
    [
        ("birads 1-2 vs 4-6", ("birads 1-2", "birads 4-6"), {"1": 0, "2": 0, "4a": 1, "5": 1, "6": 1}),
        ("birads>=4", ("birads 1-3", "birads 4-6"), {"1": 0, "2": 0, "3": 0, "4a": 1, "5": 1, "6": 1}),
    ],
)
def test_birads_follow_the_rule_of_the_task(
    root: Path, tmp_path: Path, task: str, classes: tuple[str, str], expected: dict[str, int]
) -> None:
    data = module(root, tmp_path, task=task)
    frame = data.index()
    assert data.classes == classes
    assert dict(zip(frame["birads"], frame["label"], strict=True)) == expected
    assert set(frame["label_basis"]) == {"assessment"}
    assert data.counted.get("views of BI-RADS 3 left out by the task", 0) == (2 if len(expected) == 5 else 0)
    assert len(frame) == 24 - data.counted["views of BI-RADS 3 left out by the task"]


def test_patients_come_from_the_names_of_files_and_the_rest_from_the_table(root: Path, tmp_path: Path) -> None:
    frame = module(root, tmp_path).index().set_index("image")
    assert frame["patient"].nunique() == 6
    assert frame.loc["20586908", "patient"] == "0000c0ffee00"
    assert frame.loc["20586921", ["laterality", "view", "exam", "density"]].tolist() == ["R", "MLO", "201001", "1"]
    assert set(frame.groupby(["patient", "exam", "laterality"])["view"].agg("+".join)) == {"CC+MLO"}
    assert set(frame["spacing_mm"]) == {0.07}


def test_a_mass_is_what_was_outlined_as_one_and_no_file_is_no_finding(root: Path, tmp_path: Path) -> None:
    frame = module(root, tmp_path, task="mass").index()
    assert frame["label"].eq(frame["birads"].str[0].isin(list("456"))).all()
    assert set(frame["label_basis"]) == {"annotation"}
    assert len(frame) == 24
    assert frame["findings"].eq(frame["birads"].ne("1")).all()


def test_a_spiculated_region_alone_is_no_mass_and_counted(root: Path, tmp_path: Path) -> None:
    (root / "AllXML" / "20586908.xml").write_bytes(outlines(("Espiculated Region", disc(9, 9, 3))))
    (root / "AllXML" / "20586921.xml").write_bytes(
        outlines(("MASS ", disc(9, 9, 3)), ("Spiculated region", disc(9, 9, 5)))
    )
    data = module(root, tmp_path, task="mass")
    frame = data.index().set_index("image")
    assert (frame.loc["20586908", "label"], frame.loc["20586921", "label"]) == (0, 1)
    assert data.counted["views with a spiculated region and no mass outlined, called no mass"] == 1


def test_without_any_outline_masses_are_not_known(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / "AllXML")
    with pytest.raises(DataError, match="no AllXML/<number>.xml under"):
        module(root, tmp_path, task="mass").index()
    assert module(root, tmp_path).index()["findings"].eq(0).all()


def test_every_view_is_square_with_the_chest_wall_to_the_left(root: Path, tmp_path: Path) -> None:
    data = module(root, tmp_path, size=64)
    data.prepare_data()
    assert data.images.shape == (22, 1, 64, 64)
    assert data.images.dtype == np.uint16
    assert (np.asarray(data.images[:, 0, 24:40, :4]) > 0).mean() > 0.95
    assert (np.asarray(data.images[:, 0, :, -8:]) == 0).all()
    assert INbreast.side == 299
    assert data.notices[SPELLED] == 11


def test_the_score_of_a_breast_is_the_mean_of_its_views(root: Path, tmp_path: Path) -> None:
    data = module(root, tmp_path, size=16)
    data.prepare_data()
    assert data.levels == [Level.patch, Level.view, Level.breast, Level.exam, Level.patient]
    score = np.linspace(0.1, 0.9, len(data.frame))
    frame = data.frame.drop(columns=["content", "pixels"]).assign(fold=0, split="val")
    scored = frame.assign(**{"p_birads 1-2": 1 - score, "p_birads 4-6": score})
    at = Predictions(scored).at("breast")
    mean = scored.groupby(["patient", "exam", "laterality"])["p_birads 4-6"].mean()
    assert at.scores == pytest.approx(mean.to_numpy())
    assert len(at) == 11


def test_a_side_that_pixels_contradict_is_noticed(root: Path, tmp_path: Path) -> None:
    write_dicom(first(root), breast(np.random.default_rng(1), side="L"), SOPInstanceUID="1.2.3.0.20586908")
    data = module(root, tmp_path, size=16)
    data.prepare_data()
    reason = "views whose chest wall is seen on the other side than the table says; the table was believed"
    assert data.notices[reason] == 1


def test_rows_without_files_files_without_rows_and_other_names_are_counted(root: Path, tmp_path: Path) -> None:
    shutil.copy(first(root), root / "AllDICOMs" / "99999999_00_MG_R_CC_ANON.dcm")
    shutil.copy(first(root), root / "AllDICOMs" / "mammogram.dcm")
    shutil.copy(first(root), root / first(root).name.upper())
    shutil.copy(first(root), root / "AllDICOMs" / f"._{first(root).name}")
    next((root / "AllDICOMs").glob("20586921_*")).unlink()
    edited(root, "20586934;1;1", "20586934;1;")
    edited(root, "20586947;1;1", "20586947;1;0")
    edited(root, "removed;removed;R;CC;200901;20587008;", "removed;removed;R;FB;200901;20587008;")
    data = module(root, tmp_path)
    frame = data.index()
    assert data.counted["rows of the table without a DICOM file left out"] == 1
    assert data.counted["DICOM files without a row in the table left out"] == 1
    assert data.counted["DICOM files not named <number>_<patient>_MG_<side>_<view>_ANON.dcm left out"] == 1
    assert data.counted["second copies of a DICOM file left out"] == 1
    assert data.counted["views without BI-RADS, left out"] == 1
    assert data.counted["views of BI-RADS 0, a recall, left out"] == 1
    assert data.counted["views called FB, neither CC nor MLO, kept"] == 1
    assert len(frame) == 24 - 2 - 3


@pytest.mark.parametrize("task", ["birads>=4", "birads 1-2 vs 4-6"])
def test_codes_outside_birads_are_refused(root: Path, tmp_path: Path, task: str) -> None:
    edited(root, "20586908;1;1", "20586908;1;7")
    with pytest.raises(DataError, match="Bi-Rads '7' of file 20586908 is not known; known: 1, 2, 3, 4, 4a"):
        module(root, tmp_path, task=task).index()


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (
            ";R;CC;201001;20586908;",
            ";X;CC;201001;20586908;",
            "Laterality 'X' of file 20586908 is not known; known: L, R",
        ),
        (";20586908;", ";2.06E+07;", "has File Name '2.06E\\+07'; expected the number"),
        (";20586921;", ";20586908;", "tells two things of file 20586908; keep the row"),
        ("File Name", "Datei", "lacks File Name; expected Laterality,View"),
        (";20586908;1;1", ";20586908", "line 2 has 6 of 8 cells: it is cut short"),
    ],
)
def test_tables_that_say_nothing_certain_are_refused(
    root: Path, tmp_path: Path, old: str, new: str, match: str
) -> None:
    edited(root, old, new)
    with pytest.raises(DataError, match=match):
        module(root, tmp_path).index()


def test_a_table_saved_from_a_spreadsheet_is_read(root: Path, tmp_path: Path) -> None:
    expected = module(root, tmp_path).index()
    text = (root / "INbreast.csv").read_text()
    (root / "INbreast.csv").unlink()
    text = text.replace(";", ",").replace(",20587447,", ",20587447.0,") + ",,,,,,,\nremoved,removed,,,,,,\n"
    (root / "inbreast.CSV").write_text("\ufeff" + text, encoding="utf-8")
    data = module(root, tmp_path)
    assert data.index().equals(expected)
    assert data.counted["rows of the table without a file name left out"] == 1


def test_a_workbook_gives_the_rows_of_the_csv(root: Path, tmp_path: Path) -> None:
    expected = module(root, tmp_path).index()
    text = (root / "INbreast.csv").read_bytes().decode()
    (root / "INbreast.csv").unlink()
    (root / "INbreast.xls").write_bytes(workbook(text + ";;;;;;28;49\n"))  # sums stand below the real one
    data = module(root, tmp_path)
    assert data.index().equals(expected)
    assert data.counted["rows of the table without a file name left out"] == 1
    (root / "INbreast.xls").write_bytes(workbook(text.replace("ACR", "density")))
    with pytest.raises(DataError, match="INbreast.xls' lacks ACR; expected Laterality,View"):
        data.index()


def test_without_a_reader_a_workbook_is_to_be_saved_as_csv(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xlrd", None)
    assert len(module(root, tmp_path).index()) == 22
    (root / "INbreast.xls").write_bytes(workbook((root / "INbreast.csv").read_text()))
    (root / "INbreast.csv").unlink()
    with pytest.raises(DataError, match="INbreast.xls' is a workbook, read with xlrd. Run `pip install xlrd`, or"):
        module(root, tmp_path).index()


def test_a_broken_workbook_is_refused_and_a_table_named_xls_is_read(root: Path, tmp_path: Path) -> None:
    text = (root / "INbreast.csv").rename(root / "INbreast.xls").read_bytes()
    assert len(module(root, tmp_path).index()) == 22
    (root / "INbreast.xls").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(100))
    with pytest.raises(DataError, match="INbreast.xls' is cut short or no workbook .*save it as INbreast.csv"):
        module(root, tmp_path).index()
    (root / "INbreast.xls").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(DataError, match="INbreast.xls' is a workbook of the newer kind; expected .xls or csv"):
        module(root, tmp_path).index()
    (root / "INbreast.csv").write_bytes(text)
    assert len(module(root, tmp_path).index()) == 22
    (root / "INbreast.csv").unlink()
    (root / "INbreast.xls").unlink()
    with pytest.raises(DataError, match="no INbreast.csv under.*on request"):
        module(root, tmp_path).index()


def test_one_number_of_two_patients_is_refused(root: Path, tmp_path: Path) -> None:
    shutil.copy(first(root), root / "AllDICOMs" / "20586908_dead_MG_R_CC_ANON.dcm")
    with pytest.raises(DataError, match="have one number and different names; keep the one"):
        module(root, tmp_path).index()


def test_broken_views_are_refused_by_name_or_left_out(root: Path, tmp_path: Path) -> None:
    data = first(root).read_bytes()
    first(root).write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="20586908_0000c0ffee00_MG_R_CC_ANON.dcm'"):
        module(root, tmp_path, size=16).prepare_data()
    lenient = module(root, tmp_path, size=16, lenient=True)
    lenient.prepare_data()
    assert [name for name, _ in lenient.unreadable] == ["20586908"]
    assert len(lenient.frame) == 21


def test_a_view_that_is_mended_under_the_same_instance_is_read_anew(root: Path, tmp_path: Path) -> None:
    first_start = module(root, tmp_path, size=16)
    first_start.prepare_data()
    pixels = np.array(first_start.images[0])
    again = module(root, tmp_path, size=16)
    again.prepare_data()
    assert again.versions(again.frame) == first_start.versions(first_start.frame)
    write_dicom(first(root), breast(np.random.default_rng(9), side="R"), SOPInstanceUID="1.2.3.0.20586908")
    mended = module(root, tmp_path, size=16)
    mended.prepare_data()
    assert mended.frame["image"][0] == "20586908"
    assert not np.array_equal(mended.images[0], pixels)
    assert np.array_equal(mended.images[1:], first_start.images[1:])
    assert mended.source == first_start.source


def test_a_view_that_was_cut_short_comes_back_once_it_is_whole(root: Path, tmp_path: Path) -> None:
    whole = first(root).read_bytes()
    first(root).write_bytes(whole[: len(whole) // 2])
    cut = module(root, tmp_path, size=16, lenient=True)
    cut.prepare_data()
    assert len(cut.frame) == 21
    first(root).write_bytes(whole)
    restored = module(root, tmp_path, size=16, lenient=True)
    restored.prepare_data()
    assert (len(restored.frame), restored.unreadable) == (22, [])


def test_boxes_of_findings_are_those_of_the_file_without_the_muscle(root: Path, tmp_path: Path) -> None:
    path = root / "AllXML" / "20586908.xml"
    path.write_bytes(
        outlines(
            ("Mass", [(3.5, 4.0), (9.0, 12.5)]), ("Pectoral Muscle", disc(9, 9, 5)), ("Calcification", [(20.0, 30.0)])
        )
    )
    data = module(root, tmp_path, size=16)
    data.prepare_data()
    frame = data.frame.set_index("image")
    assert frame.loc["20586908", "findings_boxes"] == "3,4,6,9;20,30,1,1"
    assert frame.loc["20586908", "findings"] == 2
    assert [roi.name for roi in rois(path)] == ["mass", "pectoral muscle", "calcification"]
    assert frame["findings_boxes"].eq("").equals(frame["findings"].eq(0))
    assert [str(Box.parse(box)) for box in frame.loc["20586908", "findings_boxes"].split(";")]
    assert "findings_boxes" in data.answers


def test_resized_breasts_have_no_spacing_in_common(root: Path, tmp_path: Path) -> None:
    data = module(root, tmp_path, size=16)
    data.prepare_data()
    assert data.spacing_mm is None
    assert set(data.frame["spacing_mm"]) == {0.07}  # of the files


def test_views_are_told_apart_by_their_instance_or_else_by_their_bytes(root: Path, tmp_path: Path) -> None:
    data = module(root, tmp_path)
    frame = data.index()
    named = data.contents(frame)
    assert len(set(named)) == len(frame)
    for seed in (0, 1):  # as an anonymiser leaves them
        write_dicom(Path(frame["path"][seed]), breast(np.random.default_rng(seed)), SOPInstanceUID="1.2")
    unnamed = data.contents(frame)
    assert len(set(unnamed)) == len(frame)
    assert not set(unnamed) & set(named)


def test_without_its_files_it_says_where_to_get_them(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / "AllDICOMs")
    with pytest.raises(DataError, match="no DICOM file of INbreast under .*the authors .*on request"):
        module(root, tmp_path).index()
    with pytest.raises(DataError, match="inbreast needs its files; pass --root"):
        INbreast().index()


def test_links_in_circles_and_closed_folders(root: Path, tmp_path: Path) -> None:
    (root / "AllDICOMs" / "again").symlink_to(root)
    assert len(module(root, tmp_path).index()) == 22
    (root / "closed").mkdir(mode=0)
    with plain_user(), pytest.raises(DataError, match=r"closed' cannot be read"):
        module(root, tmp_path).index()


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(SettingsError, match="--task 'malignant' is not known to inbreast; known: birads 1-2 vs 4-6"):
        INbreast(task="malignant")


@pytest.mark.skipif("MAMMO_DATA" not in os.environ, reason="MAMMO_DATA names no folder of real data")
def test_the_real_workbook_and_the_real_csv_say_the_same(tmp_path: Path) -> None:
    real = Path(os.environ["MAMMO_DATA"]) / "inbreast"
    frames = []
    for name in ("INbreast.csv", "INbreast.xls"):
        root = tmp_path / Path(name).suffix
        root.mkdir()
        (root / name).write_bytes((real / name).read_bytes())
        for line in (real / "INbreast.csv").read_text().splitlines()[1:]:
            _, _, side, view, _, number, _, _ = line.split(";")
            (root / f"{number}_{number[:5]}ab_MG_{side}_{view}_ANON.dcm").touch()
        frames.append(INbreast(root=root).index().drop(columns="path"))
    assert frames[0].equals(frames[1])


@pytest.mark.skipif("MAMMO_DATA" not in os.environ, reason="MAMMO_DATA names no folder of real data")
def test_the_real_table_gives_the_known_counts(tmp_path: Path) -> None:
    real = Path(os.environ["MAMMO_DATA"]) / "inbreast" / "INbreast.csv"
    (tmp_path / "INbreast.csv").write_bytes(real.read_bytes())
    for line in real.read_text().splitlines()[1:]:
        _, _, side, view, _, number, _, _ = line.split(";")
        (tmp_path / f"{number}_{number[:5]}ab_MG_{side}_{view}_ANON.dcm").touch()
    data = INbreast(root=tmp_path)
    assert data.index()["label"].value_counts().to_dict() == {0: 287, 1: 100}
    assert data.counted["views of BI-RADS 3 left out by the task"] == 23
    both = INbreast(root=tmp_path, task="birads>=4")
    assert both.index()["label"].value_counts().to_dict() == {0: 310, 1: 100}
    assert both.counted["views called FB, neither CC nor MLO, kept"] == 1
