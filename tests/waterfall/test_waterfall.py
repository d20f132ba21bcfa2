"""What is planted between two steps is what the waterfall takes away there; where nothing is planted, nothing is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from fakes import predictions

from mammo_lightning import record
from mammo_lightning.datamodules.folds import RESERVE, TEST, freeze
from mammo_lightning.errors import MammoError
from mammo_lightning.evaluation.steps import Estimate, Step
from mammo_lightning.final import pooled
from mammo_lightning.plan import Plan
from mammo_lightning.progress import Interrupted, Progress
from mammo_lightning.recipe import make_recipe
from mammo_lightning.runs import Runs
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.training import fit, load_fit
from mammo_lightning.types import Kind, Outcome
from mammo_lightning.waterfall.divisions import by_image, by_patient
from mammo_lightning.waterfall.run import REFITTED, conclusion, keep_waterfall, table

STUDY = "s-000000"
Drawing = Callable[[int, int, int], np.ndarray]  # patient, number, label


def texture(seed: int) -> np.ndarray:
    """A patient's own look: noise of her own grain, brightness and contrast, which says nothing about the label."""
    rng = np.random.default_rng(seed)
    field = cv2.GaussianBlur(rng.normal(size=(32, 32)), (0, 0), rng.uniform(0.6, 4))
    return rng.uniform(80, 170) + field / field.std() * rng.uniform(5, 30)


def noisy(image: np.ndarray, seed: int, scale: float = 1.0) -> np.ndarray:
    return np.clip(image + np.random.default_rng(seed).normal(scale=scale, size=image.shape), 0, 255).astype(np.uint8)


def own_look(patient: int, number: int, label: int) -> np.ndarray:
    return noisy(texture(patient), 1000 * patient + number)


def twins(patient: int, number: int, label: int) -> np.ndarray:
    """Patients 2n and 2n + 1 are one person under two names."""
    return noisy(texture(patient // 2), 1000 * (patient // 2) + number)


def specks(patient: int, number: int, label: int) -> np.ndarray:
    """A lesion that everybody can see, on images that have nothing of their patient."""
    image = np.full((32, 32), 120.0)
    rng = np.random.default_rng(1000 * patient + number)
    for y, x in rng.integers(4, 28, (6 * label * (rng.random() < 0.8), 2)):
        image[y : y + 2, x : x + 2] += 40
    return noisy(image, 1000 * patient + number, 12)


def write(root: Path, drawing: Drawing, patients: int, *, source: bool = False) -> dict[str, object]:
    """Three images a patient; with a source, 90 % of its letters follow the label."""
    for patient in range(patients):
        label = patient // 2 % 2
        letter = "ab"[label if patient % 16 > 3 else 1 - label] if source else "a"
        folder = root / ("benign", "malignant")[label]
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(3):
            cv2.imwrite(str(folder / f"{letter}_p{patient:03d}_{number}.png"), drawing(patient, number, label))
    return {"dataset": "folder", "root": str(root), "patient_from": r"(p\d+)_"}


def tuned(tmp_path: Path, data: dict[str, object], *, trials: int = 1, **more: object) -> Runs:
    """A study of `linear` as `tune` leaves it, without its figures."""
    mlruns = tmp_path / "mlruns"
    keys = {"name": "s", "classifier": "linear", "folds": 3, "trials": trials, "test": 0.2, "workers": 1, **data}
    recipe = make_recipe({**keys, "mlruns": str(mlruns), **more})
    plan = Plan(recipe, Progress())
    freeze(plan.data, plan.splits, recipe.test)
    journal = Journal(mlruns)
    study = journal.run(STUDY)
    study.begin(kind=Kind.study, name="s", study="s", parent=None, experiment="folder", tags=plan.tags)
    study.write("recipe.json", recipe.model_dump_json())
    for slot in range(trials):
        run = journal.run(f"{STUDY}.t{slot:03d}")
        seeds = {f"seed.f{fold}": str(fold) for fold in plan.splits.folds}
        run.begin(
            kind=Kind.trial, name=f"t{slot:03d}", study="s", parent=STUDY, experiment="folder",
            tags={**plan.tags, **seeds, "trial": str(slot)},
        )  # fmt: skip
        settings = {**plan.space.fixed, "regularisation": 1000.0 / 10 ** (4 * slot), "features": "all"}
        run.write("settings.json", json.dumps(settings))
        fits = [
            fit(plan.task, fold=fold, settings=settings, seed=fold, folder=run.folder / "folds" / f"f{fold}")
            for fold in plan.splits.folds
        ]
        found = pooled([each.predictions for each in fits])
        record.keep(run, "val", found)
        run.metrics({"objective": 1.0 - slot / 10})
        run.end(Outcome.completed)
    study.end(Outcome.completed)
    return Runs(mlruns)


def fall(found: Runs, word: str = "s/t000") -> pd.DataFrame:
    return table(keep_waterfall(found, word, None, Progress())[1]).set_index("key")


def test_patients_seen_before_fall_away_between_image_and_patient(tmp_path: Path) -> None:
    found = tuned(tmp_path, write(tmp_path / "data", own_look, 40))
    steps = fall(found)
    assert steps["auc"]["image"] > 0.9
    assert steps["auc"]["patient"] < 0.75
    assert steps["difference_hi"]["patient"] < -0.1
    assert "no image stands under two patients" in steps["note"]["duplicates"]
    assert "no name, size, count or column" in steps["note"]["shortcut"]
    assert steps["note"]["selection"] == "one trial was completed: nothing was chosen"
    assert "python -m experiments.evaluate s --dataset D --root R" in steps["note"]["external"]


def test_identical_images_fall_away_between_patient_and_duplicates(tmp_path: Path) -> None:
    steps = fall(tuned(tmp_path, write(tmp_path / "data", twins, 80), test=0.0))
    assert steps["difference_hi"]["duplicates"] < -0.1
    assert steps["auc"]["patient"] > steps["auc"]["duplicates"] + 0.15


def test_nothing_falls_away_where_nothing_is_planted(tmp_path: Path) -> None:
    steps = fall(tuned(tmp_path, write(tmp_path / "data", specks, 48)))
    assert steps["auc"]["patient"] > 0.8
    assert steps["difference_lo"]["patient"] < 0 < steps["difference_hi"]["patient"]


def test_a_source_falls_away_when_pairs_are_of_one_source(tmp_path: Path) -> None:
    def bright(patient: int, number: int, label: int) -> np.ndarray:
        """Sources differ in brightness, and in nothing else."""
        source = label if patient % 16 > 3 else 1 - label
        return noisy(np.full((32, 32), 100.0 + 40 * source), 1000 * patient + number, 10)

    found = tuned(tmp_path, write(tmp_path / "data", bright, 64, source=True), trials=2)
    steps = fall(found)
    assert steps["auc"]["patient"] > 0.65
    assert steps["auc"]["shortcut"] == pytest.approx(0.5, abs=0.15)
    assert steps["difference_hi"]["shortcut"] < 0
    assert "token 1 of the file name" in steps["taken"]["shortcut"]
    assert "pairs" in steps["counts"]["shortcut"]
    best = "selection" if steps["auc"].notna()["selection"] else "shortcut"
    assert steps["auc"][best] == pytest.approx(0.5, abs=0.2), "the correction goes on from the pairs of one source"


def test_a_source_that_varies_within_a_patient_is_not_controlled_by_patient(tmp_path: Path) -> None:
    """All malignant images are of source b, but for one of every other patient: she is of no one source."""
    data = write(tmp_path / "data", specks, 48)
    for path in (tmp_path / "data" / "malignant").iterdir():
        if not path.match("*[13579]_2.png"):
            path.rename(path.with_name("b" + path.name[1:]))
    found = tuned(tmp_path, data, level="patient", sampling="exhaustive", test=0.0)
    step = fall(found).loc["shortcut"]
    assert np.isnan(step["auc"])
    assert step["note"].startswith("no shortcut that is warned of can be controlled; not controlled: ")
    assert re.search(r"token 1 of the file name \(AUC 0.\d\d \(.*\)\), which varies within one patient", step["note"])


def risen() -> list[Step]:
    """The figure rises with one step, and with another by what has no interval."""
    whole = Estimate(0.84, 0.81, 0.87)
    return [
        Step("image", "split by image", Estimate(0.8, 0.77, 0.83)),
        Step("patient", "split by patient", whole, "", Estimate(0.04, 0.02, 0.06), "patients seen before"),
        Step("duplicates", "duplicates merged", whole, "", Estimate(0.0, -0.01, 0.01), "identical images seen before"),
        Step("selection", "choice corrected", whole, "", Estimate(0.01, np.nan, np.nan), "chosen by this figure"),
    ]


def test_a_rise_beyond_chance_is_told_as_one() -> None:
    said = conclusion(risen())
    assert "; rose by 0.040 (0.020 to 0.060) at split by patient, and by 0.010 at choice corrected" in said
    assert said.endswith("; not told from chance: identical images seen before 0.000 (-0.010 to 0.010)")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("plain")
    return tuned(folder, write(folder / "data", twins, 64), trials=2, reserve=0.15)


def test_hidden_rows_are_in_no_step_and_no_read_is_counted(plain: Runs) -> None:
    recipe = plain.get("s/t000").recipe
    assert recipe is not None
    plan = Plan(recipe, Progress())
    hidden = set(plan.splits.frame["image"][np.isin(plan.splits.fold, (TEST, RESERVE))])
    assert (plan.splits.fold == TEST).any()
    assert (plan.splits.fold == RESERVE).any()
    run, _, _ = keep_waterfall(plain, "s/t000", None, Progress())
    for key in ("image", "patient"):
        parts = [load_fit(run.folder / "folds" / key / f"f{fold}") for fold in plan.splits.folds]
        scored = pooled([part.predictions for part in parts if part]).frame
        assert sorted(scored["image"]) == sorted(plan.splits.frame["image"][plan.splits.fold >= 0])
        assert not hidden & set(scored["image"])
    assert not (plain.mlruns / "test_reads.jsonl").exists()
    torn = by_patient(plan.splits, plan.data.frame["patient"])
    assert torn is not None
    for made in (by_image(plan.splits), torn):
        np.testing.assert_array_equal(made.fold[plan.splits.fold < 0], plan.splits.fold[plan.splits.fold < 0])
        assert made.digest != plan.splits.digest


def test_it_is_an_audit_of_its_own_with_figure_table_and_sentence(plain: Runs) -> None:
    run, steps, lines = keep_waterfall(plain, "s", None, Progress())
    assert (run.run_id, run.identity["kind"], run.outcome) == (f"waterfall-{STUDY}.t000", "audit", "completed")
    assert (run.artifacts / "waterfall.png").read_bytes().startswith(b"\x89PNG")
    kept = pd.read_csv(run.artifacts / "waterfall.csv")
    assert kept["key"].tolist() == [step.key for step in steps]
    assert run.read_metrics()["step/image"] == pytest.approx(kept["auc"][0], abs=1e-4)
    assert run.read_tags()["audited"] == f"{STUDY}.t000"
    assert run.read_tags()["mlflow.note.content"].startswith("of the AUC of ")
    assert lines[0] == conclusion(steps)
    assert lines[1] == REFITTED
    assert "not the noise of training" in run.read_tags()["mlflow.note.content"]
    assert "identical images seen before" in lines[0]
    assert f"{steps[-2].auc} is left" in lines[0]


def test_a_stopped_waterfall_goes_on_with_the_fits_it_has(
    plain: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tuned(tmp_path, write(tmp_path / "data", own_look, 30))

    class Stopping(Progress):
        def fit_ended(self, key: str, *, counts: bool = True) -> None:
            self.stopping = key == "image f1"

    with pytest.raises(Interrupted, match=""):
        keep_waterfall(found, "s", None, Stopping())
    run = found.journal.run(f"waterfall-{STUDY}.t000")
    assert run.outcome is Outcome.interrupted
    assert sorted(path.name for path in (run.folder / "folds" / "image").iterdir()) == ["f0", "f1"]
    made = (run.folder / "folds" / "image" / "f0" / "fit.json").stat().st_mtime_ns
    again, _, _ = keep_waterfall(found, "s", None, Progress())
    assert again.outcome is Outcome.completed
    assert (run.folder / "folds" / "image" / "f0" / "fit.json").stat().st_mtime_ns == made


def test_an_evaluation_elsewhere_is_the_last_step(tmp_path: Path) -> None:
    found = tuned(tmp_path, write(tmp_path / "data", own_look, 30))
    run = found.journal.run("external-far-1")
    tags = {"dataset": "far", "model_run": f"{STUDY}.t000", "level": "patch"}
    run.begin(kind=Kind.external, name="far", study="", parent=None, experiment="far", tags=tags)
    record.keep(run, "external", predictions(patients=60, split="external"))
    run.end(Outcome.completed)
    _, steps, lines = keep_waterfall(Runs(found.mlruns), "s", None, Progress())
    assert steps[-1].title == "external: far"
    assert steps[-1].auc is not None
    assert steps[-1].counts.endswith("60 patients")
    assert lines[0].endswith(f"; external: far {steps[-1].auc}")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("nobody", "no run 'nobody'"),
        ("s/t009", "no run 's/t009'"),
        ("waterfall-none", "no run 'waterfall-none'"),
    ],
)
def test_a_run_that_is_none_is_one_line(plain: Runs, word: str, said: str) -> None:
    with pytest.raises(MammoError, match=said):
        keep_waterfall(plain, word, None, Progress())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"scheme": "nested"}, "study 's' is nested: each of its folds has settings of its own"),
        ({"group": "image"}, "study 's' was made with --group image"),
    ],
)
def test_a_study_without_a_split_by_patient_is_refused(tmp_path: Path, more: dict[str, str], said: str) -> None:
    found = tuned(tmp_path, write(tmp_path / "data", own_look, 30), **more)
    with pytest.raises(MammoError, match=said):
        keep_waterfall(found, "s", None, Progress())
    assert not [each for each in Journal(found.mlruns).runs() if each.startswith("waterfall")]


def test_other_images_than_those_of_the_study_are_refused(plain: Runs, tmp_path: Path) -> None:
    write(tmp_path / "other", own_look, 40)
    with pytest.raises(MammoError, match="are not those of study 's'; pass the --root"):
        keep_waterfall(plain, "s", tmp_path / "other", Progress())
