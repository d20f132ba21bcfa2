"""Files and tables below a folder, archives, and the datasets that hold little more: microcalc and folder."""

import os
import subprocess
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from fakes import archive, dataset, patch, write_folder, write_microcalc

from mammo_lightning.datamodules.archive import unpack
from mammo_lightning.datamodules.files import read_table, shown, walk
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
    with pytest.raises(SettingsError, match=r"3 classes under .*: benign 9, malignant 9, normal 1; correct what is"):
        images(Folder(mlruns=tmp_path / "m", **options))
    rest = Folder(mlruns=tmp_path / "m", positive="malignant", **options)
    images(rest)
    assert rest.classes == ("rest", "malignant")


def test_blanks_around_a_patient_or_class_in_a_name_are_no_part_of_it(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", patients=6)
    (tmp_path / "data" / "malignant").rename(tmp_path / "data" / "malignant ")
    file = tmp_path / "data" / "benign" / "p000_0.png"
    file.rename(file.with_name("p000 _0.png"))
    data = Folder(root=tmp_path / "data", patient_from=r"(p\d+ ?)_", mlruns=tmp_path / "m")
    assert images(data) == 18
    assert data.classes == ("benign", "malignant")
    assert set(data.frame["patient"]) == {f"p{n:03d}" for n in range(6)}


def test_grey_and_colour_are_kinds_not_sizes(tmp_path: Path) -> None:
    options = write_folder(tmp_path / "data", patients=4)
    path = tmp_path / "data" / "malignant" / "p003_2.png"
    grey = cv2.imread(str(path), -1)
    cv2.imwrite(str(path), np.stack([grey, grey // 2, grey], axis=2))
    said = r"images of several kinds: grey 32x32 \('.*.png'\), colour 32x32 \('malignant/p003_2.png'\); .*Make all grey"
    with pytest.raises(DataError, match=said):
        images(Folder(mlruns=tmp_path / "m", **options))
    cv2.imwrite(str(path), cv2.resize(grey, (48, 40)))
    with pytest.raises(
        DataError, match=r"images of several sizes: .*32x32 \('.*40x48 \('malignant/p003_2.png'\).*--size N"
    ):
        images(Folder(mlruns=tmp_path / "m", **options))


def test_what_a_reader_said_is_passed_on_with_one_full_stop(tmp_path: Path) -> None:
    options = write_folder(tmp_path / "data", patients=4)
    (tmp_path / "data" / "benign" / "p000_0.png").write_bytes(b"")
    with pytest.raises(DataError, match="is an empty file") as error:
        images(Folder(mlruns=tmp_path / "m", **options))
    assert ".." not in str(error.value)


@pytest.mark.parametrize(
    ("pattern", "match"),
    [
        ("(", "is not a regular expression"),
        (r"(case\d+)", "finds no patient in 'benign/p000_0.png'"),
        (None, "whose the images are"),
    ],
)
def test_bad_patterns(tmp_path: Path, pattern: str | None, match: str) -> None:
    write_folder(tmp_path / "data", patients=2)
    with pytest.raises((DataError, SettingsError), match=match):
        images(Folder(root=tmp_path / "data", patient_from=pattern, mlruns=tmp_path / "m"))


def test_folders_without_two_classes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
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


class TestWalk:
    def test_every_file_once_in_order_of_name(self, tmp_path: Path) -> None:
        for name in ("b/2.png", "a/1.png", "a/c/3.dcm", "z.csv"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        found = [path.relative_to(tmp_path).as_posix() for path in walk(tmp_path)]
        assert found == ["a/1.png", "a/c/3.dcm", "b/2.png", "z.csv"]

    def test_links_in_a_circle_and_to_nowhere(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "1.png").touch()
        (tmp_path / "a" / "up").symlink_to(tmp_path)
        (tmp_path / "b").symlink_to(tmp_path / "a")
        (tmp_path / "self").symlink_to(tmp_path / "self")
        (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
        (tmp_path / "file").symlink_to(tmp_path / "a" / "1.png")
        assert [path.relative_to(tmp_path).as_posix() for path in walk(tmp_path)] == ["a/1.png", "file"]

    def test_folders_nested_deeper_than_calls_may_be(self, tmp_path: Path) -> None:
        folder = os.open(tmp_path, os.O_RDONLY)
        try:
            for _ in range(1300):
                os.mkdir("d", dir_fd=folder)
                inside = os.open("d", os.O_RDONLY, dir_fd=folder)
                os.close(folder)
                folder = inside
            os.close(os.open("x.png", os.O_CREAT, dir_fd=folder))
            assert [path.name for path in walk(tmp_path)] == ["x.png"]
        finally:
            os.close(folder)
            subprocess.run(["rm", "-r", str(tmp_path / "d")], check=True)  # Python's own way is by calls, too

    def test_what_a_system_leaves_behind_is_no_image(self, tmp_path: Path) -> None:
        for name in ("._1.png", ".DS_Store", "__MACOSX/1.png", ".ipynb_checkpoints/1.png", "1.png"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        assert [path.name for path in walk(tmp_path)] == ["1.png"]

    def test_names_in_no_encoding(self, tmp_path: Path) -> None:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xe9.png")).touch()
        (path,) = walk(tmp_path)
        assert shown(path.name) == r"\xff\xe9.png"
        shown(path).encode()

    def test_a_folder_that_cannot_be_read_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "a" / "closed").mkdir(parents=True)
        (tmp_path / "a" / "1.png").touch()
        with pytest.raises(DataError, match="absent' cannot be read .*check its permissions"):
            list(walk(tmp_path / "absent"))
        with pytest.raises(DataError, match=r"1\.png' cannot be read \(Not a directory\)"):
            list(walk(tmp_path / "a" / "1.png"))
        scandir = os.scandir

        def closed(folder: str) -> object:  # permissions do not bind the superuser
            if str(folder).endswith("closed"):
                raise PermissionError(13, "Permission denied")
            return scandir(folder)

        monkeypatch.setattr(os, "scandir", closed)
        with pytest.raises(DataError, match=r"a/closed' cannot be read \(Permission denied\); check its permissions"):
            list(walk(tmp_path))


class TestTable:
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "latin-1"])
    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_words_come_out_however_they_were_saved(
        self, tmp_path: Path, encoding: str, delimiter: str, end: str
    ) -> None:
        text = end.join([" path , note", "", 'a.png,"x, y; z', 'w"', " ü.png , 3", ",", ""]).replace("x, y; z", "x")
        (tmp_path / "t.csv").write_bytes(text.replace(",", delimiter).encode(encoding))
        frame = read_table(tmp_path / "t.csv", ["path"])
        assert list(frame.columns) == ["path", "note"]
        assert frame.to_numpy().tolist() == [["a.png", f"x{end}w"], ["ü.png", "3"]]

    def test_columns_without_a_head_and_cells_behind_the_last_are_left_out(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text(",path,\n0,a,,,\n1,b,\n")
        assert read_table(tmp_path / "t.csv").to_dict("list") == {"path": ["a", "b"]}

    def test_words_of_windows(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_bytes(b"path\n\x96\xe9\n")
        assert read_table(tmp_path / "t.csv")["path"].tolist() == ["\u2013é"]
        (tmp_path / "t.csv").write_bytes(b"path\n\x81\xe9\n")
        assert read_table(tmp_path / "t.csv")["path"].tolist() == ["\x81é"]

    @pytest.mark.parametrize(
        ("content", "match"),
        [
            (b"", "is empty"),
            (b" , \n\n", "is empty"),
            (b"path,label\n", "has a head and no line"),
            (b"name,label\nx,y\n", "lacks path; expected path,label, found name,label"),
            (b"path,label,path\na,b,c\n", "has two columns 'path'"),
            (b"path,label\na,b\n\nc\n", "line 4 has 1 of 2 cells: it is cut short"),
            (b"path,label\na,b,c\n", "line 2 has 3 cells under 2 heads"),
            (b'path,label\na,"b\nc,d\n', "line 3 is not csv"),
            (b'path,label\na,"b"x\n', "line 2 is not csv"),
            (b"path,label\na," + b"x" * 200_000, "line 2 is not csv"),
            (b"path,label\na,\0b\n", "is no text"),
            ("path,label\na,b\n".encode("utf-16-le"), "is no text"),
            ("path,label\na,b\n".encode("utf-16")[:-1], "is no text"),
            (b'path,label\n"a\n\na", \n', "line 4 has no label; fill it in"),
        ],
    )
    def test_refusals_name_file_and_line(self, tmp_path: Path, content: bytes, match: str) -> None:
        (tmp_path / "t.csv").write_bytes(content)
        with pytest.raises(DataError, match=f"table '.*t.csv' {match}") as error:
            read_table(tmp_path / "t.csv", ["path"], filled=["label"] if b"label" in content else [])
        assert "\n" not in str(error.value)

    def test_no_table(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"t.csv' cannot be opened \(No such file"):
            read_table(tmp_path / "t.csv")
        with pytest.raises(DataError, match=r"cannot be opened \(Is a directory"):
            read_table(tmp_path)


@pytest.mark.skipif("MAMMO_DATA" not in os.environ, reason="MAMMO_DATA names no folder of real images")
def test_the_real_microcalc_set(tmp_path: Path) -> None:
    data = Microcalc(root=Path(os.environ["MAMMO_DATA"]) / "microcalc", mlruns=tmp_path)
    assert images(data) == 636
    assert data.frame["label"].value_counts().to_dict() == {0: 330, 1: 306}
    assert data.frame["pixels"].duplicated().sum() == 5
    assert data.frame["group"].nunique() < data.frame["patient"].nunique()
