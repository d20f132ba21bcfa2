import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest
from dicoms import breast, write_dicom
from fake_table import write_table
from fakes import patch, write_folder

from mammo_lightning.datamodules.table import Table
from mammo_lightning.errors import DataError, SettingsError
from mammo_lightning.preprocessing.breast import standing
from mammo_lightning.preprocessing.dicom import read_dicom
from mammo_lightning.types import Level


def listed(tmp_path: Path, text: str, **options: Any) -> Table:
    """A table over the images of `write_folder`."""
    if not (tmp_path / "data").exists():
        write_folder(tmp_path / "data", patients=4)
    (tmp_path / "images.csv").write_text(text)
    return Table(**{"root": tmp_path / "data", "table": tmp_path / "images.csv", "mlruns": tmp_path / "m", **options})


def lines(tmp_path: Path, *more: str, head: str = "path,patient,label") -> str:
    write_folder(tmp_path / "data", patients=4)
    paths = sorted(path.relative_to(tmp_path / "data").as_posix() for path in (tmp_path / "data").rglob("*.png"))
    cells = [f"{path},{path.split('/')[1][:4]},{path.split('/')[0]}" for path in paths]
    return "\n".join([head, *(cell + (more[n % len(more)] if more else "") for n, cell in enumerate(cells)), ""])


def ready(data: Table) -> Table:
    data.prepare_data()
    return data


class TestMammograms:
    def test_whole_mammograms_are_cut_out_and_stand_one_way(self, tmp_path):
        data = ready(Table(**write_table(tmp_path / "data", patients=6), mlruns=tmp_path / "m"))
        assert len(data.frame) == 24
        assert data.classes == ("benign", "malignant")
        assert data.images.shape == (24, 1, 32, 32)
        assert data.images.dtype == np.uint16
        left, right = data.images[:, 0, :, :8].mean(), data.images[:, 0, :, -8:].mean()
        assert left > 5 * right
        assert set(data.frame["exam"]) == {f"1.2.{n}" for n in range(6)}  # of the tags
        assert set(data.frame["spacing_mm"]) == {0.1}
        assert data.subgroups == ["density", "age"]
        assert data.frame["age"].dtype.kind == "i"
        assert data.notices == {}

    def test_they_tile_what_they_stand_for_where_that_is_said(self, tmp_path):
        options = write_table(tmp_path / "data", patients=4)
        assert ready(Table(**options, mlruns=tmp_path / "m")).levels == [Level.patch]
        data = ready(Table(**options, sampling="exhaustive", mlruns=tmp_path / "m"))
        assert {Level.view, Level.breast, Level.exam, Level.patient} <= set(data.levels)

    def test_a_box_is_cut_as_it_is(self, tmp_path):
        options = write_table(tmp_path / "data", patients=4)
        frame = pd.read_csv(options["table"])
        frame.assign(box="30,40,20,16").to_csv(options["table"], index=False)
        data = Table(**{**options, "size": None}, mlruns=tmp_path / "m")
        ready(data)
        assert data.shape == (1, 16, 20)
        assert data.frame["image"].iloc[0] == "p000/LCC.dcm#30,40,20,16"
        whole = read_dicom(tmp_path / "data" / "p000" / "LCC.dcm")
        np.testing.assert_array_equal(data.images[0, 0], whole[40:56, 30:50])

    def test_the_same_film_whole_is_that_of_standing(self, tmp_path):
        options = write_table(tmp_path / "data", patients=4)
        data = Table(**options, mlruns=tmp_path / "m")
        row = data.index().iloc[2]
        assert row["laterality"] == "R"
        np.testing.assert_array_equal(data.read(row), standing(read_dicom(Path(row["path"])), "R").image)

    def test_sides_that_disagree_are_counted(self, tmp_path):
        options = write_table(tmp_path / "data", patients=4)
        frame = pd.read_csv(options["table"])
        frame["laterality"] = frame["laterality"].replace({"L": "right", "R": "Left"})
        frame.to_csv(options["table"], index=False)
        data = ready(Table(**options, mlruns=tmp_path / "m"))
        assert set(data.frame["laterality"]) == {"L", "R"}
        assert data.notices == {
            "rows whose tag names the other side; the table was believed": 16,
            "breasts whose chest wall is not on the side that is said; what is said was believed": 16,
        }

    def test_views_that_are_no_plain_ones_are_counted_each(self, tmp_path):
        options = write_table(tmp_path / "data", patients=4)
        for name, tags in (
            ("LCC", {"PaddleDescription": "SPOT"}),
            ("LMLO", {"EstimatedRadiographicMagnificationFactor": 1.8}),
            ("RCC", {"BreastImplantPresent": "YES"}),
            ("RMLO", {"ImageType": ["DERIVED", "PRIMARY", "TOMO_2D"]}),
        ):
            pixels = breast(np.random.default_rng(3), height=96, width=80, side=name[0])
            write_dicom(tmp_path / "data" / "p000" / f"{name}.dcm", pixels, **tags)
        data = ready(Table(**options, mlruns=tmp_path / "m"))
        flags = ("spot", "magnification", "implant", "tomosynthesis")
        assert data.notices == {f"images that are {flag} views by their tags": 1 for flag in flags}

    def test_for_processing_is_not_mixed_with_for_presentation(self, tmp_path):
        options = write_table(tmp_path / "data", patients=4)
        files = sorted((tmp_path / "data").rglob("*.dcm"))
        for count, path in enumerate(files, 1):
            data = pydicom.dcmread(path)
            data.PresentationIntentType = "FOR PROCESSING"
            data.save_as(path)
            if count == 1:
                with pytest.raises(DataError, match="is FOR PROCESSING and .* FOR PRESENTATION.*List one kind"):
                    ready(Table(**options, mlruns=tmp_path / "m"))
        table = ready(Table(**options, mlruns=tmp_path / "m"))
        assert table.notices == {"images FOR PROCESSING, not as they are looked at": 16}

    def test_a_file_is_known_by_its_content_where_its_name_says_nothing(self, tmp_path):
        options = write_table(tmp_path / "data", patients=4)
        frame = pd.read_csv(options["table"])
        (tmp_path / "data" / frame["path"][0]).rename(tmp_path / "data" / "1.2.840.113")
        (tmp_path / "data" / frame["path"][1]).rename(tmp_path / "data" / "IM0001")
        frame.loc[[0, 1], "path"] = ["1.2.840.113", "IM0001"]
        frame.to_csv(options["table"], index=False)
        assert len(ready(Table(**options, mlruns=tmp_path / "m")).frame) == 16


class TestPatches:
    def test_columns_become_subgroups(self, tmp_path):
        data = ready(listed(tmp_path, lines(tmp_path, ",A", ",B", head="path,patient,label,vendor")))
        assert len(data.frame) == 12
        assert data.subgroups == ["vendor"]
        assert data.classes == ("benign", "malignant")

    def test_blanks_around_what_a_table_says_are_no_part_of_it(self, tmp_path):
        text = lines(tmp_path, " , L ", ", L", head=" path, patient ,label, view")
        data = ready(listed(tmp_path, text.replace(",p0", ", p0")))
        assert set(data.frame["view"]) == {"L"}
        assert set(data.frame["patient"]) == {f"p{n:03d}" for n in range(4)}
        assert data.classes == ("benign", "malignant")

    def test_paths_may_be_absolute_or_of_windows(self, tmp_path):
        text = lines(tmp_path)
        for written in (text.replace("/", "\\"), text.replace("benign/", f"{tmp_path}/data/benign/")):
            data = ready(listed(tmp_path, written))
            assert data.frame["image"].iloc[0] == "benign/p000_0.png"
        absolute = text.replace("\nbenign/", f"\n{tmp_path}/data/benign/").replace("\nmal", f"\n{tmp_path}/data/mal")
        elsewhere = ready(listed(tmp_path, absolute, root=tmp_path / "m"))
        assert elsewhere.frame["image"].iloc[0] == "data/benign/p000_0.png"

    @pytest.mark.parametrize("save", ["utf-8-sig", "utf-16", "cp1252"])
    @pytest.mark.parametrize("delimiter", [";", "\t"])
    def test_names_and_tables_in_any_encoding(self, tmp_path, save, delimiter):
        text = lines(tmp_path).replace("p000_0.png", "Müller_0.png").replace(",", delimiter)
        (tmp_path / "data/benign/p000_0.png").rename(tmp_path / "data/benign/Müller_0.png")
        data = listed(tmp_path, "")
        (tmp_path / "images.csv").write_bytes(text.encode(save))
        assert "benign/Müller_0.png" in set(ready(data).frame["image"])

    def test_the_positive_class(self, tmp_path):
        text = lines(tmp_path)
        assert ready(listed(tmp_path, text, positive="benign")).classes == ("malignant", "benign")
        cv2.imwrite(str(tmp_path / "data" / "benign" / "n.png"), patch(np.random.default_rng(9), 0))
        three = text + "benign/n.png,p100,normal\n"
        with pytest.raises(SettingsError, match=r"3 classes in .*: benign 6, malignant 6, normal 1; correct"):
            ready(listed(tmp_path, three))
        data = ready(listed(tmp_path, three, positive="malignant"))
        assert data.classes == ("rest", "malignant")
        assert data.frame.set_index("image")["label"]["benign/n.png"] == 0
        with pytest.raises(SettingsError, match="--positive 'ill' is not a class; known: benign, malignant"):
            ready(listed(tmp_path, text, positive="ill"))

    def test_without_a_table(self):
        with pytest.raises(SettingsError, match="pass --table"):
            Table()

    @pytest.mark.parametrize(
        ("head", "cell", "match"),
        [
            ("", "", "is empty"),
            ("path,label", "a.png,b", "lacks patient"),
            ("path,patient,label", "none.png,p,x", r"names 'none.png' \(1 such\)"),
            ("path,patient,label", f"{'n' * 5000}.png,p,x", r"names 'nnn.*which is not under"),
            ("path,patient,label", "benign/p000_0.png, ,x", "line 14 has no patient; fill it in"),
            ("path,patient,label", "benign/p000_0.png,p,", "line 14 has no label; fill it in"),
            ("path,patient,label", "benign/p000_0.png,p", "line 14 has 2 of 3 cells: it is cut short"),
            ("path,patient,label", "benign/p000_0.png,p,x,y", "line 14 has 4 cells under 3 heads"),
            ("path,patient,label", '"benign/p000_0.png,p,x', "line 14 is not csv"),
            ("path,patient,label", "benign/p000_0.png,p000,benign", "image 'benign/p000_0.png' is listed twice"),
        ],
    )
    def test_bad_tables(self, tmp_path, head, cell, match):
        text = lines(tmp_path, head=head) + cell if "patient" in head else f"{head}\n{cell}"
        with pytest.raises(DataError, match=match):
            ready(listed(tmp_path, text))

    @pytest.mark.parametrize(
        ("column", "cell", "match"),
        [
            ("spacing_mm", "0", "spacing_mm 0 is not above 0"),
            ("spacing_mm", "wide", "spacing_mm 'wide' is no number of millimetres"),
            ("spacing_mm", "1e999", "spacing_mm '1e999' is no number of millimetres"),
            ("laterality", "up", "has a laterality 'up'; known: L, R"),
            ("split", "dev", "split 'dev' is not known"),
            ("label_basis", "guess", "label_basis 'guess' is not known"),
            ("fold", "x", "fold 'x' of image"),
            ("box", "1;2;3", "box '1;2;3' is not understood"),
            ("box", '"1,2,900,4"', "box '1,2,900,4' leaves '.*' of 32x32 pixels"),
            *(
                (name, "1", f"column '{name}' has a name that is used for results")
                for name in ("group", "pixels", "p_x")
            ),
        ],
    )
    def test_bad_columns(self, tmp_path, column, cell, match):
        with pytest.raises(DataError, match=match):
            ready(listed(tmp_path, lines(tmp_path, f",{cell}", head=f"path,patient,label,{column}")))

    def test_one_class(self, tmp_path):
        with pytest.raises(DataError, match="one class in '.*images.csv': benign"):
            ready(listed(tmp_path, lines(tmp_path).replace(",malignant", ",benign")))


ABOUT = {"table": "images.csv", "classes": ["malignant", "benign"], "sampling": "exhaustive", "answers": ["kind"]}


class TestAbout:
    def write(self, tmp_path, text):
        (tmp_path / "dataset.json").write_text(text)
        return listed(tmp_path, lines(tmp_path, ",x", head="path,patient,label,kind"))

    def test_what_the_writer_of_the_table_said_is_believed(self, tmp_path):
        data = ready(self.write(tmp_path, json.dumps(ABOUT)))
        assert data.classes == ("malignant", "benign")
        assert (data.sampling, data.answers) == ("exhaustive", ("kind",))

    def test_of_a_choice_from_it_the_classes_alone(self, tmp_path):
        data = ready(self.write(tmp_path, json.dumps({**ABOUT, "table": "all.csv"})))
        assert data.classes == ("malignant", "benign")
        assert (data.sampling, data.answers) == ("selected", ())

    @pytest.mark.parametrize("text", ["{", "[]", '{"sampling": "some"}', '{"classes": ["one"]}', '{"answers": 5}'])
    def test_what_cannot_be_understood_is_refused(self, tmp_path, text):
        with pytest.raises(DataError, match="dataset.json' says of the table's images what cannot be understood"):
            self.write(tmp_path, text)

    def test_classes_that_are_not_those_of_the_table_are_refused(self, tmp_path):
        data = self.write(tmp_path, json.dumps({**ABOUT, "classes": ["benign", "ill"]}))
        with pytest.raises(DataError, match="has a label 'malignant', and its images were extracted as benign and ill"):
            ready(data)


def test_a_file_whose_tags_are_broken_is_named_or_left_out(tmp_path: Path) -> None:
    options = write_table(tmp_path / "data", patients=6)
    broken = tmp_path / "data" / "p001" / "LCC.dcm"
    broken.write_bytes(b"no tags")
    with pytest.raises(DataError, match="LCC.dcm.*is not a DICOM file"):
        ready(Table(**options, mlruns=tmp_path / "m"))
    data = ready(Table(**options, mlruns=tmp_path / "m", lenient=True))
    assert [name for name, _ in data.unreadable] == ["p001/LCC.dcm"]
    assert len(data.frame) == 23


def test_a_misspelt_label_is_counted_before_a_class_is_chosen(tmp_path: Path) -> None:
    text = lines(tmp_path).replace("malignant\n", "malignent\n", 1)
    with pytest.raises(SettingsError, match=r"benign 6, malignant 5, malignent 1; correct what is"):
        ready(listed(tmp_path, text))


def test_patients_who_share_an_id_in_the_tags_are_counted(tmp_path: Path) -> None:
    options = write_table(tmp_path / "data", patients=6)
    table = pd.read_csv(options["table"])
    table.loc[table["path"].str.startswith("p001/R"), "patient"] = "somebody else"
    table.to_csv(options["table"], index=False)
    data = ready(Table(**options, mlruns=tmp_path / "m"))
    assert data.notices["patients of the table who share a PatientID with another: are they one?"] == 2
