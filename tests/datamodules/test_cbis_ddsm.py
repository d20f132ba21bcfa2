"""CBIS-DDSM: the download with its csv files, and the four arrays."""

import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest
from dicoms import write_dicom
from fake_cbis_ddsm import write_cbis_arrays, write_cbis_ddsm
from privileges import plain_user

from mammo_lightning.datamodules import cbis_films
from mammo_lightning.datamodules.cbis_ddsm import OTHER_SIDE, TARGETS, CbisDdsm
from mammo_lightning.datamodules.cbis_films import Cutter, Shown
from mammo_lightning.datamodules.cbis_tcia import lesions_of
from mammo_lightning.datamodules.folds import DROPPED, TEST, make_splits
from mammo_lightning.errors import DataError, SettingsError
from mammo_lightning.preprocessing.dicom import read_dicom
from mammo_lightning.preprocessing.patches import Box
from mammo_lightning.preprocessing.tissue import nearest_tissue
from mammo_lightning.types import Level

SMALL: dict[str, Any] = {"patients": 6, "test": 0}


def opened(root: Path, tmp_path: Path, **options: Any) -> CbisDdsm:
    data = CbisDdsm(root=root, mlruns=tmp_path / "m", **options)
    data.prepare_data()
    return data


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_cbis_ddsm(tmp_path / "data", **SMALL)
    return tmp_path / "data"


def one(root: Path, kind: str, patient: int = 0, view: str = "CC") -> Path:
    """The film, or the crop (1-1) or mask (1-2), of a patient."""
    inside, name = ("full*", "1-1") if kind == "film" else ("ROI*", {"crop": "1-1", "mask": "1-2"}[kind])
    return next(root.glob(f"CBIS-DDSM/*P_{patient:05d}_*_{view}*/*/1.000000-{inside}/{name}.*"))


def changed(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


class TestDownload:
    def test_rows_say_what_the_csv_says(self, tmp_path: Path) -> None:
        data = opened(write_cbis_ddsm(tmp_path / "data", patients=6, test=1)["root"], tmp_path)
        row = data.frame.set_index(["patient", "view"]).loc[("P_00003", "MLO")]
        assert data.classes == ("mass", "calcification")
        assert len(data.frame) == 12
        assert row["label"] == 1
        assert (row["laterality"], row["lesion"], row["split"], row["label_basis"]) == (
            "R",
            "R calc 1",
            "train",
            "annotation",
        )
        assert (row["density"], row["subtlety"], row["assessment"], row["pathology"]) == ("2", "4", "5", "malignant")
        assert (row["calc_type"], row["mass_shape"]) == ("PLEOMORPHIC", "")
        assert row["spacing_mm"] == 0.5
        assert set(data.frame["split"][data.frame["patient"].isin(["P_00005"])]) == {"test"}
        assert "abnormality" in data.answers
        assert "density" not in data.answers
        assert data.targets == ()
        assert not data.counted
        assert data.levels == [Level.patch]

    @pytest.mark.parametrize(("options", "side"), [({}, 80), ({"field_mm": 20}, 40), ({"crop": "bbox"}, 150)])
    def test_a_patch_is_cut_about_the_mask(
        self, root: Path, tmp_path: Path, options: dict[str, Any], side: int
    ) -> None:
        data = opened(root, tmp_path, **options)
        assert data.images.shape == (12, 1, 150, 150)
        assert data.images.dtype == np.uint16
        masks = {path.parts[-4]: cv2.boundingRect(read_dicom(path).astype(np.uint8)) for path in root.rglob("1-2.dcm")}
        assert len(masks) == 12
        for row in data.frame.to_dict("records"):
            box = Box.parse(row["box"])
            word = {"L": "LEFT", "R": "RIGHT"}[row["laterality"]]
            ((x, y, width, height),) = [
                mask for name, mask in masks.items() if f"{row['patient']}_{word}_{row['view']}_1" in name
            ]
            assert (box.width, box.height) == (side, side)
            assert box.x <= x
            assert box.y <= y
            assert x + width <= box.x + side
            assert y + height <= box.y + side
            film = read_dicom(Path(row["path"]))
            assert film.shape == (480, 384)
            patch = box.of(film)
            assert np.array_equal(data.read(row), patch[:, ::-1] if word == "RIGHT" else patch)
            middle = abs(box.x + side / 2 - x - width / 2)
            assert middle <= 1 or box.x in (0, 384 - side)  # moved no further than to the edge

    def test_a_large_lesion_decides_the_side_of_its_box(self, tmp_path: Path) -> None:
        film = write_dicom(tmp_path / "film.dcm", np.arange(600 * 500, dtype=np.uint16).reshape(600, 500), 16)
        mask = np.zeros((600, 500), np.uint8)
        mask[100:400, 150:250] = 255
        marks = (write_dicom(tmp_path / "mask.dcm", mask, 8),)
        cut = Cutter("bbox", 40, 0.05, False).view([Shown("a", film, marks)])["a"]
        assert cut.box == "20,70,360,360"
        assert cut.spacing_mm == 0.05
        assert "films that do not tell their spacing, taken as 0.05 mm (DDSM: 0.042 to 0.05)" in cut.notes
        cut = Cutter("field", 10, 0.05, False).view([Shown("a", film, marks)])["a"]
        assert "lesions that reach beyond the field of 10 mm" in cut.notes

    def test_films_without_spacing_are_taken_at_a_stated_one(self, tmp_path: Path) -> None:
        data = opened(write_cbis_ddsm(tmp_path / "data", spacing=None, **SMALL)["root"], tmp_path, field_mm=6.525)
        assert set(data.frame["spacing_mm"]) == {0.0435}
        assert {Box.parse(box).width for box in data.frame["box"]} == {150}
        assert data.notices["films that do not tell their spacing, taken as 0.0435 mm (DDSM: 0.042 to 0.05)"] == 12

    def test_mask_and_crop_are_told_apart_by_content(self, root: Path, tmp_path: Path) -> None:
        before = opened(root, tmp_path).frame["box"].tolist()
        for mask in list(root.rglob("1-2.dcm")):
            mask.rename(mask.with_name("3.dcm"))
            mask.with_name("1-1.dcm").rename(mask)
            mask.with_name("3.dcm").rename(mask.with_name("1-1.dcm"))
        assert opened(root, tmp_path).frame["box"].tolist() == before

    def test_tasks_have_their_labels(self, root: Path, tmp_path: Path) -> None:
        data = opened(root, tmp_path, task="benign_malignant")
        assert data.classes == ("benign", "malignant")
        assert data.frame.groupby("patient")["label"].first().tolist() == [0, 0, 1, 1, 0, 0]
        assert set(data.frame["label_basis"]) == {"pathology"}
        assert {"assessment", "pathology"} <= set(data.answers)
        dropped = opened(root, tmp_path, task="benign_malignant", without_callback="drop")
        assert sorted(set(dropped.frame["patient"])) == ["P_00000", "P_00001", "P_00002", "P_00003"]
        assert dropped.notices == {"abnormalities that were benign without callback, left out by choice": 4}

    def test_five_classes_with_normal_tissue_of_the_same_film(self, root: Path, tmp_path: Path) -> None:
        data = opened(root, tmp_path, task="five_class")
        assert data.targets == TARGETS
        assert TARGETS[-2:] == ("mass_malignant", "calc_malignant")
        assert data.frame["target"].value_counts().to_dict() == {
            "baseline": 12,
            "mass_benign": 4,
            "calc_benign": 4,
            "mass_malignant": 2,
            "calc_malignant": 2,
        }
        assert (data.frame["label"] == data.frame["target"].str.endswith("malignant")).all()
        for _, pair in data.frame.groupby("pair"):
            lesion, tissue = (Box.parse(box) for box in pair.sort_values("abnormality", ascending=False)["box"])
            assert pair["path"].nunique() == pair["patient"].nunique() == 1
            assert lesion.width == tissue.width == 80
            assert not lesion.overlaps(tissue)
            assert (tissue.of(read_dicom(Path(pair["path"].iloc[0]))) > 0).mean() >= 0.9
        tissue = data.frame[data.frame["target"] == "baseline"]
        assert set(tissue["label_basis"]) == {"annotation"}
        assert set(tissue["lesion"]) == {""}

    def test_pairs_are_two_channels(self, root: Path, tmp_path: Path) -> None:
        data = opened(root, tmp_path, task="benign_malignant", pairs=True)
        assert data.images.shape == (12, 2, 150, 150)
        row = data.frame.iloc[0].to_dict()
        film = read_dicom(Path(row["path"]))
        pair = data.read(row)
        assert row["laterality"] == "L"
        assert np.array_equal(pair[..., 0], Box.parse(row["box"]).of(film))
        assert np.array_equal(pair[..., 1], Box.parse(row["pair"]).of(film))
        row = data.frame[data.frame["laterality"] == "R"].iloc[0].to_dict()
        film, pair = read_dicom(Path(row["path"])), data.read(row)
        assert np.array_equal(pair[:, ::-1, 0], Box.parse(row["box"]).of(film))
        assert np.array_equal(pair[:, ::-1, 1], Box.parse(row["pair"]).of(film))
        masses = data.images[(data.frame["abnormality"] == "mass").to_numpy()]
        assert masses[:, 0].max() > 1.3 * masses[:, 1].max()  # the lesion is in the first

    @pytest.mark.parametrize("suffix", [".dcm", ".png"])
    @pytest.mark.parametrize(("crop", "side"), [("field", 80), ("bbox", 150)])
    def test_there_is_tissue_beside_the_lesions_of_a_download(
        self, tmp_path: Path, suffix: str, crop: str, side: int
    ) -> None:
        made = write_cbis_ddsm(tmp_path / "data", patients=8, test=2, suffix=suffix, seed=3)
        how = made | ({"field_mm": 80 * 0.0435} if (suffix, crop) == (".png", "field") else {}) | {"crop": crop}
        of_root = how.pop("root")
        five, pairs = opened(of_root, tmp_path, task="five_class", **how), opened(of_root, tmp_path, pairs=True, **how)
        assert set(five.frame["target"]) == set(TARGETS)
        assert len(five.frame) == 2 * len(pairs.frame)
        assert len(pairs.frame) >= (16 if crop == "field" else 12)
        assert pairs.images.shape[1:] == (2, 150, 150)
        baseline = five.images[(five.frame["target"] == "baseline").to_numpy(), 0]
        assert np.array_equal(np.sort(baseline.mean((1, 2))), np.sort(pairs.images[:, 1].mean((1, 2))))
        assert {Box.parse(box).width for box in pairs.frame["pair"]} == {side}
        made_splits = make_splits(five, folds=2)
        assert (five.frame.assign(fold=made_splits.fold).groupby("patient")["fold"].nunique() == 1).all()

    def test_the_chest_wall_is_to_the_left(self, root: Path, tmp_path: Path) -> None:
        data = opened(root, tmp_path, field_mm=180)
        assert set(data.frame["laterality"]) == {"L", "R"}
        for image in data.images[:, 0]:
            assert (image[:, :30] > 0).mean() > 2 * (image[:, -30:] > 0).mean()
        assert not data.seen

    def test_films_that_contradict_the_side_of_the_csv_are_noticed(self, root: Path, tmp_path: Path) -> None:
        path = one(root, "film")
        told = pydicom.dcmread(path)
        told.PixelData = np.ascontiguousarray(told.pixel_array[:, ::-1]).tobytes()
        told.save_as(path)
        data = opened(root, tmp_path)
        assert data.notices == {OTHER_SIDE: 1}
        row = data.frame.iloc[0].to_dict()
        assert row["laterality"] == "L"
        assert np.array_equal(data.read(row), Box.parse(row["box"]).of(read_dicom(path)))  # the csv is believed

    def test_a_film_that_is_mended_under_the_same_instance_is_read_anew(self, root: Path, tmp_path: Path) -> None:
        before = opened(root, tmp_path)
        assert before.versions(before.frame) == opened(root, tmp_path).versions(before.frame)
        told = pydicom.dcmread(one(root, "film"))
        told.PixelData = (told.pixel_array // 2).tobytes()
        told.save_as(one(root, "film"))
        mended = opened(root, tmp_path)
        assert mended.frame["patient"][0] == "P_00000"
        assert not np.array_equal(mended.images[0], before.images[0])
        assert np.array_equal(mended.images[1:], before.images[1:])
        assert mended.source == before.source

    def test_a_film_that_was_cut_short_comes_back_once_it_is_whole(self, root: Path, tmp_path: Path) -> None:
        path = one(root, "film")
        whole = path.read_bytes()
        path.write_bytes(whole[:-5000])
        assert len(opened(root, tmp_path, lenient=True).frame) == 11
        path.write_bytes(whole)
        restored = opened(root, tmp_path, lenient=True)
        assert (len(restored.frame), restored.unreadable) == (12, [])

    def test_a_pair_without_room_is_left_out_and_counted(self, root: Path, tmp_path: Path) -> None:
        reason = "pairs left out: no film, or no tissue free of lesions of that size"
        with pytest.raises(DataError, match=f"no patch is left of 12 abnormalities.*{reason}: 12"):
            opened(root, tmp_path, task="five_class", field_mm=120)

    def test_where_another_lesion_is_not_known_no_tissue_is_free(self, tmp_path: Path) -> None:
        write_cbis_ddsm(tmp_path / "data", straddle=1, **SMALL)  # a second lesion in the same view
        data = CbisDdsm(root=tmp_path / "data", mlruns=tmp_path / "m", task="five_class")
        assert len(data.index()) == 2 * 14
        for path in (tmp_path / "data").glob("CBIS-DDSM/Calc-Test_*_1"):
            shutil.rmtree(path)
        data = opened(tmp_path / "data", tmp_path, task="five_class")
        assert "P_00000" not in set(data.frame["patient"])
        assert data.notices["pairs left out: no film, or no tissue free of lesions of that size"] == 2

    def test_crops_alone_are_used_as_they_are(self, tmp_path: Path) -> None:
        data = opened(write_cbis_ddsm(tmp_path / "data", films=False, **SMALL)["root"], tmp_path)
        assert data.notices["lesions of which only the cropped file can be used, as it is"] == 12
        assert set(data.frame["box"]) == {""}
        for side in "LR":
            row = data.frame[data.frame["laterality"] == side].iloc[0].to_dict()
            crop = read_dicom(Path(row["path"]))
            assert data.read(row).shape == (max(crop.shape), max(crop.shape))
            stored = crop if side == "L" else crop[:, ::-1]
            assert np.array_equal(data.read(row)[: crop.shape[0], : crop.shape[1]], stored)

    def test_patients_of_both_official_parts_leave_train(self, tmp_path: Path) -> None:
        data = opened(write_cbis_ddsm(tmp_path / "data", patients=14, straddle=3)["root"], tmp_path)
        made = make_splits(data, folds=3)
        frame = data.frame.assign(fold=made.fold)
        both = frame[frame["patient"].isin(["P_00000", "P_00001", "P_00002"])]
        assert set(both["fold"][both["split"] == "train"]) == {DROPPED}
        assert set(frame["fold"][frame["split"] == "test"]) == {TEST}
        assert any("3 patients of the official test split left the training part" in note for note in made.notes)

    def test_what_was_found_in_films_is_remembered(
        self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = opened(root, tmp_path, task="five_class").frame
        memory = tmp_path / "m" / "cache" / "cbis_ddsm-films.jsonl"
        memory.write_text(memory.read_text() + '["cut sho')
        monkeypatch.setattr(cbis_films, "read_film", None)
        again = opened(root, tmp_path, task="five_class").frame
        assert again["box"].tolist() == first["box"].tolist()

    def test_a_quick_look_reads_few_masks(self, root: Path, tmp_path: Path) -> None:
        data = opened(root, tmp_path, limit=4)
        assert len(data.frame) == 4
        assert set(data.frame["label"]) == {0, 1}
        assert len((tmp_path / "m" / "cache" / "cbis_ddsm-films.jsonl").read_text().splitlines()) == 4


class TestFinding:
    """The same images wherever they lie."""

    @pytest.fixture
    def boxes(self, root: Path, tmp_path: Path) -> list[str]:
        return opened(root, tmp_path).frame["box"].tolist()

    def test_by_the_series_in_a_folder_name(self, root: Path, tmp_path: Path, boxes: list[str]) -> None:
        for path in list(root.rglob("*.dcm")):
            folder = root / "jpeg" / pydicom.dcmread(path).SeriesInstanceUID
            folder.mkdir(parents=True, exist_ok=True)
            path.rename(folder / path.name)
        shutil.rmtree(root / "CBIS-DDSM")
        self._untagged(root)
        assert opened(root, tmp_path).frame["box"].tolist() == boxes

    def test_by_the_tags_alone(self, root: Path, tmp_path: Path, boxes: list[str]) -> None:
        for number, path in enumerate(sorted(root.rglob("*.dcm"))):
            path.rename(root / f"{number}{'.dcm' if number % 2 else ''}")
        shutil.rmtree(root / "CBIS-DDSM")
        (root / "LICENSE").write_text("no DICOM, and not counted")
        write_dicom(root / "other.dcm", np.eye(8, dtype=np.uint16))
        data = opened(root, tmp_path)
        assert data.frame["box"].tolist() == boxes
        assert data.notices == {"image files that no row of the csv files names": 1}

    def test_by_the_manifest(self, root: Path, tmp_path: Path, boxes: list[str]) -> None:
        lines = ["Series UID,Collection,File Location"]
        for number, path in enumerate(sorted({path.parent for path in root.rglob("*.dcm")})):
            series = pydicom.dcmread(path / "1-1.dcm").SeriesInstanceUID
            path.rename(root / f"s{number}")
            lines.append(f"{series},CBIS-DDSM,.\\s{number}" if number % 2 else f"{series},CBIS-DDSM,./s{number}")
        (root / "metadata.csv").write_text("\n".join(lines))
        shutil.rmtree(root / "CBIS-DDSM")
        self._untagged(root)
        assert opened(root, tmp_path).frame["box"].tolist() == boxes

    def test_as_png_in_the_same_folders_or_flat(self, tmp_path: Path, boxes: list[str]) -> None:
        png = tmp_path / "png"
        write_cbis_ddsm(png, suffix=".png", spacing=None, **SMALL)
        assert opened(png, tmp_path, field_mm=80 * 0.0435).frame["box"].tolist() == boxes
        for path in list(png.rglob("*.png")):
            kind, part = path.parts[-4].split("_")[0].split("-")
            what = "FULL" if "full" in path.parts[-2] else "ROI"
            path.rename(png / f"{kind}_{part}_{what}_{path.parts[-2][-5:]}_{path.stem}.png")
        shutil.rmtree(png / "CBIS-DDSM")
        assert opened(png, tmp_path, field_mm=80 * 0.0435).frame["box"].tolist() == boxes

    def test_below_links_in_circles_and_names_that_are_no_utf_8_are_refused(
        self, root: Path, tmp_path: Path, boxes: list[str]
    ) -> None:
        (root / "CBIS-DDSM" / "again").symlink_to(root, target_is_directory=True)
        strange = (root / "CBIS-DDSM").rename(root / "dépistage 映像")
        assert opened(root, tmp_path).frame["box"].tolist() == boxes
        strange.rename(os.fsdecode(os.fsencode(root) + b"/d\xe9pistage"))
        with pytest.raises(DataError, match=r"data/d\\xe9pistage/.*1-1.dcm' lies in a folder whose name is not UTF-8"):
            opened(root, tmp_path)

    def _untagged(self, root: Path) -> None:
        for path in root.rglob("*.dcm"):
            data = pydicom.dcmread(path)
            data.SeriesInstanceUID = data.PatientID = ""
            data.save_as(path)


class TestBadDownload:
    def test_what_is_missing_is_said(self, root: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="cbis_ddsm needs its files; pass --root.*10.7937/K9/TCIA"):
            CbisDdsm(mlruns=tmp_path / "m").prepare_data()
        (tmp_path / "none").mkdir()
        with pytest.raises(DataError, match="neither csv files nor arrays of CBIS-DDSM.*CC BY 3.0"):
            opened(tmp_path / "none", tmp_path)
        shutil.rmtree(root / "CBIS-DDSM")
        with pytest.raises(
            DataError, match="none of 12 rows of the csv files has its images.*folders named by series UID"
        ):
            opened(root, tmp_path)

    def test_rows_without_files_are_left_out_and_counted(self, root: Path, tmp_path: Path) -> None:
        shutil.rmtree(one(root, "mask").parents[2])
        data = opened(root, tmp_path)
        assert len(data.frame) == 11
        assert data.notices == {"rows of the csv files whose images are not there": 1}

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            (",BENIGN,", ",PROBABLY,", "row 1 has pathology 'PROBABLY'; known: BENIGN, BENIGN_WITHOUT_CALLBACK, MAL"),
            ("LEFT,CC", "LEFT,XX", "row 1 has image view 'XX'; known: CC, MLO"),
            (",LEFT,", ",left?,", "row 1 has left or right breast 'left?'; known: LEFT, RIGHT"),
            (",mass,", ",calcification,", "row 1 has abnormality type 'calcification'; known: mass"),
            ("\nP_00000", "\n", "row 1 has patient id ''; expected such as P_00038"),
            ("pathology", "path", "lacks pathology; expected the csv as it is downloaded"),
            ("Mass-Training_P_00000_LEFT_CC/1.2.3", "x/1.2.3", "has path 'x/.*; expected Mass-Training_P_00000_LEFT"),
            (",subtlety,", ",", "has 14 cells under 13 heads"),
            ("\nP_00000", "\nP_00010", "has path 'Mass-Training_P_00000_.*expected Mass-Training_P_00010_LEFT_CC/"),
        ],
    )  # fmt: skip
    def test_a_csv_that_is_not_as_downloaded(self, root: Path, tmp_path: Path, old: str, new: str, said: str) -> None:
        table = root / "mass_case_description_train_set.csv"
        changed(table, old, new)
        with pytest.raises(DataError, match=said.replace("?", r"\?")):
            opened(root, tmp_path)

    def test_a_row_or_a_file_that_stands_twice(self, root: Path, tmp_path: Path) -> None:
        table = root / "mass_case_description_train_set.csv"
        (root / "csv").mkdir()
        shutil.copy(table, root / "csv" / table.name)
        assert len(opened(root, tmp_path).frame) == 12  # the same once more
        changed(root / "csv" / table.name, ",BENIGN,", ",MALIGNANT,")
        with pytest.raises(DataError, match="mass_case_description_train_set.csv' differ; keep one of them"):
            opened(root, tmp_path)
        shutil.rmtree(root / "csv")
        rows = pd.read_csv(table, dtype=str)
        pd.concat([rows, rows.iloc[:1]]).to_csv(table, index=False)
        with pytest.raises(DataError, match="'P_00000_LEFT_CC_1-.*' stands twice in the csv files"):
            opened(root, tmp_path)

    @pytest.mark.parametrize("kind", ["film", "mask"])
    def test_a_broken_file_is_named_or_left_out(self, root: Path, tmp_path: Path, kind: str) -> None:
        path = one(root, kind)
        path.write_bytes(path.read_bytes()[:-5000])
        with pytest.raises(DataError, match=f"{path.name}' .*pass --skip-unreadable"):
            opened(root, tmp_path)
        data = opened(root, tmp_path, lenient=True)
        assert len(data.frame) == 11
        assert data.unreadable or data.notices == {"abnormalities whose files cannot be read": 1}

    def test_eight_bit_and_colour_are_refused(self, tmp_path: Path) -> None:
        root = tmp_path / "png"
        write_cbis_ddsm(root, suffix=".png", spacing=None, **SMALL)
        film = one(root, "film")
        grey = cv2.imread(str(film), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(film), (grey // 256).astype(np.uint8))
        with pytest.raises(DataError, match="1-1.png' holds 8 bit; the films have 16"):
            opened(root, tmp_path, field_mm=5)
        cv2.imwrite(str(film), np.stack([grey, grey // 2, grey], axis=-1))
        with pytest.raises(DataError, match="1-1.png' is in colour; the films are grey"):
            opened(root, tmp_path, field_mm=5)

    def test_a_dicom_of_eight_bit_is_refused(self, root: Path, tmp_path: Path) -> None:
        film = one(root, "film")
        write_dicom(film, (read_dicom(film) // 256).astype(np.uint8), 8)
        with pytest.raises(DataError, match="1-1.dcm' holds 8 bit; the films have 16"):
            opened(root, tmp_path)

    def test_an_empty_mask_leaves_the_crop(self, root: Path, tmp_path: Path) -> None:
        write_dicom(one(root, "mask"), np.zeros((480, 384), np.uint8), 8)
        data = opened(root, tmp_path)
        assert data.notices["lesions of which only the cropped file can be used, as it is"] == 1
        one(root, "crop").unlink()
        with pytest.raises(DataError, match="neither a usable mask with a film nor a crop"):
            opened(root, tmp_path)

    def test_a_mask_with_stray_values_is_damaged(self, root: Path, tmp_path: Path) -> None:
        path = one(root, "mask")
        mask = (read_dicom(path) // 257).astype(np.uint8)
        mask[5, 5] = 77
        write_dicom(path, mask, 8)
        with pytest.raises(DataError, match="1-2.dcm' is a mask with other values than two: it is damaged"):
            opened(root, tmp_path)

    def test_a_mask_of_another_size_is_scaled(self, root: Path, tmp_path: Path) -> None:
        before = opened(root, tmp_path).frame["box"].iloc[0]
        path = one(root, "mask")
        mask = (read_dicom(path) > 0).astype(np.uint8) * 255
        write_dicom(path, cv2.resize(mask, (768, 960), interpolation=cv2.INTER_NEAREST), 8)
        data = opened(root, tmp_path)
        assert data.frame["box"].iloc[0] == before
        assert data.notices == {"masks of another size than their film, scaled to it": 1}
        write_dicom(path, cv2.resize(mask, (960, 768), interpolation=cv2.INTER_NEAREST), 8)  # of no such film
        assert opened(root, tmp_path).frame["box"].iloc[0] == ""

    def test_a_folder_that_may_not_be_read(self, root: Path, tmp_path: Path) -> None:
        folder = one(root, "film").parent
        folder.chmod(0)
        try:
            with plain_user(), pytest.raises(DataError, match="cannot be read .*check its permissions"):
                opened(root, tmp_path)
            folder.chmod(0o755)
            root.chmod(0)
            with plain_user(), pytest.raises(DataError, match="cannot be read .*check its permissions"):
                opened(root, tmp_path)
        finally:
            root.chmod(0o755)
            folder.chmod(0o755)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"task": "three"}, "--task 'three' is not known; known: benign_malignant, five_class, mass_calc"),
            ({"crop": "all"}, "--crop 'all' is not known; known: bbox, field"),
            ({"without_callback": "keep"}, "--without-callback 'keep' is not known; known: benign, drop"),
            ({"field_mm": 0}, "--field-mm 0 with --crop field"),
            ({"crop": "bbox", "field_mm": 30}, "--field-mm 30 with --crop bbox"),
            ({"task": "five_class", "pairs": True}, "--pairs with --task five_class"),
        ],
    )
    def test_options_that_mean_nothing(self, tmp_path: Path, options: dict[str, Any], said: str) -> None:
        with pytest.raises(SettingsError, match=said):
            CbisDdsm(root=tmp_path, **options)


class TestTissue:
    def test_the_nearest_place_in_the_breast_and_on_no_lesion(self) -> None:
        breast = np.zeros((200, 100), bool)
        breast[:, :60] = True
        near = Box(10, 100, 40, 40)
        assert nearest_tissue(breast, near, []) == Box(10, 60, 40, 40)
        found = nearest_tissue(breast, near, [Box(10, 90, 5, 5)])
        assert found == Box(10, 140, 40, 40)
        assert nearest_tissue(breast, near, [Box(0, 0, 60, 90), Box(0, 150, 60, 20)]) is None
        assert nearest_tissue(breast[:30], Box(0, 0, 40, 40), []) is None

    def test_a_tenth_may_be_beside_the_breast(self) -> None:
        breast = np.zeros((100, 36), bool)
        breast[:, :36] = True
        wide = np.pad(breast, ((0, 0), (0, 64)))
        assert nearest_tissue(wide, Box(0, 0, 40, 40), []) == Box(0, 40, 40, 40)
        assert nearest_tissue(np.roll(wide, -1, axis=1), Box(0, 0, 40, 40), []) is None


class TestArrays:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return write_cbis_arrays(tmp_path / "arrays")["root"]

    def test_codes_are_labels(self, root: Path, tmp_path: Path) -> None:
        codes = np.load(root / "train_labels.npy")
        for task, positive in (("mass_calc", (3, 4)), ("benign_malignant", (2, 4))):
            data = opened(root, tmp_path, task=task, size=24)
            train = data.frame[data.frame["split"] == "train"]
            numbers = train["image"].str.split("/").str[1].astype(int)
            assert numbers.tolist() == list(range(1, 40, 2))
            assert train["label"].tolist() == np.isin(codes[1::2], positive).astype(int).tolist()
            assert np.array_equal(data.images[train.index, 0], np.load(root / "train_tensor.npy")[1::2])
            assert (data.frame["split"] == "test").sum() == 10
        data = opened(root, tmp_path, task="five_class", size=24)
        order = {0: "baseline", 1: "mass_benign", 2: "mass_malignant", 3: "calc_benign", 4: "calc_malignant"}
        train = data.frame[data.frame["split"] == "train"]
        assert train["target"].tolist() == [order[code] for code in codes]
        assert (train["label"] == train["target"].str.endswith("malignant")).all()
        assert np.array_equal(data.images[train.index, 0], np.load(root / "train_tensor.npy"))

    def test_a_pair_stays_together_and_is_said_to_be_no_patient(self, root: Path, tmp_path: Path) -> None:
        data = opened(root, tmp_path, task="five_class")
        assert (data.frame.groupby("patient").size() == 2).all()
        assert "pair-00012" in set(data.frame["patient"])
        assert data.notices == {
            "pairs without a patient: each stands for one, and a woman may be on both sides of a split": 30
        }
        assert data.levels == [Level.patch]
        made = make_splits(data, folds=3)
        assert set(made.fold[(data.frame["split"] == "test").to_numpy()]) == {TEST}
        assert (data.frame.assign(fold=made.fold).groupby("patient")["fold"].nunique() == 1).all()

    def test_pairs_are_abnormality_and_baseline(self, root: Path, tmp_path: Path) -> None:
        data = opened(root, tmp_path, pairs=True, size=24)
        patches = np.load(root / "train_tensor.npy")
        train = data.frame[data.frame["split"] == "train"].index
        assert np.array_equal(data.images[train, 0], patches[1::2])
        assert np.array_equal(data.images[train, 1], patches[::2])

    def test_nothing_is_cut_here(self, root: Path, tmp_path: Path) -> None:
        for options in ({"crop": "bbox"}, {"field_mm": 30.0}, {"without_callback": "drop"}):
            with pytest.raises(SettingsError, match="mean nothing to the four arrays"):
                opened(root, tmp_path, **options)

    @pytest.mark.parametrize(
        ("name", "change", "said"),
        [
            ("train_tensor", lambda a: (a // 256).astype(np.uint8), "holds uint8; the patches are 16-bit"),
            ("train_tensor", lambda a: a.astype(np.float32), "train_tensor.npy' holds float32"),
            ("train_tensor", lambda a: a[:-2], "has 38 patches and .*train_labels.npy' 40 labels"),
            ("train_tensor", lambda a: np.stack([a] * 3, -1), "has shape .*; expected number x height x width, grey"),
            ("train_tensor", lambda a: a[:, :20, :20], "are 20x20 and 24x24 pixels"),
            ("train_labels", lambda a: np.where(a == 4, 7, a), "has code 7 at index 31; known: 0"),
            ("train_labels", lambda a: np.where(a == 4, np.nan, a), "has code nan at index 31"),
            ("train_labels", lambda a: np.eye(5)[a], r"holds float64 of shape \(40, 5\)"),
            ("train_labels", lambda a: np.roll(a, 1), "has code 4 at index 0; even indices are baseline patches"),
            ("train_labels", lambda a: np.zeros_like(a), "has code 0 at index 1; even indices are baseline patches"),
            ("train_labels", lambda a: a.astype(object), "train_labels.npy' is cut short or no plain NumPy array"),
            ("public_test_labels", lambda a: a[:4], "has 20 patches and .*public_test_labels.npy' 4 labels"),
        ],
    )  # fmt: skip
    def test_what_is_no_such_array(self, root: Path, tmp_path: Path, name: str, change: Any, said: str) -> None:
        path = root / f"{name}.npy"
        np.save(path, change(np.load(path)))
        with pytest.raises(DataError, match=said):
            opened(root, tmp_path)

    def test_an_odd_number_of_patches(self, root: Path, tmp_path: Path) -> None:
        for name in ("train_tensor.npy", "train_labels.npy"):
            np.save(root / name, np.load(root / name)[:-1])
        with pytest.raises(DataError, match="has 39 patches; they come in pairs"):
            opened(root, tmp_path)

    def test_files_that_are_cut_short_or_not_there(self, root: Path, tmp_path: Path) -> None:
        path = root / "train_tensor.npy"
        whole = path.read_bytes()
        for content in (whole[:-100], whole[:40], whole.replace(b"False", b"F(lse"), b"", b"not an array"):
            path.write_bytes(content)
            with pytest.raises(DataError, match="train_tensor.npy' is cut short or no plain NumPy array"):
                opened(root, tmp_path)
        path.write_bytes(whole + b"xx")
        with pytest.raises(DataError, match="train_tensor.npy' is longer than its head says"):
            opened(root, tmp_path)
        np.savez(root / "a.npz", a=np.zeros(3))
        (root / "a.npz").rename(path)
        with pytest.raises(DataError, match="train_tensor.npy' is an archive of arrays"):
            opened(root, tmp_path)
        path.unlink()
        with pytest.raises(DataError, match="lacks train_tensor.npy; expected train_tensor.npy, train_labels.npy"):
            opened(root, tmp_path)

    def test_either_byte_order_is_read(self, root: Path, tmp_path: Path) -> None:
        before = opened(root, tmp_path).digest
        path = root / "train_tensor.npy"
        np.save(path, np.load(path).astype(">u2"))
        assert opened(root, tmp_path / "other").digest == before


@pytest.mark.skipif("MAMMO_DATA" not in os.environ, reason="MAMMO_DATA names no folder of real data")
class TestReal:
    def test_the_official_tables(self) -> None:
        tables = sorted((Path(os.environ["MAMMO_DATA"]) / "cbis_ddsm").glob("*.csv"))
        lesions = lesions_of(tables)
        counts = pd.DataFrame([(each.abnormality, each.split) for each in lesions]).value_counts().to_dict()
        assert counts == {
            ("mass", "train"): 1318,
            ("calc", "train"): 1546,
            ("mass", "test"): 378,
            ("calc", "test"): 326,
        }
        train, test = ({each.patient for each in lesions if each.split == split} for split in ("train", "test"))
        assert len(train & test) == 31
        assert sum(each.pathology == "benign without callback" for each in lesions) == 682

    def test_real_crops(self, tmp_path: Path) -> None:
        data = opened(Path(os.environ["MAMMO_DATA"]) / "cbis_ddsm", tmp_path, task="benign_malignant")
        assert data.frame["patient"].tolist() == ["P_00038", "P_00038", "P_00038", "P_00299", "P_00562"]
        assert data.frame["label"].tolist() == [0, 0, 0, 1, 0]
        assert data.images.shape == (5, 1, 150, 150)
        assert data.images.dtype == np.uint16
        assert data.notices["rows of the csv files whose images are not there"] == 3563
