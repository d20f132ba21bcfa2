"""A frozen model on other images: what it may be judged on, and what is kept of it."""

import json

import numpy as np
import pandas as pd
import pytest
from fakes import WRITERS, dataset, predictions
from served_models import save_model

from mammo_lightning.errors import DataError, LeakError, SettingsError
from mammo_lightning.evaluation.metrics import auc
from mammo_lightning.evaluation.statistics import Estimate
from mammo_lightning.progress import Progress
from mammo_lightning.runs import Runs
from mammo_lightning.scoring.external import External, evaluate, told
from mammo_lightning.tracking.serving import load_servable, pixel_codes
from mammo_lightning.types import Level, Outcome

MODEL = {"name": "made final", "run": "made-1.final", "digest": "d1", "dataset": "learned-from"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return dataset("folder", tmp_path_factory.mktemp("other"), patients=24)


def external(data, tmp_path, *, seen=(), points=None, reading=None, model=MODEL, **changes):
    given = {
        "dtype": "uint8",
        "shape": data.shape,
        "classes": ("normal", "malignant"),
        "reading": {"dataset": "learned", "source": "another", **(reading or {})},
        "trained_on": pixel_codes(seen or ["00000000000000aa"]),
        "threshold": 0.4,
        "extra": {"rule": "spec0.80", "level": "patch", "points": points or {"patch": 0.4, "patient": 0.6}},
    }
    servable = load_servable(save_model(tmp_path / "model", tmp_path / "s", **(given | changes)))
    return External(servable, model, data, Progress())


def test_a_frozen_model_is_judged_at_its_own_thresholds(data, tmp_path):
    one = external(data, tmp_path)
    one.check(None)
    summary, run = evaluate(one, tmp_path / "m", about={"leaky": "false"})
    assert run.outcome is Outcome.completed
    scored = Runs(tmp_path / "m").get(run.run_id)
    table = scored.predictions("external")
    np.testing.assert_allclose(table.scores, one.servable(np.asarray(data.images)), atol=1e-7)
    assert table.labels.tolist() == data.frame["label"].tolist()
    assert set(table.frame["split"]) == {"external"}
    assert table.classes == ("normal", "malignant")
    metrics = run.read_metrics()
    assert metrics["external_threshold"] == 0.4
    assert metrics["external_auc"] == pytest.approx(auc(table.labels, table.scores))
    assert metrics["external_tpr"] == pytest.approx((table.scores >= 0.4)[table.labels == 1].mean())
    assert metrics["external_tpr_lo"] <= metrics["external_tpr"] <= metrics["external_tpr_hi"]
    assert {"external_patch/calibration_slope", "external_patch/calibration_intercept"} <= metrics.keys()
    assert scored.points[Level.patch].threshold == 0.4
    specificity = 1 - metrics["external_fpr"]
    assert f"specificity {specificity:.2f}" in "\n".join(summary.lines)
    assert "calibration: slope" in "\n".join(summary.lines)
    assert "external images read once, by 1 model" in summary.lines
    tags = run.read_tags()
    assert (tags["kind"] if "kind" in tags else run.identity["kind"]) == "external"
    assert (tags["level"], tags["operating_point"], tags["model_run"]) == ("patch", "spec0.80", "made-1.final")
    assert (run.artifacts / "figures" / "roc_external.png").is_file()


def test_calibration_that_cannot_be_told_is_said():
    at = predictions()
    rates = {"tpr": Estimate(0.8, 0.7, 0.9), "fpr": Estimate(0.25, 0.2, 0.3)}
    known = {**rates, "calibration_slope": Estimate(1, 0.9, 1.1), "calibration_intercept": Estimate(0, -0.1, 0.1)}
    known["ece"] = Estimate(0.05, 0.04, 0.06)
    rate, line = told(known, 0.4, at)
    assert rate.endswith("sensitivity 0.80 (0.70-0.90), specificity 0.75 (0.70-0.80)")
    assert "slope 1.00 (0.90-1.10) (1 is right), intercept 0.00 (-0.10 to 0.10) (0 is right), ECE 0.05" in line
    nothing = Estimate(np.nan, np.nan, np.nan)
    _, line = told({**known, "calibration_slope": nothing}, 0.4, at)
    assert line.startswith("calibration: no slope can be told, intercept 0.00")
    _, line = told(rates, 0.4, at)
    assert line.startswith("calibration: no slope can be told, no intercept can be told; 33% of these are positive")


def test_an_image_without_contrast_is_named(data, tmp_path, monkeypatch):
    one = external(data, tmp_path)
    pixels = np.array(data.images)
    pixels[5] = 3
    monkeypatch.setattr(data, "images", pixels)
    with pytest.raises(DataError, match=f"^'{data.frame['image'].iloc[5]}' is constant \\(3\\)"):
        evaluate(one, tmp_path / "m", about={})


def test_the_same_again_is_the_same_run_and_read(data, tmp_path):
    runs = []
    for name in ("made final", "made final", "other"):
        model = {**MODEL, "name": name, "digest": name}
        summary, run = evaluate(external(data, tmp_path, model=model), tmp_path / "m", about={})
        runs.append(run.run_id)
    assert runs[0] == runs[1] != runs[2]
    assert "external images read 2 times, by 2 models" in summary.lines


def test_another_level_is_a_run_of_its_own_and_is_said(data, tmp_path, monkeypatch):
    about = {"rule": "spec0.80", "level": "patient", "points": {"patch": 0.4, "patient": 0.6}}
    below = external(data, tmp_path, extra=about)
    _, first = evaluate(below, tmp_path / "m", about={})
    assert any("judged at level patch; the model was judged at patient" in line for line in below.lines)
    monkeypatch.setattr(data, "sampling", "exhaustive")
    above = external(data, tmp_path, extra=about)
    _, second = evaluate(above, tmp_path / "m", about={})
    assert not above.lines
    assert (first.read_tags()["level"], second.read_tags()["level"]) == ("patch", "patient")
    assert first.run_id != second.run_id


def test_images_seen_in_training_leave_with_their_patients(data, tmp_path):
    seen = data.frame["pixels"].iloc[[0, 30]].tolist()
    one = external(data, tmp_path, seen=seen)
    _, run = evaluate(one, tmp_path / "m", about={})
    table = pd.read_parquet(run.artifacts / "predictions_external.parquet")
    gone = set(data.frame["patient"].iloc[[0, 30]])
    assert set(table["patient"]) == set(data.frame["patient"]) - gone
    assert one.lines == [
        f"warning: 2 images were seen when the model was trained ({data.frame['image'].iloc[0]} ...); all 6 images of "
        "their 2 patients are left out"
    ]


@pytest.mark.parametrize(
    ("here", "there", "said"),
    [
        (
            0.05,
            0.07,
            ["a pixel is 0.05 mm here, and 0.07 mm where the model learned: everything looks 1.4 times as large"],
        ),
        (
            0.8,
            0.05,
            ["a pixel is 0.8 mm here, and 0.05 mm where the model learned: everything looks 16.0 times as small"],
        ),
        (0.05, 0.06, []),
        (None, 0.06, []),
    ],
)
def test_pixels_of_another_size_are_said(data, tmp_path, monkeypatch, here, there, said):
    monkeypatch.setattr(data, "spacing_mm", here)
    about = {"rule": "spec0.80", "level": "patch", "points": {"patch": 0.4}, "spacing_mm": there}
    one = external(data, tmp_path, extra=about)
    evaluate(one, tmp_path / "m", about={})
    assert one.lines == [f"warning: {line} to it" for line in said]


def test_a_model_that_does_not_say_what_it_saw_is_unverified(data, tmp_path):
    one = external(data, tmp_path, trained_on=None)
    assert len(one.rows()) == len(data.frame)
    assert "is unverified" in one.lines[0]


@pytest.mark.parametrize("known", [{"reading": {"source": "same"}}, {"model": {**MODEL, "dataset": "same"}}])
def test_the_dataset_it_was_trained_on_is_refused(data, tmp_path, known, monkeypatch):
    monkeypatch.setattr(data, "source" if "reading" in known else "digest", "same")
    with pytest.raises(LeakError, match="the model was trained on these images: dataset 'folder' is that of run 'made"):
        external(data, tmp_path, **known).check(None)


def test_too_little_that_is_new_is_refused(data, tmp_path):
    positive = data.frame[data.frame["label"] == 1]
    with pytest.raises(LeakError, match=r"trained on 36 of these 72 images .* no two classes are left"):
        external(data, tmp_path, seen=positive["pixels"].tolist()).rows()


def test_classes_must_mean_the_same(data, tmp_path):
    strange = external(data, tmp_path, classes=("normal", "cluster"))
    with pytest.raises(SettingsError, match="tells 'cluster' from 'normal', .* pass --positive-is 'malignant'"):
        strange.check(None)
    strange.check("malignant")
    with pytest.raises(SettingsError, match="--positive-is 'benign' is not .*; pass --positive benign to make it that"):
        strange.check("benign")
    with pytest.raises(SettingsError, match="has 'malignant' and 'benign'; pass --positive benign"):
        external(data, tmp_path, classes=("malignant", "benign")).check(None)


def test_other_images_are_refused(data, tmp_path):
    with pytest.raises(DataError, match="1 x 32 x 32 of uint8, and the model takes 1 x 24 x 24 of uint16"):
        external(data, tmp_path, dtype="uint16", shape=(1, 24, 24)).check(None)
    with pytest.raises(DataError, match="is of mammography, and the model was trained on histology"):
        external(data, tmp_path, reading={"domain": "histology"}).check(None)
    extra = {"rule": "spec0.80", "level": "breast", "points": {"breast": 0.4}}
    with pytest.raises(DataError, match="has a threshold at level breast, which 'folder' does not have"):
        external(data, tmp_path, extra=extra).check(None)


def test_a_frozen_test_split_among_the_images_is_counted_apart(tmp_path):
    from mammo_lightning.datamodules.folds import freeze, make_splits

    options = WRITERS["folder"](tmp_path / "data", patients=40)
    from mammo_lightning.datamodules.folder import Folder

    data = Folder(mlruns=tmp_path / "m", **options)
    data.prepare_data()
    freeze(data, make_splits(data, folds=3, test=0.25), 0.25)
    summary, _ = evaluate(external(data, tmp_path), tmp_path / "m", about={})
    assert "warning: among them is a test split read once, by 1 study" in summary.lines
    entries = [json.loads(line) for line in (tmp_path / "m" / "test_reads.jsonl").read_text().splitlines()]
    assert len({entry["test"] for entry in entries}) == 2
    assert make_splits(data, folds=3, test=0.25).test_digest in {entry["test"] for entry in entries}
