"""Scores of files: those of the model, in a csv that is always whole."""

import csv
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from dicoms import breast, write_dicom
from fakes import dataset
from served_models import SIDE, images, save_model

from mammo_lightning.errors import DataError
from mammo_lightning.preprocessing.breast import standing
from mammo_lightning.preprocessing.dicom import read_dicom
from mammo_lightning.progress import Progress
from mammo_lightning.scoring.reading import read_pixels, reading_of
from mammo_lightning.scoring.score import images_of, score_files
from mammo_lightning.scoring.score_file import ScoreFile
from mammo_lightning.tracking.serving import load_servable

NAMES = ("b/2.png", "b/10.png", "a.npy", 'b/c/ü, "q".tiff', "z.pgm")


def write(folder: Path, pixels: np.ndarray, names=NAMES) -> None:
    for name, image in zip(names, pixels[:, 0], strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npy":
            np.save(path, image)
        else:
            path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


@pytest.fixture
def servable(tmp_path):
    return load_servable(save_model(tmp_path / "model", tmp_path / "scratch"))


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "images", images(len(NAMES)))
    (tmp_path / "images" / "notes.txt").write_text("no image")
    return tmp_path / "images"


def score(servable, folder, out, *, progress=None, model="m1", **how):
    file = ScoreFile(out, model={"digest": model, "name": model}, source=str(folder), classes=servable.classes)
    done = score_files(servable, images_of(folder), file, progress or Progress(), **how)
    return done, file


def test_every_image_below_has_the_score_of_the_model_in_order_of_path(servable, folder, tmp_path):
    out = tmp_path / "new" / "scores.csv"
    done, _ = score(servable, folder, out)
    assert done == len(NAMES)
    table = pd.read_csv(out)
    assert list(table.columns) == ["path", "p_benign", "p_malignant"]
    assert list(table["path"]) == sorted(NAMES)
    expected = dict(zip(NAMES, servable(images(len(NAMES))), strict=True))
    # a batch of other images rounds the sums of a network otherwise
    np.testing.assert_allclose(table["p_malignant"], [expected[name] for name in table["path"]], atol=1e-7)
    np.testing.assert_allclose(table["p_benign"] + table["p_malignant"], 1)
    assert json.loads(out.with_name("scores.csv.json").read_text())["complete"] is True


def test_one_file_is_scored_under_its_name(servable, folder, tmp_path):
    score(servable, folder / "b" / "2.png", tmp_path / "one.csv")
    assert pd.read_csv(tmp_path / "one.csv")["path"].tolist() == ["2.png"]


class Stopped(Progress):
    """Interrupts after some images, as Ctrl-C does."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def loop(self, items, what, total):
        for count, item in enumerate(items):
            if count == self.after:
                raise KeyboardInterrupt
            yield item


def test_interrupted_it_leaves_a_whole_csv_and_goes_on(servable, tmp_path, monkeypatch):
    names = [f"{number:03d}.png" for number in range(200)]
    write(tmp_path / "many", images(200), names)
    out = tmp_path / "scores.csv"
    with pytest.raises(KeyboardInterrupt, match="^$"):
        score(servable, tmp_path / "many", out, progress=Stopped(150))
    kept = pd.read_csv(out)
    assert 100 <= len(kept) < 150
    assert json.loads((tmp_path / "scores.csv.json").read_text())["complete"] is False
    done, _ = score(servable, tmp_path / "many", out)
    assert done == 200 - len(kept)
    whole = pd.read_csv(out)
    assert whole["path"].tolist() == names
    np.testing.assert_allclose(whole["p_malignant"], servable(images(200)), atol=1e-7)
    assert score(servable, tmp_path / "many", out)[0] == 0


def test_only_what_changed_is_scored_again(servable, folder, tmp_path):
    out = tmp_path / "scores.csv"
    score(servable, folder, out)
    before = pd.read_csv(out).set_index("path")["p_malignant"]
    write(folder, images(1, seed=9), NAMES[:1])
    os.utime(folder / NAMES[0], ns=(1, 1))
    (folder / NAMES[1]).unlink()
    lines = out.read_text().splitlines()
    damaged = next(number for number, line in enumerate(lines) if line.startswith("z.pgm"))
    out.write_text("\n".join([*lines[:damaged], "z.pgm,0.5,nan", *lines[damaged + 1 :]]))
    done, _ = score(servable, folder, out)
    assert done == 2
    after = pd.read_csv(out).set_index("path")["p_malignant"]
    assert NAMES[1] not in after
    assert abs(after[NAMES[0]] - before[NAMES[0]]) > 1e-4
    np.testing.assert_allclose(after["z.pgm"], before["z.pgm"], atol=1e-7)
    assert after["a.npy"] == before["a.npy"]


def test_a_csv_of_something_else_is_not_touched(servable, folder, tmp_path):
    out = tmp_path / "scores.csv"
    out.write_text("path,p_benign,p_malignant\n")
    with pytest.raises(DataError, match="nothing beside it says that it was written by this command"):
        score(servable, folder, out)
    out.unlink()
    score(servable, folder, out)
    content = out.read_bytes()
    with pytest.raises(DataError, match="holds scores of model 'm1'"):
        score(servable, folder, out, model="m2")
    with pytest.raises(DataError, match="holds scores of '.*images'; pass another --out"):
        score(servable, tmp_path / "images" / "b", out)
    for broken in ("", "[]", '{"model": 1}', '{"model": {}, "source": "x", "files": {"a": 1}}'):
        (tmp_path / "scores.csv.json").write_text(broken)
        with pytest.raises(DataError, match="nothing beside it says"):
            score(servable, folder, out)
    assert out.read_bytes() == content
    with pytest.raises(DataError, match="is a folder"):
        score(servable, folder, tmp_path)
    with pytest.raises(DataError, match="cannot be written to"):
        score(servable, folder, Path("/proc/none/scores.csv"))


def test_a_class_may_be_called_anything(tmp_path, folder):
    names = ('no, "lesion"', "ø\n=1+1")
    model = load_servable(save_model(tmp_path / "odd", tmp_path / "scratch", classes=names))
    score(model, folder, tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(newline="", encoding="utf-8") as stream:
        assert next(csv.reader(stream)) == ["path", *(f"p_{name}" for name in names)]
    assert score(model, folder, tmp_path / "scores.csv")[0] == 0


def bad_files(folder: Path) -> dict[str, str]:
    """What is wrong with each of some files."""
    write(folder, images(1, "uint8"), ["8bit.png"])
    write(folder, images(1, side=30), ["size.png"])
    np.save(folder / "colour.npy", np.zeros((SIDE, SIDE, 3), np.uint16) + np.arange(3, dtype=np.uint16))
    np.save(folder / "flat.npy", np.full((SIDE, SIDE), 7, np.uint16))
    np.save(folder / "objects.npy", np.array([{}]), allow_pickle=True)
    (folder / "torn.png").write_bytes((folder / "b" / "2.png").read_bytes()[:200])
    (folder / "empty.tif").touch()
    return {
        "8bit.png": "is 8-bit, and the model takes images that are 16-bit",
        "size.png": "is 30x30 pixels, and the model takes 24x24",
        "colour.npy": "is colour, and the model takes images that are grey",
        "flat.npy": "is constant",
        "objects.npy": "no plain NumPy array",
        "torn.png": "cut short",
        "empty.tif": "empty file",
    }


def test_what_cannot_be_read_is_refused_by_name_or_listed(servable, folder, tmp_path):
    bad = bad_files(folder)
    out = tmp_path / "scores.csv"
    with pytest.raises(DataError, match=r"8bit.png' is 8-bit.*Mend or remove it, or pass --skip-unreadable"):
        score(servable, folder, out)
    done, file = score(servable, folder, out, skip_unreadable=True)
    assert set(pd.read_csv(out)["path"]) == set(NAMES)
    assert done <= len(NAMES)
    for name, why in bad.items():
        assert why in file.unreadable[name]
    assert json.loads(file.beside.read_text())["unreadable"] == file.unreadable


def test_nothing_is_written_where_nothing_can_be_scored(servable, tmp_path):
    place = tmp_path / "bad"
    place.mkdir()
    with pytest.raises(DataError, match="no image under '.*bad'"):
        images_of(place)
    with pytest.raises(DataError, match="no such file or folder"):
        images_of(tmp_path / "none")
    write(place, images(3, "uint8"), ["a.png", "b.png", "c.png"])
    with pytest.raises(DataError, match="a.png' is 8-bit"):
        score(servable, place, tmp_path / "scores.csv")
    with pytest.raises(DataError, match="none of 3 images can be scored; the first: '.*a.png' is 8-bit"):
        score(servable, place, tmp_path / "scores.csv", skip_unreadable=True)
    assert not list(tmp_path.glob("scores*"))


def test_dicom_is_read_as_the_training_images_were(tmp_path):
    place = tmp_path / "dicoms"
    place.mkdir()
    write_dicom(place / "whole", breast(np.random.default_rng(0), side="R"), ImageLaterality="R")
    whole = {"dicom": "whole", "size": SIDE}
    abouts = {
        kind: load_servable(save_model(tmp_path / kind, tmp_path / "s", reading={**whole, "dicom": kind})).about
        for kind in ("whole", "stored", "refused")
    }
    (image,) = images_of(place)
    content = read_dicom(image.path)
    stood = standing(content, "R").image
    expected = cv2.resize(stood, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(read_pixels(image.path, abouts["whole"])[0], expected)
    as_stored = cv2.resize(content, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(read_pixels(image.path, abouts["stored"])[0], as_stored)
    with pytest.raises(DataError, match="the model takes patches that were cut out of such"):
        read_pixels(image.path, abouts["refused"])


@pytest.mark.parametrize(
    ("name", "dicom", "domain"),
    [
        ("microcalc", "stored", "mammography"),
        ("folder", "stored", "mammography"),
        ("inbreast", "whole", "mammography"),
        ("mias", "refused", "mammography"),
        ("idc", "stored", "histology"),
    ],
)
def test_a_dataset_says_how_its_files_became_images(name, dicom, domain, tmp_path):
    data = dataset(name, tmp_path)
    reading = reading_of(data)
    assert (reading.dataset, reading.source, reading.dicom, reading.domain) == (name, data.source, dicom, domain)
    assert reading.padded == (name == "idc")
    if reading.dicom == "refused":
        return
    about = load_servable(
        save_model(
            tmp_path / "model",
            tmp_path / "s",
            dtype=str(data.images.dtype),
            shape=data.shape,
            example=np.asarray(data.images[:2]),
            reading=reading.model_dump(),
        )
    ).about
    for row in (0, len(data.frame) // 2, len(data.frame) - 1):
        pixels = read_pixels(Path(data.frame["path"].iloc[row]), about)
        np.testing.assert_array_equal(pixels, data.images[row])
