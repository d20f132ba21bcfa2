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
from fake_screening import HEIGHT, WIDTH, lesion_film, tissue, uid, write_screening
from pydicom import dcmread
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
    assert frame[frame["label"] == 0].groupby("path").size().between(1, 6).all()  # of 480 x 420
    assert frame[frame["label"] == 1].groupby("path").size().unique().tolist() == [1]
    assert data.notices["files that are not DICOM, left out"] == 1
    assert data.levels == ["patch"]


def test_patches_are_the_pixels_of_the_film_in_16_bit_about_what_was_circled(tmp_path: Path) -> None:
    data = opened(tmp_path, root=tmp_path / "d", table=pair(tmp_path / "d"))
    for row in data._index.to_dict("records"):
        cut = Box.parse(row["box"]).of(data.open(row["path"]))[:, :: -1 if row["path"] in data._flipped else 1]
        assert np.array_equal(data.read(row), cut)
    [row] = data._index[data._index["label"] == 1].to_dict("records")
    lesion, bare = data.open(row["path"]), 16.0 * tissue(np.random.default_rng(1))
    disc = Box.parse(row["box"]).of(lesion - bare)
    assert disc[60:68, 60:68].mean() > 10_000
    assert np.abs(disc[:20]).mean() < 100
    assert len(np.unique(data.images)) > 256


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
    assert data.notices["blocks that hold ink, or tissue as white, left out"] >= 1
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
    assert set(data.frame["patient"]) == {"p0", "p1", "p2"}
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
        ("patient,birads\np0,1\n", r"all \d images are negative"),
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
            raise KeyboardInterrupt("stopped here")
        decoded.append(path.name)
        return read_dicom(path)

    monkeypatch.setattr(screening_files, "read_dicom", counting)
    with pytest.raises(KeyboardInterrupt, match="stopped here"):
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


def test_more_files_never_move_a_patient_between_training_and_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = {"corners": [(0, 0)], "refused": {}, "wall": ""}
    monkeypatch.setattr("mammo_lightning.datamodules.screening.patches", lambda film: box)
    sides: dict[str, set[str]] = {}
    for count in (6, 14, 30, 120):
        data = Screening(**write_screening(tmp_path / "d", patients=count), mlruns=tmp_path / "m")
        patients = data.index().drop_duplicates("patient").set_index("patient")
        waiting = data.notices.get("patches of patients drawn for a test part (fewer than 2 of a class), left out", 0)
        assert (len(patients) == count) == (waiting == 0)
        tested = patients["label"][patients["split"] == "test"].value_counts()
        assert tested.empty or tested.reindex([0, 1], fill_value=0).min() >= 2
        for patient, side in patients["split"].items():
            sides.setdefault(str(patient), set()).add(side)
        if count == 14:  # one patient is drawn as yet
            assert waiting
    assert set(map(len, sides.values())) == {1}
    share = (patients["split"] == "test").groupby(patients["label"]).mean()
    assert share.between(0.15, 0.35).all()
    assert pytest.approx(1 / 3) == Screening.holdout_share


def test_where_everybody_of_a_class_is_drawn_nobody_is_trained_on(tmp_path: Path) -> None:
    table = pair(tmp_path / "d", p3="0")
    (tmp_path / "d" / "drawn").unlink()
    film(tmp_path / "d", "other", number=3, drawn=True)
    data = opened(tmp_path, root=tmp_path / "d", table=table)
    assert data.frame.groupby("patient")["split"].first().to_dict() == {"p0": "train", "p3": "test"}
    with pytest.raises(DataError, match="0 patients with positive images .* more patients are needed"):
        make_splits(data, folds=2)


def test_a_corrected_table_asks_the_same_films_anew(tmp_path: Path) -> None:
    table = pair(tmp_path / "d", p2="1")
    film(tmp_path / "d", "circled", number=2, drawn=True)
    first = opened(tmp_path, root=tmp_path / "d", table=table)
    table.write_text(table.read_text().replace("p2,1", "p2,0"))
    data = opened(tmp_path, root=tmp_path / "d", table=table)
    before, after = (each.frame[each.frame["patient"] == "p2"] for each in (first, data))
    assert set(before["label"]) <= {0}
    assert after["label"].tolist() == [1]
    box = Box.parse(after["box"].iloc[0])
    assert box not in [Box.parse(each) for each in before["box"]]
    fresh = opened(tmp_path / "fresh", root=tmp_path / "d", table=table)
    assert data.digest == fresh.digest
    assert np.array_equal(data.images, fresh.images)


def test_a_file_mended_under_the_same_uid_is_decoded_again(tmp_path: Path) -> None:
    table = pair(tmp_path / "d")
    first = opened(tmp_path, root=tmp_path / "d", table=table)
    path = tmp_path / "d" / "normal"
    changed = dcmread(path)
    changed.PixelData = (changed.pixel_array // 2).tobytes()
    changed.save_as(path)
    data = opened(tmp_path, root=tmp_path / "d", table=table)
    assert data.source == first.source
    assert data.digest != first.digest
    same = first.frame["image"] == data.frame["image"]
    assert same.all()
    halved = (data.frame["label"] == 0).to_numpy()
    assert np.array_equal(data.images[~halved], first.images[~halved])
    assert data.images[halved].mean() == pytest.approx(first.images[halved].mean() / 2, rel=0.01)


SIDES: list[tuple[str | None, str, bool, str]] = [
    ("L", "L", False, ""),
    ("R", "R", True, ""),
    ("L", "R", False, "films whose side differs by tag and by pixels (the tag is followed)"),
    ("R", "L", True, "films whose side differs by tag and by pixels (the tag is followed)"),
    (None, "R", True, "films without a tag of the side (taken from the pixels)"),
    (None, "L", False, "films without a tag of the side (taken from the pixels)"),
    (None, "", False, "films without a tag of the side (not known, not flipped)"),
    ("R", "", True, ""),
]


@pytest.mark.parametrize(("tag", "seen", "flipped", "counted"), SIDES)
def test_right_breasts_are_flipped(tmp_path: Path, tag: str | None, seen: str, flipped: bool, counted: str) -> None:
    """By the tag, else by the pixels; a box stays where it is in the film that is stored."""
    table = pair(tmp_path / "d", p2="1")
    pixels = tissue(np.random.default_rng(5), 600, 560)
    down, across = np.mgrid[:600, :560]
    wall = {"L": 0, "R": 559, "": 280}[seen]
    deep = 270 if seen == "" else 480
    pixels[((down - 300) / 290) ** 2 + ((across - wall) / deep) ** 2 > 1] = 0
    tags = {"ImageLaterality": tag} if tag else {}
    about = {"PatientID": "p2", "ViewPosition": "CC", "SOPInstanceUID": uid("side")}
    path = write_dicom(tmp_path / "d" / "side", pixels, **about, **tags)
    for _ in range(2):  # decided once, and remembered
        data = opened(tmp_path, root=tmp_path / "d", table=table)
        rows = data._index[data._index["patient"] == "p2"].to_dict("records")
        assert rows
        for row in rows:
            stored = Box.parse(row["box"]).of(dcmread(path).pixel_array) * 16.0
            turned = stored[:, ::-1] if flipped else stored
            assert np.abs(data.read(row) - turned).max() < 32
            assert row["laterality"] == (tag or "")
        of_sides = {why: count for why, count in data.notices.items() if why.startswith("films w")}
        assert of_sides.get(counted, 0) >= bool(counted)
        differing = of_sides.get("films whose side differs by tag and by pixels (the tag is followed)", 0)
        assert differing == counted.startswith("films whose")


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


def phases(images: np.ndarray) -> np.ndarray:
    """How strong the steps are at each of 8 columns and 8 rows (4 pixels from there), against all of them."""
    grey = images[:, 0].astype(float)
    found = []
    for turned in (grey, grey.swapaxes(1, 2)):
        steps = np.abs(np.diff(turned, n=3, axis=2)).mean(1)[:, :120]
        each = steps.reshape(len(steps), 15, 8).mean(1)
        found.append(each / each.mean(1, keepdims=True))
    return np.hstack(found)


def by_phase(data: Screening) -> Estimate:
    """What is told by how the grid of JPEG shows where it does in blocks cut from the film's corner."""
    found = phases(data.images)
    score = 1 / (1 + np.exp(found[:, 6] + found[:, 14] - 2))  # low where it shows between the pixels 7 and 8
    frame = data.frame.assign(fold=make_splits(data, folds=3).fold, p_negative=1 - score, p_positive=score)
    frame = frame[frame["fold"] >= 0].assign(split="val")
    columns = ["image", "patient", "group", "view", "fold", "split", "label", "p_negative", "p_positive"]
    return mean_fold_auc_interval(Predictions(frame[columns].reset_index(drop=True)))


def test_where_a_patch_is_cut_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The grid of JPEG lies anywhere in patches of both classes; with blocks from the film's corner, it tells all."""
    options = write_screening(tmp_path / "data", patients=90, lesions=False, quality=80)
    data = opened(tmp_path / "a", **options)
    chance = by_phase(data)
    assert chance.lo < 0.5 < chance.hi
    assert 0.35 < chance.value < 0.65
    boxes = data.frame["box"].map(Box.parse)
    nearest = [min(box.x, box.y, WIDTH - box.x - 128, HEIGHT - box.y - 128) for box in boxes]
    assert min(nearest) >= 41
    assert boxes[data.frame["label"] == 0].map(lambda box: (box.x % 8, box.y % 8)).nunique() > 20
    monkeypatch.setattr(screening_files, "offset_of", lambda film: (0, 0))
    assert by_phase(opened(tmp_path / "b", **options)).value > 0.95


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
