"""What the structure of a dataset gives away: each planted fault is named, and a clean dataset is left in peace."""

import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from dicoms import write_dicom
from fakes import write_folder

from mammo_lightning.datamodules.audit import Findings, native_formats, structure
from mammo_lightning.datamodules.base import merged_groups
from mammo_lightning.datamodules.contact import contact_sheets
from mammo_lightning.datamodules.folder import Folder
from mammo_lightning.datamodules.microcalc import Microcalc
from mammo_lightning.datamodules.synthetic import Synthetic

CLASSES = ("benign", "malignant")


def index(patients: int = 8, each: int = 2) -> pd.DataFrame:
    number = np.repeat(np.arange(patients), each)
    names = [f"p{n:02d}" for n in number]
    frame = pd.DataFrame(
        {
            "image": [f"{name}_{i % each}.png" for i, name in enumerate(names)],
            "label": number % 2,
            "patient": names,
            "view": [("CC", "MLO")[i % 2] for i in range(len(names))],
            "split": ["test" if n >= patients - 2 else "train" for n in number],
            "pixels": [f"digest{i}" for i in range(len(names))],
        }
    )
    return frame


def found(frame: pd.DataFrame, **how: object) -> Findings:
    return structure(frame.assign(group=merged_groups(frame)), classes=CLASSES, **how)


def same_pixels(frame: pd.DataFrame, one: str, other: str) -> pd.DataFrame:
    digest = frame.loc[frame["image"] == one, "pixels"].iloc[0]
    return frame.assign(pixels=frame["pixels"].mask(frame["image"] == other, digest))


def test_a_clean_dataset_has_counts_and_no_fault() -> None:
    findings = found(index())
    assert findings.lines == []
    counts = findings.counts.set_index("class")
    assert counts.loc["all"].to_dict() == {
        "images": 16, "patients": 8, "groups": 8, "views": 16, "train": 12, "test": 4,
    }  # fmt: skip
    assert counts.loc["malignant", "images"] == 8
    assert findings.metrics()["count/images"] == 16
    assert findings.metrics()["fault/leak"] == 0


def test_a_straddling_patient_is_named_with_her_counts() -> None:
    frame = index()
    frame.loc[frame["image"] == "p07_0.png", "split"] = "train"
    assert found(frame).lines == ["leak: 1 patient stands in both official splits: p07 (1 train, 1 test)"]


def test_all_unreadable_files_are_named_at_once() -> None:
    unreadable = [(f"u{n}.png", f"'u{n}.png' is not an image") for n in range(20)] + [("v.png", "cut off")]
    lines = found(index(), unreadable=unreadable).lines
    assert len(lines) == 21
    assert lines[0] == "unreadable: 'u0.png' is not an image"
    assert lines[-1] == "unreadable: 'v.png': cut off"


def test_identical_images_of_two_patients() -> None:
    line, *others = found(same_pixels(index(), "p00_0.png", "p02_1.png")).lines
    assert not others
    assert line.startswith(
        "duplicate: 1 pair of identical images under different patients: p00_0.png (p00) = p02_1.png"
    )


def test_identical_images_across_splits_are_a_leak_too() -> None:
    lines = found(same_pixels(index(), "p00_0.png", "p06_0.png")).lines
    assert [line.partition(":")[0] for line in lines] == ["leak", "duplicate"]
    assert "1 pair of identical images stand in both official splits: p00_0.png (train) = p06_0.png (test)" in lines[0]


def test_identical_images_with_two_labels() -> None:
    lines = found(same_pixels(index(), "p00_0.png", "p01_0.png")).lines
    assert [line.partition(":")[0] for line in lines] == ["label conflict", "duplicate"]
    assert "p00_0.png (benign) = p01_0.png (malignant)" in lines[0]


def test_identical_images_of_one_patient_count_twice() -> None:
    lines = found(same_pixels(index(), "p00_0.png", "p00_1.png")).lines
    assert lines == [
        "duplicate: 1 pair of identical images under one patient: p00_0.png (p00) = p00_1.png (p00); they count twice"
    ]


def test_the_share_of_wrong_labels_is_estimated_from_contradictions() -> None:
    frame = index(patients=40)
    frame["pixels"] = frame["patient"]
    frame["label"] = 0
    frame.loc[frame["image"].isin([f"p{n:02d}_0.png" for n in range(10)]), "label"] = 1
    line = found(frame).of("label conflict")[0].text
    # 10 of 40 pairs differ: 2 e (1 - e) = 0.25
    assert "10 of 40 such sets: about 15% of labels may be wrong" in line


def test_long_lists_are_cut_with_a_count() -> None:
    frame = index(patients=40)
    frame["split"] = [("train", "test")[i % 2] for i in range(len(frame))]
    (line,) = found(frame).lines
    assert line.startswith("leak: 40 patients stand in both official splits: p00 (1 train, 1 test); ")
    assert line.endswith("and 34 more")


def test_formats_come_from_the_files(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 30), np.uint16))
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((8, 9, 3), np.uint8))
    write_dicom(tmp_path / "c.dcm", np.arange(70, dtype=np.uint16).reshape(10, 7), 12)
    (tmp_path / "d.dcm").write_bytes(b"nothing")
    names = ("a.png", "b.png", "a.png", "no", "a.png", "c.dcm", "d.dcm")
    frame = index(patients=7, each=1).assign(path=[str(tmp_path / name) for name in names])
    formats = native_formats(frame, (1, 64, 64), 8)
    a, decoded = [30, 20, 1, 16], [64, 64, 1, 8]
    assert formats.to_numpy().tolist() == [a, [9, 8, 3, 8], a, decoded, a, [7, 10, 1, 12], decoded]
    table = found(frame, formats=formats).formats
    assert table.iloc[0].to_dict() == {
        "width": 30, "height": 20, "channels": 1, "bits": 16, "images": 3, "benign": 3, "malignant": 0,
    }  # fmt: skip


def test_unreadable_files_of_a_folder_do_not_stop_the_audit(tmp_path: Path) -> None:
    options = write_folder(tmp_path / "data", patients=6)
    for name in ("p000_0.png", "p002_0.png"):
        (tmp_path / "data" / "benign" / name).write_bytes(b"nothing")
    data = Folder(**options, mlruns=tmp_path / "m", lenient=True)
    data.prepare_data()
    findings = structure(data.frame, classes=data.classes, unreadable=data.unreadable)
    assert len(findings.of("unreadable")) == 2
    assert "p002_0.png" in findings.lines[1]


TRAPS = {
    "patient": "leak: 2 patients stand in both official splits: p0003 (2 train, 2 test); p0023 (2 train, 2 test)",
    "duplicate": "duplicate: 4 pairs of identical images under different patients",
    "label-noise": "label conflict: ",
}


@pytest.mark.parametrize("trap", TRAPS)
def test_traps_are_named(trap: str, tmp_path: Path) -> None:
    data = Synthetic(patients=40 if trap != "label-noise" else 120, trap=trap, mlruns=tmp_path)
    data.prepare_data()
    lines = structure(data.frame, classes=data.classes).lines
    assert any(line.startswith(TRAPS[trap]) for line in lines), lines


def test_no_trap_no_fault(tmp_path: Path) -> None:
    data = Synthetic(patients=40, mlruns=tmp_path)
    data.prepare_data()
    assert structure(data.frame, classes=data.classes).lines == []


def test_contact_sheets_show_many_patients_in_one_grey_scale() -> None:
    frame = index(patients=20, each=10)
    images = np.zeros((len(frame), 1, 16, 16), np.uint16)
    images[:] = np.where(frame["label"] == 1, 60000, 1000)[:, None, None, None]
    sheets = contact_sheets(frame, images, classes=CLASSES, title="fake")
    pages = {name: cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE) for name, png in sheets.items()}
    assert pages["benign"].shape == pages["malignant"].shape
    assert pages["malignant"].mean() > pages["benign"].mean() + 50
    assert sheets == contact_sheets(frame, images, classes=CLASSES, title="fake")
    assert sheets != contact_sheets(frame, images, classes=CLASSES, title="fake", synthetic=True)


@pytest.mark.skipif("MAMMO_DATA" not in os.environ, reason="MAMMO_DATA names no folder of real data")
def test_identical_crops_of_the_real_microcalc_set(tmp_path: Path) -> None:
    data = Microcalc(root=Path(os.environ["MAMMO_DATA"]) / "microcalc", mlruns=tmp_path)
    data.prepare_data()
    (fault,) = structure(data.frame[data.frame["split"] == "train"], classes=data.classes).of("duplicate")
    assert fault.text.startswith("5 pairs of identical images under different patients")
