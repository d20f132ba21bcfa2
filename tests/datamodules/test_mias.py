import os
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fake_mias import write_mias
from privileges import plain_user

from mammo_lightning.datamodules.mias import PER_FILM, Mias, read_lines
from mammo_lightning.errors import DataError, SettingsError
from mammo_lightning.preprocessing.patches import Box


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mias(tmp_path_factory.mktemp("films") / "mias", patients=8)["root"]


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    """The films, linked, so that a test may replace some."""
    folder = tmp_path / "mias"
    folder.mkdir()
    for path in written.iterdir():
        (folder / path.name).hardlink_to(path)
    return folder


def opened(root: Path, tmp_path: Path, **how: Any) -> Mias:
    data = Mias(root=root, mlruns=tmp_path / "mlruns", **({"field_mm": 20.0} | how))
    data.prepare_data()
    return data


def rewritten(root: Path, **lines: str) -> Path:
    """Info.txt with the lines of some films replaced."""
    path = root / "Info.txt"
    text = path.read_text().splitlines()
    path.unlink()
    path.write_text("\n".join(lines.get(line[:6], line) for line in text))
    return path


def test_a_lesion_lies_in_the_middle_of_its_patch_whose_y_is_counted_from_below(root: Path, tmp_path: Path) -> None:
    data = opened(root, tmp_path)
    assert data.images.shape[1:] == (1, 100, 100)
    assert data.images.dtype == np.uint8
    for row, image in zip(data.frame.to_dict("records"), data.images, strict=True):
        bright = np.argwhere(image[0] == 250)
        assert bool(len(bright)) == bool(row["label"])
        if row["label"] and len(bright) < 3000:  # of a single lesion
            assert np.abs(bright.mean(0) - 50).max() < 2


def test_odd_and_even_films_are_right_and_left_of_one_patient(root: Path, tmp_path: Path) -> None:
    frame = opened(root, tmp_path).frame
    film = frame["image"].str[3:6].astype(int)
    assert frame["laterality"].eq(np.where(film % 2, "R", "L")).all()
    assert frame["patient"].eq([f"p{(number + 1) // 2:03d}" for number in film]).all()
    assert set(frame["view"]) == {"MLO"}
    assert set(frame["spacing_mm"]) == {0.2}


def test_the_chest_wall_is_to_the_left_and_its_padding_outside(tmp_path: Path) -> None:
    root = write_mias(tmp_path / "mias", patients=2)["root"]
    rewritten(root, mdb001="mdb001 G CIRC B 880 512 30", mdb002="mdb002 G CIRC B 140 512 30")
    data = opened(root, tmp_path)
    assert data.notices["patches of lesions at the edge of a film shifted into it"] == 2
    for row, image in zip(data.frame.to_dict("records"), data.images, strict=True):
        if row["label"]:
            assert image[0, :, 3:].min() > 20
            whole = data.open(row["path"])
            box = Box.parse(row["box"])
            wall = box.x + box.width if row["laterality"] == "R" else box.x
            assert abs(wall - (1024 - 128 if row["laterality"] == "R" else 128)) <= 8
            cut = box.of(whole)
            assert np.array_equal(image[0], cut[:, ::-1] if row["laterality"] == "R" else cut)


def test_normal_tissue_is_of_films_without_lesion_as_deep_in_the_breast_and_never_twice(
    root: Path, tmp_path: Path
) -> None:
    frame = opened(root, tmp_path).frame
    film = frame["image"].str[:6]
    assert not set(film[frame["label"] == 0]) & set(film[frame["label"] == 1])
    assert Counter(film[frame["label"] == 0]).most_common(1)[0][1] == PER_FILM
    for _, boxes in frame.groupby(film)["box"]:
        first, *others = (Box.parse(box) for box in boxes)
        if set(frame.loc[boxes.index, "label"]) == {0}:
            assert not any(first.overlaps(other) for other in others)
    centre = frame["box"].map(lambda box: Box.parse(box).y + 50)
    lesions = centre[frame["label"] == 1]
    assert centre[frame["label"] == 0].between(lesions.min() - 30, lesions.max() + 30).all()


def test_the_same_films_give_the_same_patches_whatever_else_is_there(root: Path, tmp_path: Path) -> None:
    first = opened(root, tmp_path).frame
    (root / "notes.pgm").write_bytes(b"no film")
    assert opened(root, tmp_path / "again").frame["box"].tolist() == first["box"].tolist()


def test_severity_is_a_task_of_lesions_only_and_an_assessment(root: Path, tmp_path: Path) -> None:
    data = opened(root, tmp_path, task="benign_malignant")
    assert data.classes == ("severity B", "severity M")
    assert data.frame["label"].eq(data.frame["severity"] == "M").all()
    assert "NORM" not in set(data.frame["lesion_type"])
    assert set(data.frame["label_basis"]) == {"assessment"}
    assert set(opened(root, tmp_path).frame["label_basis"]) == {"annotation"}


@pytest.mark.parametrize(("size", "spacing"), [(None, 0.2), (50, 0.4), (200, 0.1)])
def test_spacing_is_that_of_the_patches_as_they_are_resized(
    root: Path, tmp_path: Path, size: int | None, spacing: float
) -> None:
    data = opened(root, tmp_path, size=size)
    assert data.images.shape[-1] == (size or 100)
    assert data.spacing_mm == pytest.approx(spacing)
    assert set(data.frame["spacing_mm"]) == {0.2}  # of the films


def test_what_is_left_out_is_counted(root: Path, tmp_path: Path) -> None:
    rewritten(root, mdb001="mdb001 G CIRC B", mdb006="mdb006 D CALC M *NOTE 3*", mdb010="mdb010 D CALC M 0 0 0")
    (root / "mdb003.pgm").unlink()
    (root / "mdb300.pgm").hardlink_to(root / "mdb004.pgm")
    (root / "copy").mkdir()
    (root / "copy" / "MDB004.PGM").hardlink_to(root / "mdb004.pgm")
    data = opened(root, tmp_path)
    assert data.notices["lesions without coordinates left out"] == 3
    assert data.notices["films listed in Info.txt that are not there"] == 2
    assert data.notices["films without a line in Info.txt left out"] == 1
    assert data.notices["second copies of a film left out"] == 1
    films = set(data.frame["image"].str[:6])
    assert not films & {"mdb001", "mdb003", "mdb006", "mdb010", "mdb300"}


def test_several_lines_of_a_film_are_several_lesions_and_a_line_twice_is_one(tmp_path: Path) -> None:
    path = tmp_path / "Info.txt"
    line = "mdb005 F CIRC B 477 133 30"
    path.write_bytes(f"{line}\r\n{line}\r\nmdb005 F CIRC B 500 168 26\nmdb006 F NORM \n".encode())
    lines = read_lines(path)
    assert [(line.film, line.centre) for line in lines] == [
        ("mdb005", (477, 1024 - 133)),
        ("mdb005", (500, 1024 - 168)),
        ("mdb006", None),
    ]


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("mdb001 X CIRC B 5 5 5", "line 1 is 'mdb001 X CIRC B 5 5 5'; expected such as"),
        ("mdb001 G MASS B 5 5 5", "line 1 is"),
        ("mdb001 G CIRC", "no severity for mdb001; expected B or M"),
        ("mdb001 G CIRC X 5 5 5", "no severity"),
        ("mdb001 G CIRC B 5 2000 5", "lesion at '5 2000 5'; expected x, y and radius within 1024"),
        ("mdb001 G CIRC B 5 nan 5", "lesion at '5 nan 5'"),
        ("mdb001 G CIRC B 5 5", "lesion at '5 5'"),
        ("mdb1 G NORM", "line 1 is"),
        ("mdb001 G CIRC B 5 5 5\nmdb001 G NORM", "calls film mdb001 normal and lists a lesion"),
        ("nothing of the kind \xe9", "lists no film"),
    ],
)
def test_lines_that_are_not_understood_are_refused(tmp_path: Path, line: str, match: str) -> None:
    path = tmp_path / "Info.txt"
    path.write_bytes(line.encode("latin-1"))
    with pytest.raises(DataError, match=match):
        read_lines(path)


def test_two_severities_at_one_place_are_refused(root: Path, tmp_path: Path) -> None:
    rewritten(root, mdb001="mdb001 G CIRC B 600 500 30\nmdb001 G CIRC M 600 500 20")
    with pytest.raises(DataError, match="film mdb001 has two lesions of different severity at one place"):
        opened(root, tmp_path, task="benign_malignant")


@pytest.mark.parametrize(
    ("image", "match"),
    [
        (np.zeros((512, 512), np.uint8) + np.arange(512, dtype=np.uint8), "512x512 uint8; films of mini-MIAS are"),
        (np.arange(1024**2).reshape(1024, 1024).astype(np.uint16), "1024x1024 uint16"),
        (np.arange(3 * 1024**2).reshape(1024, 1024, 3).astype(np.uint8), "1024x1024x3 uint8"),
    ],
)
def test_other_films_are_refused_by_name_or_left_out(root: Path, tmp_path: Path, image: np.ndarray, match: str) -> None:
    (root / "mdb004.pgm").unlink()
    cv2.imwrite(str(root / "mdb004.png"), image)
    with pytest.raises(DataError, match=f"mdb004.*{match}"):
        opened(root, tmp_path)
    data = opened(root, tmp_path, lenient=True)
    assert [name[:6] for name, _ in data.unreadable] == ["mdb004"]
    assert "mdb004" not in set(data.frame["image"].str[:6])


def test_a_truncated_film_is_refused_by_name(root: Path, tmp_path: Path) -> None:
    data = (root / "mdb004.pgm").read_bytes()
    (root / "mdb004.pgm").unlink()
    (root / "mdb004.pgm").write_bytes(data[:5000])
    with pytest.raises(DataError, match=r"mdb004\.pgm' holds 4983 of 1048576 pixels: it is cut short"):
        opened(root, tmp_path)


def test_films_are_found_below_folders_and_links_end(root: Path, tmp_path: Path) -> None:
    strange = tmp_path / "fïlms 映像"
    strange.mkdir()
    root.rename(strange / "all-mias")
    (strange / "loop").symlink_to(strange)
    assert len(opened(strange, tmp_path).frame) > 10


def test_a_folder_whose_name_has_no_encoding_is_refused_by_name(root: Path, tmp_path: Path) -> None:
    strange = root.rename(Path(os.fsdecode(os.fsencode(str(tmp_path)) + b"/f\xfclms")))
    with pytest.raises(DataError, match=r"f\\xfclms/mdb001.pgm' lies in a folder whose name is not UTF-8; rename"):
        opened(strange, tmp_path)


def test_without_its_files_it_says_where_to_get_them(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, match in ((None, "mias needs its files"), ("empty", "no Info.txt under"), ("absent", "no such file")):
        with pytest.raises(DataError, match=f"{match}.*peipa.essex.ac.uk"):
            Mias(root=folder and tmp_path / folder, mlruns=tmp_path).index()
    for path in root.glob("*.pgm"):
        path.unlink()
    with pytest.raises(DataError, match="no film mdb"):
        opened(root, tmp_path)


def test_an_unreadable_folder_is_named(root: Path, tmp_path: Path) -> None:
    (root / "closed").mkdir(mode=0)
    with plain_user(), pytest.raises(DataError, match=r"closed' cannot be read"):
        opened(root, tmp_path)


def test_unknown_options_are_refused() -> None:
    with pytest.raises(
        SettingsError, match="--task 'mass' is not known to mias; known: benign_malignant, normal_abnor"
    ):
        Mias(task="mass")
    with pytest.raises(SettingsError, match=r"--field-mm 300.*pass 5 to 100"):
        Mias(field_mm=300)


@pytest.mark.skipif("MAMMO_DATA" not in os.environ, reason="MAMMO_DATA names no folder of real images")
def test_the_real_films(tmp_path: Path) -> None:
    data = Mias(root=Path(os.environ["MAMMO_DATA"]) / "mias", mlruns=tmp_path)
    frame = data.index()
    films = {path.stem for path in (Path(os.environ["MAMMO_DATA"]) / "mias").glob("mdb*.pgm")}
    lines = [line for line in read_lines(Path(os.environ["MAMMO_DATA"]) / "mias" / "Info.txt") if line.film in films]
    placed = [line for line in lines if line.centre]
    assert frame["label"].sum() == len(placed)
    assert data.notices["lesions without coordinates left out"] == sum(
        line.kind != "NORM" and not line.centre for line in lines
    )
    assert (frame["label"] == 0).sum() >= 0.9 * sum(line.kind == "NORM" for line in lines)
    reason = "films whose chest wall is not on the side that the number says; the number was believed"
    assert data.notices.get(reason, 0) <= 2
