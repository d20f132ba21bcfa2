"""Films of a screening archive: what is left out and why, whose patches they are, and no ink in any of them."""

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dicoms import write_dicom
from fake_screening import lesion_film, tissue, uid, write_screening
from pydicom.dataset import Dataset

from mammo_lightning.datamodules import screening_files
from mammo_lightning.datamodules.folds import TEST, make_splits
from mammo_lightning.datamodules.screening import Screening
from mammo_lightning.errors import DataError, SettingsError
from mammo_lightning.evaluation.resampling import Estimate
from mammo_lightning.evaluation.statistics import mean_fold_auc_interval
from mammo_lightning.preprocessing.ellipse import Ellipse
from mammo_lightning.preprocessing.patches import Box
from mammo_lightning.registry import CLASSIFIERS
from mammo_lightning.space import make_space
from mammo_lightning.training import Task, fit
from mammo_lightning.types import Predictions


def opened(tmp_path: Path, **options: Any) -> Screening:
    data = Screening(mlruns=tmp_path / "m", **options)
    data.prepare_data()
    return data


def film(root: Path, name: str, *, number: int = 0, drawn: bool = False, **tags: Any) -> Path:
    rng = np.random.default_rng(number)
    pixels = lesion_film(rng, tissue(rng)) if drawn else tissue(rng)
    about = {"PatientID": f"p{number}", "StudyInstanceUID": uid("e", number), "ViewPosition": "CC"}
    return write_dicom(root / name, pixels, **{**about, "SOPInstanceUID": uid(name), **tags})


def pair(root: Path, **more: str) -> Path:
    """One film of either stratum and their table."""
    film(root, "normal", number=0)
    film(root, "drawn", number=1, drawn=True)
    lines = [f"{key},{value}" for key, value in {"p0": "1", "p1": "0", **more}.items()]
    (root / "t.csv").write_text("\n".join(["patient,birads", *lines]) + "\n")
    return root / "t.csv"


def test_rows_say_what_is_known_of_a_patch(tmp_path: Path) -> None:
    data = opened(tmp_path, **write_screening(tmp_path / "data"))
    assert data.shape == (1, 128, 128)
    assert data.images.dtype == np.uint16
    frame = data.frame
    assert set(frame["view"]) == {"CC", "MLO"}
    assert set(frame["laterality"]) == {"L", "R"}
    assert set(frame["spacing_mm"]) == {0.07}
    assert set(frame["source"]) == {"Anon"}
    by_label = frame.groupby("label")
    assert by_label["birads"].unique().map(set).tolist() == [{"BI-RADS 1"}, {"BI-RADS 0", "BI-RADS 2"}]
    assert by_label["label_basis"].unique().map(list).tolist() == [["assessment"], ["annotation"]]
    assert {"source", "birads"} <= set(data.subgroups)
    assert data.answers == ("birads",)
    assert frame[frame["label"] == 0].groupby("path").size().unique().tolist() == [6]  # 420 x 330: 3 x 2 whole blocks
    assert frame[frame["label"] == 1].groupby("path").size().unique().tolist() == [1]
    assert data.notices["files that are not DICOM, left out"] == 1
    assert data.levels == ["patch"]


def test_patches_are_the_pixels_of_the_film_in_16_bit_about_what_was_circled(tmp_path: Path) -> None:
    data = opened(tmp_path, root=tmp_path / "d", table=pair(tmp_path / "d"))
    for row in data._index.to_dict("records"):
        cut = Box.parse(row["box"]).of(data.open(row["path"]))
        assert np.array_equal(data.read(row), cut)
    lesion = data.images[data.frame["label"] == 1][0, 0]
    assert lesion[54:74, 54:74].mean() > lesion.mean() + 5000  # the disc
    assert len(np.unique(lesion)) > 256


def spot(word: str) -> list[Dataset]:
    modifier, view = Dataset(), Dataset()
    modifier.CodeMeaning = word
    view.ViewModifierCodeSequence = [modifier]
    return [view]


LEFT_OUT: list[tuple[str, dict[str, Any]]] = [
    ("films without a view position", {"ViewPosition": ""}),
    ("films of a view other than CC and MLO", {"ViewPosition": "ML"}),
    ("films of a sex other than F", {"PatientSex": "M"}),
    ("films of breasts with an implant", {"BreastImplantPresent": "YES"}),
    ("films whose PresentationLUTShape is INVERSE", {"PresentationLUTShape": "INVERSE"}),
    ("films whose ImageType is ORIGINAL", {"ImageType": ["ORIGINAL", "PRIMARY"]}),
    ("images of tomosynthesis", {"ImageType": ["DERIVED", "PRIMARY", "TOMOSYNTHESIS"]}),
    ("films FOR PROCESSING", {"PresentationIntentType": "FOR PROCESSING"}),
    ("spot compression films", {"ViewCodeSequence": spot("Spot Compression")}),
    ("magnification films", {"EstimatedRadiographicMagnificationFactor": 1.8}),
    ("films without a PatientID", {"PatientID": ""}),
    ("films that the table gives no BI-RADS", {"PatientID": "stranger"}),
    ("films of BI-RADS 3 to 6", {"PatientID": "p4"}),
    ("copies of a film (the same SOPInstanceUID)", {"SOPInstanceUID": uid("normal")}),
]


@pytest.mark.parametrize(("reason", "tags"), LEFT_OUT, ids=[reason for reason, _ in LEFT_OUT])
def test_a_film_is_left_out_for_a_counted_reason(tmp_path: Path, reason: str, tags: dict[str, Any]) -> None:
    table = pair(tmp_path / "d", p2="1", p4="4a")
    film(tmp_path / "d", "other/deep/film.x", number=2, **tags)
    data = opened(tmp_path, root=tmp_path / "d", table=table)
    assert data.notices[f"{reason}, left out"] == 1
    assert set(data.frame["patient"]) == {"p0", "p1"}


def test_absent_tags_keep_a_film(tmp_path: Path) -> None:
    table = pair(tmp_path / "d", p2="1")
    film(tmp_path / "d", "bare", number=2, PatientSex=None, PresentationIntentType=None, ImageType=None)
    data = opened(tmp_path, root=tmp_path / "d", table=table)
    assert set(data.frame["patient"]) == {"p0", "p1", "p2"}
    row = data.frame[data.frame["patient"] == "p2"].iloc[0]
    assert row["laterality"] == ""
    assert np.isnan(row["spacing_mm"])


def test_lesion_films_without_an_ellipse_and_normal_films_with_one(tmp_path: Path) -> None:
    table = pair(tmp_path / "d", p2="0", p3="1")
    film(tmp_path / "d", "plain", number=2)
    film(tmp_path / "d", "circled", number=3, drawn=True)
    data = opened(tmp_path, root=tmp_path / "d", table=table)
    assert data.notices["films of BI-RADS 0 or 2 without an ellipse, left out"] == 1
    assert data.notices["blocks that hold ink, or tissue as white, left out"] >= 4
    assert set(data.frame[data.frame["label"] == 1]["patient"]) == {"p1"}


KEYED: list[tuple[str, Callable[[int, str], str]]] = [
    ("path", lambda number, name: name),
    ("path", lambda number, name: f".\\{name}".replace("/", "\\")),
    ("instance", lambda number, name: uid(name)),
    ("exam", lambda number, name: uid("e", number)),
    ("patient", lambda number, name: f"p{number}"),
]


@pytest.mark.parametrize(("column", "named"), KEYED)
def test_the_table_names_films_in_four_ways(tmp_path: Path, column: str, named: Callable[[int, str], str]) -> None:
    names = ["a/Brüste 1", "b/IM2.dcm"]
    for number, name in enumerate(names):
        film(tmp_path / "d", name, number=number, drawn=bool(number))
    lines = [f"{named(number, name)};BI-RADS {1 - number}" for number, name in enumerate(names)]
    table = tmp_path / "t.csv"
    table.write_text("\n".join([f"{column};birads", *lines, "nobody;1", ";1", "p9;"]) + "\n", encoding="latin-1")
    data = opened(tmp_path, root=tmp_path / "d", table=table)
    assert data.frame.groupby("patient")["birads"].first().to_dict() == {"p0": "BI-RADS 1", "p1": "BI-RADS 0"}
    assert data.notices["lines of the table without a file"] == 1
    assert data.notices[f"lines of the table without {column}"] == 1
    assert data.notices["lines of the table without a birads"] == 1


def test_names_of_no_encoding_and_loops_of_links(tmp_path: Path) -> None:
    table = pair(tmp_path / "d", p2="1")
    (tmp_path / "d" / "loop").symlink_to(tmp_path / "d")
    strange = Path(os.fsdecode(os.fsencode(tmp_path / "d") + b"/film \xff"))
    film(tmp_path / "d", "strange", number=2).rename(strange)
    data = opened(tmp_path, root=tmp_path / "d", table=table)
    assert data.frame.groupby("patient").size().to_dict() == {"p0": 6, "p1": 1, "p2": 6}
    assert data.frame["image"].str.isascii().all()
    assert opened(tmp_path, root=tmp_path / "d", table=table).digest == data.digest


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("patient,birads\np0,7\n", r"birads '7' of patient 'p0' .* is not known; write 0 to 6"),
        ("patient,birads\np0,-1\n", "birads '-1'"),
        ("patient,birads\np0,1\np0,0\n", r"patient 'p0' has BI-RADS 1 and 0 .* more exactly"),
        ("woman,birads\np0,1\n", "names no film; expected one of the columns path, instance, exam, patient"),
        ("patient,label\np0,1\n", "lacks birads"),
        ("patient,birads\nq0,1\n", "no patch can be cut .* the table gives no BI-RADS"),
        ("patient,birads\np0,1\n", "all 6 images are negative"),
    ],
)
def test_tables_that_do_not_fit(tmp_path: Path, text: str, match: str) -> None:
    table = pair(tmp_path / "d")
    table.write_text(text)
    with pytest.raises(DataError, match=match):
        opened(tmp_path, root=tmp_path / "d", table=table)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="pass --table with a column birads"):
        Screening(root=tmp_path)
    with pytest.raises(DataError, match=r"pass --root: expected DICOM files .*your archive"):
        opened(tmp_path, table=tmp_path / "t.csv")
    with pytest.raises(DataError, match=r"'.*t.csv' cannot be opened"):
        opened(tmp_path, root=tmp_path, table=tmp_path / "t.csv")


@pytest.mark.parametrize("cut", [140, 400, 5000])
def test_a_file_cut_short_is_refused_by_name_or_left_out(tmp_path: Path, cut: int) -> None:
    table = pair(tmp_path / "d", p2="1")
    path = film(tmp_path / "d", "short", number=2)
    path.write_bytes(path.read_bytes()[:cut])
    data = {"root": tmp_path / "d", "table": table}
    lenient = opened(tmp_path / "l", **data, lenient=True)
    assert set(lenient.frame["patient"]) == {"p0", "p1"}
    reasons = (
        "files that are not DICOM",
        "files that cannot be read",
        "files without pixels",
        "films that cannot be decoded",
    )
    assert sum(lenient.notices.get(f"{reason}, left out", 0) for reason in reasons) == 1
    if cut == 5000:  # of the shorter ones too few tags are left to tell them from files that are not meant
        with pytest.raises(DataError, match="short' .*skip-unreadable"):
            opened(tmp_path, **data)


def test_it_goes_on_where_it_was_stopped_and_asks_again_only_what_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = write_screening(tmp_path / "data", patients=8)
    decoded: list[str] = []
    read_dicom = screening_files.read_dicom

    def counting(path: Path) -> np.ndarray:
        if len(decoded) == 5 and not (tmp_path / "go").exists():
            raise KeyboardInterrupt
        decoded.append(path.name)
        return read_dicom(path)

    monkeypatch.setattr(screening_files, "read_dicom", counting)
    with pytest.raises(KeyboardInterrupt):
        opened(tmp_path, **options)
    memory = next((tmp_path / "m" / "cache" / "contents").glob("screening-*/patches-*.jsonl"))
    kept = len(memory.read_text().splitlines())
    assert kept > 0
    with memory.open("a") as lines:
        lines.write('["torn')
    (tmp_path / "go").touch()
    data = opened(tmp_path, **options)
    films = data.frame["path"].nunique()
    assert films - kept <= len(decoded) - 5 <= films - kept
    whole = [json.loads(line) for line in memory.read_text().splitlines()]
    assert len(whole) == films
    before = len(decoded)
    assert opened(tmp_path, **options).digest == data.digest
    assert len(decoded) == before
    path = Path(data.frame["path"].iloc[0])
    os.utime(path, ns=(1, 1))
    opened(tmp_path, **options)
    assert decoded[before:] == [path.name]


def test_a_quarter_of_each_stratum_is_tested_on_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = {"corners": [(0, 0)], "refused": {}}
    monkeypatch.setattr(screening_files, "find_ellipses", lambda image: [])
    few = Screening(**write_screening(tmp_path / "few", patients=12), mlruns=tmp_path / "m")
    monkeypatch.setattr("mammo_lightning.datamodules.screening.patches", lambda film: box)
    assert set(few.index()["split"]) == {""}
    options = write_screening(tmp_path / "many", patients=120)
    many = Screening(**options, mlruns=tmp_path / "m").index()
    patients = many.drop_duplicates("patient").set_index("patient")
    share = (patients["split"] == "test").groupby(patients["label"]).mean()
    assert share.between(0.15, 0.35).all()
    write_screening(tmp_path / "many", patients=140)
    more = Screening(**options, mlruns=tmp_path / "m").index().drop_duplicates("patient").set_index("patient")
    assert len(more) == 140
    assert more.loc[patients.index, "split"].equals(patients["split"])
    assert pytest.approx(1 / 3) == Screening.holdout_share


def test_a_quick_look_reads_few_films_and_none_of_the_test_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = write_screening(tmp_path / "data", patients=80)
    whole = opened(tmp_path, **options)
    assert (make_splits(whole, folds=3).fold == TEST).any()
    decoded: list[Path] = []
    read_dicom = screening_files.read_dicom
    monkeypatch.setattr(screening_files, "read_dicom", lambda path: decoded.append(path) or read_dicom(path))
    quick = opened(tmp_path / "other", **options, limit=40)
    assert len(decoded) <= 24
    assert quick.frame.groupby("label")["patient"].nunique().min() >= 5
    assert not set(quick.frame["patient"]) & set(whole.frame[whole.frame["split"] == "test"]["patient"])
    assert make_splits(quick, folds=3).folds == [0, 1, 2]


def told_apart(data: Screening, classifier: str, folder: Path, **chosen: Any) -> Estimate:
    """What a classifier reaches by folds of patients, with its interval."""
    splits = make_splits(data, folds=3)
    settings = make_space(CLASSIFIERS.get(classifier), chosen=chosen).fixed
    parts = [
        fit(Task(data, splits, classifier), fold=fold, settings=settings, seed=0, folder=folder / f"{classifier}{fold}")
        for fold in splits.folds
    ]
    return mean_fold_auc_interval(Predictions(pd.concat([part.predictions.frame for part in parts])))


def with_ink(image8: np.ndarray, ellipses: list[Ellipse]) -> tuple[list[Box], Counter[str]]:
    """The planted fault: the patch about each ellipse, whatever is in it."""
    boxes = [Box.centred(each.x, each.y, 128) for each in ellipses]
    return [box for box in boxes if box.inside(image8.shape)], Counter()


HYPER = {"init": 4, "epochs": 3, "batch_size": 32, "norm_momentum": 0.1, "depth": 1, "dropout": 0.0}


def test_ink_alone_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Films that differ in nothing but the ellipse: chance; and with its ink in the patches, certainty."""
    patients = {"patients": 110, "lesions": False}
    clean = opened(tmp_path / "a", **write_screening(tmp_path / "wide", **patients), size=48)
    assert clean.frame["label"].sum() > 50
    monkeypatch.setattr(screening_files, "lesion_boxes", with_ink)
    inked = opened(tmp_path / "b", **write_screening(tmp_path / "small", **patients, axes=(60, 110)), size=48)
    for classifier, chosen in (("linear", {}), ("hyper", HYPER)):
        chance = told_apart(clean, classifier, tmp_path / "a", **chosen)
        assert chance.lo < 0.5 < chance.hi, classifier
        assert 0.35 < chance.value < 0.65, classifier
        assert told_apart(inked, classifier, tmp_path / "b", **chosen).value > 0.95, classifier
