"""A whole study, small: what it leaves behind, and that stopping and going on changes nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from fakes import write_folder
from mlflow.tracking import MlflowClient

from mammo_lightning.engine import base
from mammo_lightning.ensembles.assemble import Wish, assemble, controls, record_ensemble
from mammo_lightning.ensembles.members import pool
from mammo_lightning.errors import SettingsError, TrackingError
from mammo_lightning.evaluation.metrics import auc
from mammo_lightning.final import make_predictor
from mammo_lightning.identity import claimed, identify
from mammo_lightning.ledger import Ledger
from mammo_lightning.opening import default_storage
from mammo_lightning.progress import Interrupted, Progress
from mammo_lightning.recipe import make_recipe
from mammo_lightning.runs import Runs
from mammo_lightning.study import run_study
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.tracking.publish import default_uri
from mammo_lightning.tracking.test_reads import READS
from mammo_lightning.training import Fit
from mammo_lightning.types import Kind, Predictions

ROOT = Path(__file__).parents[1]
KEYS = {
    "name": "small",
    "dataset": "synthetic",
    "patients": 80,
    "trials": 2,
    "folds": 3,
    "epochs": 2,
    "truth": 100,
    "workers": 1,
    "set": {"init": 4, "batch_size": 32},
    "search": {"depth": "1,2"},
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    mlruns = tmp_path_factory.mktemp("study") / "mlruns"
    run_study(make_recipe({**KEYS, "mlruns": mlruns}))
    return mlruns


@pytest.fixture(scope="module")
def runs(study: Path) -> pd.DataFrame:
    mlflow.set_tracking_uri(default_uri(study))
    return mlflow.search_runs(search_all_experiments=True)


def one(runs: pd.DataFrame, kind: str) -> pd.Series:
    found = runs[runs["tags.kind"] == kind]
    assert len(found) == 1, f"{len(found)} runs of kind {kind}"
    return found.iloc[0]


def test_every_kind_of_run_is_there_and_ended(runs: pd.DataFrame) -> None:
    assert runs["tags.kind"].value_counts().to_dict() == {"trial": 2, "study": 1, "reference": 1, "final": 1}
    assert set(runs["status"]) == {"FINISHED"}
    assert set(runs["tags.outcome"]) == {"completed"}
    parent = one(runs, "study")["run_id"]
    assert set(runs.loc[runs["tags.kind"] != "study", "tags.mlflow.parentRunId"]) == {parent}


def test_headlines_have_intervals_and_all_metrics_stand_at_every_level(runs: pd.DataFrame) -> None:
    trial = runs[runs["tags.kind"] == "trial"].iloc[0]
    for name in ("val_auc", "val_ap", "val_tpr", "val_fpr", "val_mcc", "val_accuracy"):
        value, low, high = (trial[f"metrics.{name}{suffix}"] for suffix in ("", "_lo", "_hi"))
        assert low <= value <= high, name
    metrics = "auc ap pauc tpr fpr accuracy balanced_accuracy precision recall f1 mcc brier ece calibration_slope"
    for level in ("patch", "view", "patient"):
        for name in [*metrics.split(), "calibration_intercept"]:
            assert np.isfinite(trial[f"metrics.val_{level}/{name}"]), (level, name)
    final = one(runs, "final")
    assert final["metrics.test_auc_lo"] <= final["metrics.test_auc"] <= final["metrics.test_auc_hi"]
    assert 0 < final["metrics.true_auc"] < 1
    assert one(runs, "reference")["metrics.test_auc"] > 0


def test_curves_folds_and_roc_are_series(study: Path, runs: pd.DataFrame) -> None:
    client = MlflowClient(default_uri(study))
    trial = runs[runs["tags.kind"] == "trial"].iloc[0]["run_id"]
    assert [point.step for point in client.get_metric_history(trial, "fold/val_auc")] == [0, 1, 2]
    assert len(client.get_metric_history(trial, "epoch/train_loss/f2")) == 2
    assert len(client.get_metric_history(trial, "roc/tpr")) == len(client.get_metric_history(trial, "roc/fpr")) > 90


def test_artifacts_params_and_the_dataset(study: Path, runs: pd.DataFrame) -> None:
    client = MlflowClient(default_uri(study))

    def files(run_id: str, path: str = "") -> set[str]:
        found = set()
        for item in client.list_artifacts(run_id, path or None):
            found |= files(run_id, item.path) if item.is_dir else {item.path}
        return found

    trial = runs[runs["tags.kind"] == "trial"].iloc[0]["run_id"]
    kept = files(trial)
    figures = {f"figures/{name}.png" for name in ("roc", "pr", "calibration", "confusion")}
    assert figures | {"predictions.parquet", "settings.json"} <= kept
    assert {f"models/f{fold}/{name}" for fold in range(3) for name in ("model.safetensors", "config.json")} <= kept
    run = client.get_run(trial)
    assert float(run.data.params["log10_learning_rate"]) == pytest.approx(
        np.log10(float(run.data.params["learning_rate"])), abs=1e-3
    )
    parent = client.get_run(one(runs, "study")["run_id"])
    assert parent.inputs.dataset_inputs[0].dataset.name == "synthetic"
    assert {"recipe.json", "folds.csv", "summary.md"} <= files(parent.info.run_id)
    assert {"python", "version.torch", "folds"} <= set(parent.data.tags)


def test_predictions_are_out_of_fold_and_the_test_is_read_once(study: Path) -> None:
    journal = Journal(study)
    trial = next(name for name in journal.runs() if name.endswith(".t000"))
    final = next(name for name in journal.runs() if ".final" in name)
    val = Predictions.read(journal.run(trial).artifacts / "predictions.parquet").frame
    test = Predictions.read(journal.run(final).artifacts / "predictions_test.parquet").frame
    assert not set(val["patient"]) & set(test["patient"])
    assert (val.groupby("patient")["fold"].nunique() == 1).all()
    assert set(test["split"]) == {"test"}
    reads = [json.loads(line) for line in (study / "test_reads.jsonl").read_text().splitlines()]
    assert [read["run"].partition(" beside ")[0] for read in reads] == [final]


def test_the_final_model_is_served_as_it_predicted(study: Path, runs: pd.DataFrame) -> None:
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    client = MlflowClient(default_uri(study))
    mlflow.set_tracking_uri(default_uri(study))
    models = client.search_logged_models(experiment_ids=[one(runs, "final")["experiment_id"]])
    final = next(model for model in models if model.name.startswith("final"))
    assert final.status.name == "READY" or str(final.status) == "READY"
    loaded = mlflow.pyfunc.load_model(f"models:/{final.model_id}")
    journal = Journal(study)
    run = journal.run(next(name for name in journal.runs() if ".final" in name))
    table = Predictions.read(run.artifacts / "predictions_test.parquet").frame
    from mammo_lightning.datamodules.synthetic import Synthetic

    data = Synthetic(patients=80, mlruns=study)
    data.prepare_data()
    rows = [data.frame.index[data.frame["image"] == name][0] for name in table["image"][:6]]
    answer = loaded.predict(np.asarray(data.images[rows]))
    assert list(answer.columns)[:2] == ["p_normal", "p_lesion"]
    assert np.allclose(answer["p_lesion"], table["p_lesion"][:6], atol=1e-5)


def test_the_same_command_does_nothing_twice(study: Path, runs: pd.DataFrame) -> None:
    before = {path: path.stat().st_mtime_ns for path in (study / "journal").rglob("*") if path.is_file()}
    summary = run_study(make_recipe({**KEYS, "mlruns": study}))
    assert {path: path.stat().st_mtime_ns for path in (study / "journal").rglob("*") if path.is_file()} == before
    assert summary.rows[-1].what == "final"


def test_a_changed_study_is_refused_with_the_difference(study: Path) -> None:
    with pytest.raises(SettingsError, match=r"study 'small' was begun with other settings .*seed: was 0, now 1"):
        run_study(make_recipe({**KEYS, "mlruns": study, "seed": 1}))
    changed = {**KEYS, "mlruns": study, "set": {**KEYS["set"], "dropout": 0.25}}
    with pytest.raises(
        SettingsError, match=r"other settings \(search dropout: was .*; settings dropout: was [\d.]+, now 0.25\); pass"
    ):
        run_study(make_recipe(changed))


def test_a_study_of_this_folder_is_not_begun_again_in_another_storage(study: Path, tmp_path: Path) -> None:
    other = f"sqlite:///{tmp_path / 'other.db'}"
    with pytest.raises(SettingsError, match="study 'small' was begun in this tracking folder with another --storage"):
        run_study(make_recipe({**KEYS, "mlruns": study, "storage": other}))
    assert Ledger(other, study).known("small") is None, "nothing was founded there"


def test_identity_is_kept_until_fresh(tmp_path: Path) -> None:
    ledger = Ledger(default_storage(tmp_path), tmp_path)
    with claimed(tmp_path, "s"):
        first = identify(ledger, "s", {"a": 1}, fresh=False, beside={"b": 1})
        assert identify(ledger, "s", {"a": 1}, fresh=False, beside={"b": 2}) == first
        with pytest.raises(SettingsError, match="a: was 1, now 2"):
            identify(ledger, "s", {"a": 2}, fresh=False)
        assert identify(ledger, "s", {"a": 2}, fresh=True) != first
        with pytest.raises(TrackingError, match="is being run by another process"), claimed(tmp_path, "s"):
            pytest.fail("two processes hold one study")


COMMAND = "--workers 1 --trials 2 --folds 3 --epochs 3 --set init=4 --search depth=1,2 --no-prune --name s".split()


def tune(root: Path, *more: str) -> subprocess.Popen[str]:
    options = write_folder(root / "data", patients=24)
    command = [sys.executable, "-m", "experiments.tune", "--dataset", "folder", "--root", str(root / "data")]
    command += ["--patient-from", str(options["patient_from"]), "--mlruns", str(root / "mlruns"), *COMMAND, *more]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def results(root: Path) -> dict[str, pd.DataFrame]:
    journal = Journal(root / "mlruns")
    found = {}
    for name in journal.runs():
        run = journal.run(name)
        path = run.artifacts / "predictions.parquet"
        if path.exists():
            found[name.partition(".")[2]] = pd.read_parquet(path)
    return found


def test_interrupted_equals_uninterrupted(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    started = tune(whole)
    _out, err = started.communicate(timeout=400)
    assert started.returncode == 0, err
    stopped = tune(broken)
    deadline = time.monotonic() + 300
    while not list((broken / "mlruns").glob("journal/*.t000/folds/f0/fit.json")):
        assert time.monotonic() < deadline, "the first fold was never finished"
        assert stopped.poll() is None, stopped.communicate()[1]
        time.sleep(0.02)
    stopped.send_signal(signal.SIGINT)
    _, err = stopped.communicate(timeout=300)
    assert stopped.returncode == 130, err
    journal = Journal(broken / "mlruns")
    outcomes = {name.partition(".")[2]: str(journal.run(name).outcome) for name in journal.runs()}
    assert outcomes[""] == outcomes["t000"] == "interrupted", "it was stopped in the middle"
    again = tune(broken)
    _, err = again.communicate(timeout=400)
    assert again.returncode == 0, err
    one, two = results(whole), results(broken)
    assert set(one) == set(two) >= {"t000", "t001"}
    for name in one:
        pd.testing.assert_frame_equal(one[name], two[name])
    client = MlflowClient(default_uri(broken / "mlruns"))
    ended = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert {run.info.status for run in ended} == {"FINISHED"}
    assert sorted(run.data.tags.get("trial", "") for run in ended if run.data.tags["kind"] == "trial") == ["0", "1"]


LINEAR = {**KEYS, "truth": 0, "classifier": "linear", "set": {}, "search": {}}


def of_kind(journal: Journal, kind: str) -> list[str]:
    return [run_id for run_id in journal.runs() if journal.run(run_id).identity["kind"] == kind]


def test_a_stop_at_the_end_is_heeded_before_the_test_split_is_read(tmp_path: Path) -> None:
    class Stops(Progress):
        def say(self, line: str) -> None:
            self.stopping |= line.startswith("final: ")

    recipe = make_recipe({**LINEAR, "trials": 1, "mlruns": tmp_path})
    with pytest.raises(Interrupted, match="^$"):
        run_study(recipe, Stops())
    assert not (tmp_path / READS).exists()
    assert run_study(recipe).rows[-1].judged_on == "test"
    assert len((tmp_path / READS).read_text().splitlines()) == 1


@pytest.mark.parametrize("scheme", ["cv", pytest.param("nested", marks=pytest.mark.proof)])
def test_more_trials_go_on_and_are_judged_anew(tmp_path: Path, scheme: str) -> None:
    class Told(Progress):
        def say(self, line: str) -> None:
            said.append(line)

    keys, said = {**LINEAR, "scheme": scheme, "mlruns": tmp_path}, []
    for count in (1, 5):
        run_study(make_recipe({**keys, "trials": count}), Told())
        journal = Journal(tmp_path)
        final = journal.run(of_kind(journal, "final")[-1])
        for number, outer in enumerate(sorted(tmp_path.glob("journal/*.o?"))):
            best = journal.run(f"{outer.name}.t{int(journal.run(outer.name).read_tags()['best_trial']):03d}")
            chosen = json.loads((best.artifacts / "settings.json").read_text())
            members = final.folder / "models" / final.identity["name"] / "artifacts" / "servable" / "members"
            served = json.loads((members / str(number) / "config.json").read_text())
            assert served["settings"] == chosen, "the model served is the one chosen"
    searches = 3 if scheme == "nested" else 1
    assert len(of_kind(journal, "trial")) == 5 * searches
    assert [line for line in said if "going on" in line] == ["going on: 1 of 5 trials are finished"] * searches
    reads = (tmp_path / "test_reads.jsonl").read_text().splitlines()
    assert len(reads) == len(of_kind(journal, "final")), "another choice is another read"
    whole = tmp_path / "whole"
    run_study(make_recipe({**keys, "mlruns": whole, "trials": 5}))
    one, two = (Journal(each).run(of_kind(Journal(each), "final")[-1]) for each in (tmp_path, whole))
    tables = [Predictions.read(run.artifacts / "predictions_test.parquet").frame for run in (one, two)]
    pd.testing.assert_frame_equal(*tables)


def test_pure_noise_stays_at_chance_in_every_figure_of_the_final(tmp_path: Path) -> None:
    """Calibrated by their own fold's prevalence, pooled scores of noise would look like more than chance."""
    rng, aucs = np.random.default_rng(0), []
    for _ in range(60):
        patient = np.repeat(np.arange(60), 2)
        fold, label = patient % 5, (rng.random(60) < 0.25).astype(int)[patient]
        score = rng.random(120)
        frame = pd.DataFrame({"image": np.arange(120).astype(str), "patient": patient, "group": patient, "view": ""})
        frame = frame.assign(fold=fold, split="val", label=label, p_a=1 - score, p_b=score)
        parts = [Predictions(frame[fold == k].reset_index(drop=True)) for k in range(5)]
        if all(len(set(part.labels)) == 2 for part in parts):
            fits = [Fit(tmp_path, part, pd.DataFrame(), 0.0) for part in parts]
            held_out = make_predictor(None, fits).held_out
            aucs.append(auc(held_out.labels, held_out.scores))
    assert len(aucs) > 40
    assert np.mean(aucs) < 0.515


def test_a_holdout_threshold_does_not_come_from_the_rows_it_decides(tmp_path: Path) -> None:
    run_study(make_recipe({**KEYS, "truth": 0, "scheme": "holdout", "trials": 1, "mlruns": tmp_path}))
    journal = Journal(tmp_path)
    trial, final = (journal.run(of_kind(journal, kind)[0]).read_metrics() for kind in ("trial", "final"))
    for name in ("val_tpr", "val_fpr", "val_accuracy"):
        assert final[name] == pytest.approx(trial[name]), "calibration keeps the order, so the decisions are the same"


@pytest.mark.parametrize("moment", ["reference", "final"])
def test_stopped_anywhere_every_run_says_how_it_ended(tmp_path: Path, moment: str) -> None:
    class Stopping(Progress):
        def say(self, line: str) -> None:
            if line.startswith(moment if moment == "reference" else "truth"):
                self.stopping = True
                if moment == "final":
                    raise KeyboardInterrupt

    keys = {**KEYS, "trials": 1, "mlruns": tmp_path}
    with pytest.raises((Interrupted, KeyboardInterrupt)):
        run_study(make_recipe(keys), Stopping())
    journal = Journal(tmp_path)
    assert {str(journal.run(run_id).outcome) for run_id in journal.runs()} <= {"interrupted", "completed"}
    assert str(journal.run(of_kind(journal, "study")[0]).outcome) == "interrupted"
    run_study(make_recipe(keys))
    assert {str(journal.run(run_id).outcome) for run_id in journal.runs()} == {"completed"}
    assert len((tmp_path / "test_reads.jsonl").read_text().splitlines()) == 1


def test_a_torn_line_of_reads_is_survived(tmp_path: Path) -> None:
    keys = {**LINEAR, "trials": 1, "mlruns": tmp_path}
    run_study(make_recipe(keys))
    with (tmp_path / "test_reads.jsonl").open("a") as stream:
        stream.write('{"test": "torn')
    summary = run_study(make_recipe({**keys, "name": "second"}))
    assert "test split read 2 times, by 2 studies" in summary.lines


def test_weights_that_are_no_numbers_fail_the_trial_and_not_the_study(tmp_path: Path) -> None:
    recipe = make_recipe({**KEYS, "truth": 0, "trials": 2, "mlruns": tmp_path, "epochs": 1})
    wild = {**KEYS["set"], "learning_rate": 99.0, "optimizer": "sgd", "schedule": "constant"}
    with pytest.raises(SettingsError, match=r"none of 2 trials was completed \(nan\)"):
        run_study(recipe.model_copy(update={"set": wild}))
    journal = Journal(tmp_path)
    assert {journal.run(run_id).reason for run_id in of_kind(journal, "trial")} == {"nan"}


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("holdout", {"scheme": "holdout"}),
        ("nested", {"scheme": "nested", "trials": 1, "reserve": 0.25}),
        ("pareto", {"objective": "tpr,fpr", "reserve": 0.15, "set": {**KEYS["set"], "stopping": "inner"}}),
        ("pareto-holdout", {"objective": "tpr,fpr", "scheme": "holdout", "trials": 1}),
        ("patient", {"level": "patient", "objective": "val_pauc"}),
        ("leaky", {"group": "image", "classifier": "linear", "set": {}, "search": {}}),
    ],
)
def test_every_scheme_ends_in_a_final(tmp_path: Path, name: str, more: dict) -> None:
    summary = run_study(make_recipe({**KEYS, "truth": 0, "mlruns": tmp_path, "name": name, **more}))
    journal = Journal(tmp_path)
    kinds = [journal.run(run_id).identity["kind"] for run_id in journal.runs()]
    expected = {"final", "study", "trial"} | ({"reference"} if name != "leaky" else set())
    assert set(kinds) == expected
    assert kinds.count("study") == (4 if name == "nested" else 1)
    assert {str(journal.run(run_id).outcome) for run_id in journal.runs()} == {"completed"}
    assert summary.rows[-1].what == "final"
    final = journal.run(next(run_id for run_id in journal.runs() if ".final" in run_id))
    assert final.read_tags()["threshold_origin"] == ("reserve" if "reserve" in more else "carried")
    assert final.read_tags()["leaky"] == str(name == "leaky").lower()
    scored = Predictions.read(final.artifacts / "predictions.parquet").frame
    assert len(scored["fold"].unique()) == (1 if "holdout" in name else 3)
    if name == "nested":
        experts_meet_on_reserved_patients(tmp_path)


def experts_meet_on_reserved_patients(mlruns: Path) -> None:
    runs = Runs(mlruns)
    found = pool(runs.experts("nested"), "reserve")
    assert len(found.members) == 3
    trained = {group for each in found.members for group in each.predictions().frame["group"]}
    assert not trained & set(found.rows.frame["group"])
    ensemble = assemble(found, Wish("weighted", 3))
    final = runs.of_study("nested", (Kind.final,))[0]
    beside = {each.key: each for each in controls(ensemble, runs.of_study("nested", (Kind.reference,)))}
    assert beside.keys() == {"uniform", "single", "reference"}
    np.testing.assert_allclose(beside["uniform"].predictions.scores, final.predictions("reserve").scores)
    run, _ = record_ensemble(runs.journal, ensemble, list(beside.values()))
    kept = Runs(mlruns).get(run.run_id)
    assert kept.metrics["val_auc"] == pytest.approx(auc(ensemble.predictions.labels, ensemble.predictions.scores))


@pytest.mark.parametrize("error", [MemoryError(), MemoryError("of 3 GiB")])
def test_a_trial_out_of_memory_is_recorded_and_the_study_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: MemoryError
) -> None:
    real, hungry = base.fit, []

    def fit(task: object, **how: object) -> Fit:
        hungry.append(how)
        if len(hungry) == 1:
            raise error
        return real(task, **how)

    monkeypatch.setattr(base, "fit", fit)
    run_study(make_recipe({**LINEAR, "trials": 2, "mlruns": tmp_path}))
    journal = Journal(tmp_path)
    ends = [(str(journal.run(each).outcome), journal.run(each).reason) for each in of_kind(journal, "trial")]
    assert ends == [("failed", "oom"), ("completed", "")]
