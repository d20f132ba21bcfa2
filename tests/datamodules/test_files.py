"""The datasets that read files: microcalc, folder, and archives."""

import os
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from fakes import archive, dataset, patch, write_folder, write_microcalc

from mammo_lightning.datamodules.archive import unpack
from mammo_lightning.datamodules.folder import Folder
from mammo_lightning.datamodules.folds import TEST, make_splits
from mammo_lightning.datamodules.microcalc import Microcalc
from mammo_lightning.errors import DataError, SettingsError


def images(data: Microcalc | Folder) -> int:
    data.prepare_data()
    return len(data.frame)


@pytest.mark.parametrize("below", ["", "IMAGES/Mammography_micro", "IMAGES/Mammography_micro/Train"])
def test_microcalc_is_found_at_every_depth(tmp_path: Path, below: str) -> None:
    write_microcalc(tmp_path / "data", patients=6)
    data = Microcalc(root=tmp_path / "data" / below, mlruns=tmp_path / "m")
    assert images(data) == 18
    assert set(data.frame["patient"]) == {f"{n:04d}{'ssbb'[n % 4]}1" for n in range(6)}
    assert set(data.frame["view"]) == {"1", "2"}
    assert set(data.frame["source"]) == {"s", "b"}


def test_microcalc_reads_the_archive_and_the_official_parts(tmp_path: Path) -> None:
    write_microcalc(tmp_path / "data", patients=12, test=6)
    path = tmp_path / "DL_class_data.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(tmp_path / "data" / "IMAGES", "IMAGES")
    data = Microcalc(root=path, mlruns=tmp_path / "m")
    assert images(data) == 54
    assert make_splits(data, folds=3).fold.tolist().count(TEST) == 18


@pytest.mark.parametrize(
    ("root", "match"),
    [(None, "needs its files; pass --root"), ("absent", "no such file or folder"), ("empty", "no images under")],
)
def test_microcalc_without_files(tmp_path: Path, root: str | None, match: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=match):
        images(Microcalc(root=tmp_path / root if root else None, mlruns=tmp_path / "m"))


def test_microcalc_with_a_name_that_hides_the_exam(tmp_path: Path) -> None:
    write_microcalc(tmp_path / "data", patients=6)
    cv2.imwrite(str(tmp_path / "data/IMAGES/Mammography_micro/Train/0/scan7.pgm"), patch(np.random.default_rng(0), 0))
    with pytest.raises(DataError, match=r"'scan7.pgm' is not named like 0002s1_4_0.pgm_1.pgm"):
        images(Microcalc(root=tmp_path / "data", mlruns=tmp_path / "m"))


def link(kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo("inside")
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize(
    ("members", "match"),
    [
        ({"../outside.txt": b"x"}, "leaves the folder"),
        ({"/absolute.txt": b"x"}, "leaves the folder"),
        ({"inside": link(tarfile.SYMTYPE)}, "link or device"),
        ({"inside": link(tarfile.LNKTYPE)}, "link or device"),
        ({"inside": link(tarfile.CHRTYPE)}, "link or device"),
        ({"bomb": b"\0" * 50_000_000}, "unpacks to more than"),
    ],
)
def test_archives_from_strangers_are_refused_whole(tmp_path: Path, members: dict, match: str) -> None:
    path = archive(tmp_path / "a.tar.gz", {"good.txt": b"good", **members})
    with pytest.raises(DataError, match=match):
        unpack(path, tmp_path / "into")
    assert not [item for item in (tmp_path / "into").iterdir() if item.is_dir()]
    assert not (tmp_path / "outside.txt").exists()


def test_an_archive_is_unpacked_once(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar.gz", {"x/good.txt": b"good"})
    folder = unpack(path, tmp_path / "into")
    assert (folder / "x" / "good.txt").read_text() == "good"
    (folder / "x" / "good.txt").write_text("kept")
    assert (unpack(path, tmp_path / "into") / "x" / "good.txt").read_text() == "kept"


def test_a_broken_archive_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar.gz", {"a": os.urandom(100_000)})
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(DataError, match="not a readable tar archive"):
        unpack(path, tmp_path / "into")


def test_folder_takes_patients_from_names(tmp_path: Path) -> None:
    data = dataset("folder", tmp_path, patients=6)
    assert data.classes == ("benign", "malignant")
    assert set(data.frame["patient"]) == {f"p{n:03d}" for n in range(6)}
    assert data.frame.set_index("image").loc["malignant/p001_0.png", "label"] == 1


def test_folder_positive_class_can_be_named(tmp_path: Path) -> None:
    options = write_folder(tmp_path / "data", patients=6)
    data = Folder(mlruns=tmp_path / "m", positive="benign", **options)
    images(data)
    assert data.classes == ("malignant", "benign")
    (tmp_path / "data" / "normal").mkdir()
    cv2.imwrite(str(tmp_path / "data/normal/p100_0.png"), patch(np.random.default_rng(5), 0))
    with pytest.raises(SettingsError, match=r"3 classes \(benign, malignant, normal\); pass --positive"):
        images(Folder(mlruns=tmp_path / "m", **options))
    rest = Folder(mlruns=tmp_path / "m", positive="malignant", **options)
    images(rest)
    assert rest.classes == ("rest", "malignant")


def test_folder_takes_patients_and_subgroups_from_a_table(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", patients=6)
    paths = sorted(path.relative_to(tmp_path / "data").as_posix() for path in (tmp_path / "data").rglob("*.png"))
    frame = pd.DataFrame({"path": paths, "patient": [path.split("/")[1][:4] for path in paths]})
    frame = frame.assign(label=[path.split("/")[0] for path in paths], vendor=["A", "B"] * 9)
    frame.to_csv(tmp_path / "images.csv", index=False)
    data = Folder(root=tmp_path / "data", table=tmp_path / "images.csv", mlruns=tmp_path / "m")
    assert images(data) == 18
    assert data.subgroups == ["vendor"]


def test_blanks_around_what_a_table_says_are_no_part_of_it(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", patients=4)
    paths = sorted(path.relative_to(tmp_path / "data").as_posix() for path in (tmp_path / "data").rglob("*.png"))
    lines = [
        f"{path} ,{' 00'[n % 2 :]}{path[-8]},{path.split('/')[0]}{' ' * (n % 2)}, L " for n, path in enumerate(paths)
    ]
    (tmp_path / "images.csv").write_text("\n".join(["path, patient ,label, view", *lines, ""]))
    data = Folder(root=tmp_path / "data", table=tmp_path / "images.csv", mlruns=tmp_path / "m")
    assert images(data) == 12
    assert data.classes == ("benign", "malignant")
    assert set(data.frame["view"]) == {"L"}
    assert data.frame["image"].tolist() == paths
    assert all(len(patient) == len(patient.strip()) for patient in data.frame["patient"])


def test_blanks_around_a_patient_or_class_in_a_name_are_no_part_of_it(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", patients=6)
    (tmp_path / "data" / "malignant").rename(tmp_path / "data" / "malignant ")
    file = tmp_path / "data" / "benign" / "p000_0.png"
    file.rename(file.with_name("p000 _0.png"))
    data = Folder(root=tmp_path / "data", patient_from=r"(p\d+ ?)_", mlruns=tmp_path / "m")
    assert images(data) == 18
    assert data.classes == ("benign", "malignant")
    assert set(data.frame["patient"]) == {f"p{n:03d}" for n in range(6)}


@pytest.mark.parametrize("column", ["group", "pixels", "p_malignant", " p_x"])
def test_a_column_whose_name_is_taken_is_refused(tmp_path: Path, column: str) -> None:
    write_folder(tmp_path / "data", patients=2)
    (tmp_path / "images.csv").write_text(
        f"path,patient,label,{column}\nbenign/p000_0.png,p,benign,1\nmalignant/p001_0.png,q,malignant,1\n"
    )
    with pytest.raises(DataError, match=f"column '{column.strip()}' has a name that is used for results; rename it"):
        images(Folder(root=tmp_path / "data", table=tmp_path / "images.csv", mlruns=tmp_path / "m"))


def test_grey_and_colour_are_kinds_not_sizes(tmp_path: Path) -> None:
    options = write_folder(tmp_path / "data", patients=4)
    path = tmp_path / "data" / "malignant" / "p003_2.png"
    grey = cv2.imread(str(path), -1)
    cv2.imwrite(str(path), np.stack([grey, grey // 2, grey], axis=2))
    said = r"images of 2 kinds: grey 32x32 \('.*.png'\), colour 32x32 \('malignant/p003_2.png'\); .* Make all grey"
    with pytest.raises(DataError, match=said):
        images(Folder(mlruns=tmp_path / "m", **options))
    cv2.imwrite(str(path), cv2.resize(grey, (48, 40)))
    with pytest.raises(DataError, match=r"images of 2 sizes: .*32x32 \('.*40x48 \('malignant/p003_2.png'\).*--size N"):
        images(Folder(mlruns=tmp_path / "m", **options))


def test_what_a_reader_said_is_passed_on_with_one_full_stop(tmp_path: Path) -> None:
    options = write_folder(tmp_path / "data", patients=4)
    (tmp_path / "data" / "benign" / "p000_0.png").write_bytes(b"")
    with pytest.raises(DataError, match="is an empty file") as error:
        images(Folder(mlruns=tmp_path / "m", **options))
    assert ".." not in str(error.value)


@pytest.mark.parametrize(
    ("table", "match"),
    [
        ("path,patient,label\nbenign/p000_0.png,  ,benign\n", "line 2 has an empty cell"),
        ("path,label\na,b\n", "lacks patient"),
        ("path,patient,label\nnone.png,p,x\nother.png,q,y\n", r"names 'none.png' \(2 such\)"),
        ("path,patient,label\nbenign/p000_0.png,,benign\n", "line 2 has an empty cell"),
        ("", "cannot be read"),
    ],
)
def test_bad_tables(tmp_path: Path, table: str, match: str) -> None:
    write_folder(tmp_path / "data", patients=2)
    (tmp_path / "images.csv").write_text(table)
    with pytest.raises(DataError, match=match):
        images(Folder(root=tmp_path / "data", table=tmp_path / "images.csv", mlruns=tmp_path / "m"))


@pytest.mark.parametrize(
    ("pattern", "match"),
    [("(", "is not a regular expression"), (r"(case\d+)", "finds no patient in 'benign/p000_0.png'"), (None, "either")],
)
def test_bad_patterns(tmp_path: Path, pattern: str | None, match: str) -> None:
    write_folder(tmp_path / "data", patients=2)
    with pytest.raises((DataError, SettingsError), match=match):
        images(Folder(root=tmp_path / "data", patient_from=pattern, mlruns=tmp_path / "m"))


def test_folders_without_two_classes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        images(Folder(root=tmp_path / "absent", patient_from="(p)", mlruns=tmp_path / "m"))
    (tmp_path / "data" / "benign").mkdir(parents=True)
    with pytest.raises(DataError, match="no image under"):
        images(Folder(root=tmp_path / "data", patient_from="(p)", mlruns=tmp_path / "m"))
    cv2.imwrite(str(tmp_path / "data/benign/p1.png"), patch(np.random.default_rng(0), 0))
    with pytest.raises(DataError, match="one class under"):
        images(Folder(root=tmp_path / "data", patient_from="(p)", mlruns=tmp_path / "m"))


def test_a_truncated_image_is_named_with_the_cure(tmp_path: Path) -> None:
    options = write_folder(tmp_path / "data", patients=6)
    path = tmp_path / "data" / "benign" / "p000_1.png"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"p000_1.png.*--skip-unreadable"):
        images(Folder(mlruns=tmp_path / "m", **options))
    assert images(Folder(mlruns=tmp_path / "m", lenient=True, **options)) == 17


@pytest.mark.skipif("MAMMO_DATA" not in os.environ, reason="MAMMO_DATA names no folder of real images")
def test_the_real_microcalc_set(tmp_path: Path) -> None:
    data = Microcalc(root=Path(os.environ["MAMMO_DATA"]) / "microcalc", mlruns=tmp_path)
    assert images(data) == 636
    assert data.frame["label"].value_counts().to_dict() == {0: 330, 1: 306}
    assert data.frame["pixels"].duplicated().sum() == 5
    assert data.frame["group"].nunique() < data.frame["patient"].nunique()
