"""Losers' models go; what is named anywhere, and everything that is no model, stays."""

import json
import shutil
import sys

import pytest
from tracking.conftest import empty_database, mlruns  # noqa: F401 # fixtures
from tracking.story import begin

from experiments import cli
from experiments.gc import app
from mammo_lightning.clearing import named, plan, registered
from mammo_lightning.errors import TrackingError
from mammo_lightning.retention import models
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.tracking.publish import Publisher
from mammo_lightning.tracking.store import Store, default_uri

SIZE = 10_000


def fit(folder, letter):
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(letter.encode() * SIZE)
    (folder / "predictions.parquet").write_text("a table")


def trial(journal, slot, objective, outcome="completed", study="demo-1"):
    run = begin(journal.run(f"{study}.t{slot:03d}"), "trial", f"t{slot:03d}", parent=study, trial=str(slot))
    fit(run.folder / "folds" / "f0", chr(65 + slot))
    run.artifact(run.folder / "folds" / "f0" / "model.safetensors", "models/f0/model.safetensors")
    run.write("predictions.parquet", b"a table")
    run.write("figures/roc.png", b"a figure")
    if objective is not None:
        run.metrics({"objective": objective})
    run.end(outcome)
    return run


def make_study(journal, name="demo-1", trials=6):
    """Trials that get better with their slot but for a pruned one at the end, a final of t001, a reference of t001."""
    study = begin(journal.run(name), "study", "demo")
    runs = [trial(journal, slot, 0.5 + slot / 100, study=name) for slot in range(trials)]
    runs.append(trial(journal, trials, None, "pruned", name))
    for slot in range(3):
        fit(study.folder / "reference" / f"t{slot:03d}" / "f0", "r")
    begin(journal.run(f"{name}.reference-t001"), "reference", "reference linear", parent=name).end("completed")
    begin(journal.run(f"{name}.final-t001"), "final", "final-t001", parent=name, chosen="t001").end("completed")
    study.end("completed")
    return study, runs


def ids(runs):
    return [run.run_id.rpartition(".")[2] for run in runs]


def weights(run):
    return (run.folder / "folds" / "f0" / "model.safetensors").exists()


def test_losers_and_pruned_trials_are_spared_no_model_but_what_is_named_is(tmp_path):
    journal = Journal(tmp_path)
    study, _ = make_study(journal)
    ensemble = begin(journal.run("both"), "ensemble", "both")
    ensemble.write("manifest.json", json.dumps({"members": [{"run": "demo-1.t002"}, {"run": "demo-1.t005"}]}))
    (found,) = plan(journal, 2, named(journal))
    assert ids(found.losing) == ["t000", "t003", "t006"]
    assert found.protected == {
        "demo-1.t001": "in final demo-1.final-t001",
        "demo-1.t002": "in ensemble both",
    }
    assert [path.relative_to(study.folder).as_posix() for path in found.fits] == [
        f"reference/{name}/f0/model.safetensors" for name in ("t000", "t002")
    ]
    assert found.size == 5 * SIZE
    assert found.carry_out() == 5 * SIZE
    assert plan(journal, 2, named(journal))[0].size == 0


def test_a_study_that_runs_is_left_alone(tmp_path):
    journal = Journal(tmp_path)
    study, runs = make_study(journal)
    (found,) = plan(journal, 1, {})
    begin(study, "study", "demo")
    assert plan(journal, 1, {}) == []
    assert found.carry_out() == 0, "it was taken up again after it was looked at"
    assert all(weights(run) for run in runs)


def test_a_trial_without_an_objective_or_without_an_end_stays(tmp_path):
    journal = Journal(tmp_path)
    study = begin(journal.run("demo-1"), "study", "demo")
    trial(journal, 0, 0.9)
    trial(journal, 1, None)
    trial(journal, 2, 0.5, "interrupted")
    study.end("completed")
    assert plan(journal, 1, {})[0].losing == []


def test_a_pair_of_objectives_is_ranked_by_both(tmp_path):
    journal = Journal(tmp_path)
    study = begin(journal.run("demo-1"), "study", "demo")
    for slot, (tpr, fpr) in enumerate([(0.99, 0.6), (0.7, 0.1), (0.8, 0.15)]):
        trial(journal, slot, tpr).metrics({"objective_fpr": fpr})
    study.end("completed")
    assert ids(plan(journal, 1, {})[0].losing) == ["t000", "t001"]


def test_nested_references_keep_what_their_outer_fold_was_scored_with(tmp_path):
    journal = Journal(tmp_path)
    study = begin(journal.run("demo-1"), "study", "demo")
    for outer in range(2):
        for slot in range(2):
            fit(study.folder / "reference" / f"o{outer}" / f"t{slot:03d}" / "f0", "r")
        fit(study.folder / "reference" / f"o{outer}" / "outer" / f"t{outer:03d}", "r")
    study.end("completed")
    spare = [path.relative_to(study.folder / "reference").as_posix() for path in plan(journal, 1, {})[0].fits]
    assert spare == ["o0/t001/f0/model.safetensors", "o1/t000/f0/model.safetensors"]


def test_an_ensemble_that_does_not_say_its_members_stops_everything(tmp_path):
    journal = Journal(tmp_path)
    ensemble = begin(journal.run("both"), "ensemble", "both")
    with pytest.raises(TrackingError, match="does not say which runs ensemble both is made of"):
        named(journal)
    ensemble.write("manifest.json", json.dumps({"members": ["t001"]}))
    with pytest.raises(TrackingError, match="TypeError"):
        named(journal)
    (ensemble.artifacts / "manifest.json").unlink()
    ensemble.end("failed")
    assert named(journal) == {"both": "an ensemble"}


@pytest.fixture
def published(mlruns, monkeypatch):  # noqa: F811
    """A study in journal and MLflow; t002 registered by its run, t003 by its logged model."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", default_uri(mlruns))  # where the registry looks for a logged model
    journal = Journal(mlruns)
    _, runs = make_study(journal)
    Publisher(journal, default_uri(mlruns), mlruns).publish_all()
    client = Store(default_uri(mlruns), mlruns).client
    experiment, _ = Store(default_uri(mlruns), mlruns).experiment("synthetic")
    by_run = client.search_runs([experiment], "tags.journal = 'demo-1.t002'")[0]
    client.create_registered_model("reader")
    client.create_model_version("reader", by_run.info.artifact_uri, run_id=by_run.info.run_id)
    model = client.create_logged_model(experiment, name="t003", tags={"journal": "demo-1.t003/t003/abc"})
    client.finalize_logged_model(model.model_id, "READY")
    client.create_model_version("reader", f"models:/{model.model_id}", model_id=model.model_id)
    client.set_registered_model_alias("reader", "champion", "2")
    return mlruns, runs


def run_gc(capsys, *words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["gc", *map(str, words)])
        with pytest.raises(SystemExit, match=r"\d") as end:
            cli.run(app)
    said = capsys.readouterr()
    return end.value.code, said.out, said.err


def test_the_verb_frees_what_no_store_names(published, capsys):
    folder, runs = published
    assert registered(folder, [default_uri(folder)]) == {
        "demo-1.t002": "registered as reader version 1",
        "demo-1.t003": "registered as reader version 2",
    }
    copies = sorted(path for path in (folder / "artifacts").rglob("model.safetensors"))
    assert len(copies) == 7
    files = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    code, dry, _ = run_gc(capsys, "--mlruns", folder, "--keep-best", 1, "--dry-run")
    assert code == 0
    assert {path: path.stat().st_size for path in files} == files
    code, said, _ = run_gc(capsys, "--mlruns", folder, "--keep-best", 1)
    assert code == 0
    assert said == dry.replace("would be freed", "freed")
    assert said.splitlines() == [
        "study demo-1: models of 3 of 7 trials and 2 reference fits: 50 kB freed",
        "  demo-1.t001 stays: in final demo-1.final-t001",
        "  demo-1.t002 stays: registered as reader version 1",
        "  demo-1.t003 stays: registered as reader version 2",
        "in all: 50 kB freed",
    ]
    assert ids(run for run in runs if weights(run)) == ["t001", "t002", "t003", "t005"]
    assert all((run.artifacts / "predictions.parquet").exists() for run in runs)
    assert all((run.artifacts / "figures" / "roc.png").exists() for run in runs)
    assert len(list((folder / "artifacts").rglob("model.safetensors"))) == 4, "the store's copies went, too"
    assert len(list((folder / "artifacts").rglob("roc.png"))) == 7


def test_a_store_that_cannot_be_asked_keeps_everything(tmp_path, capsys):
    _, runs = make_study(Journal(tmp_path))
    code, said, error = run_gc(capsys, "--mlruns", tmp_path, "--keep-best", 1)
    assert (code, said) == (2, "")
    assert "cannot be asked which models are registered (no 'mlflow.db'), so nothing is freed" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "mlflow.db").exists()
    code, _, error = run_gc(capsys, "--mlruns", tmp_path, "--tracking-uri", "http://127.0.0.1:9")
    assert code == 2
    assert "http://127.0.0.1:9 cannot be asked" in error
    assert all(weights(run) for run in runs)


def test_every_store_that_was_published_to_is_asked(published, capsys):
    folder, runs = published
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(folder / "mlflow.db", elsewhere)
    code, _, error = run_gc(capsys, "--mlruns", folder, "--tracking-uri", default_uri(elsewhere))
    assert code == 2
    assert "also published to 1 other tracking store" in error
    assert all(weights(run) for run in runs)


def test_without_a_journal_it_says_what_to_do(tmp_path, capsys):
    code, _, error = run_gc(capsys, "--mlruns", tmp_path)
    assert code == 2
    assert error.startswith("error: no journal in")


def test_only_images_that_no_run_saw_are_freed_and_only_if_asked(mlruns, capsys):  # noqa: F811
    from mammo_lightning.datamodules.synthetic import Synthetic

    seen, unseen = (Synthetic(mlruns=mlruns, patients=patients) for patients in (20, 24))
    for data in (seen, unseen):
        data.prepare_data()
    run = begin(Journal(mlruns).run("demo-1"), "study", "demo")
    run.dataset("synthetic", seen.digest, "synthetic")
    code, said, _ = run_gc(capsys, "--mlruns", mlruns)
    assert said == "in all: 0 B freed\n", "a run that has predicted nothing yet may stand on either"
    frame = seen.frame[["image"]].assign(**{f"p_{name}": 0.5 for name in seen.classes})
    run.write("predictions.parquet", frame.to_parquet())
    before = sorted(path.name for path in (mlruns / "cache").iterdir() if path.is_dir())
    code, said, _ = run_gc(capsys, "--mlruns", mlruns)
    assert code == 0
    (line,) = [line for line in said.splitlines() if line.startswith("image cache")]
    assert line.endswith("that no run has seen; --caches frees it")
    assert sorted(path.name for path in (mlruns / "cache").iterdir() if path.is_dir()) == before
    run_gc(capsys, "--mlruns", mlruns, "--caches")
    (left,) = [path.name for path in (mlruns / "cache").iterdir() if path.is_dir()]
    assert left in before
    assert left not in line
    again = Synthetic(mlruns=mlruns, patients=20)
    again.prepare_data()
    assert again.digest == seen.digest
    assert models(run) == []


def test_copies_of_other_machines_runs_are_freed_only_if_asked(mlruns, capsys):  # noqa: F811
    make_study(Journal(mlruns))
    copy = mlruns / "borrowed" / "other-1.t001"
    shutil.copytree(mlruns / "journal" / "demo-1.t001", copy)
    told = "other machines' runs: 1 fetched, 21 kB"
    assert told in run_gc(capsys, "--mlruns", mlruns)[1]
    assert copy.exists()
    assert f"{told} would be freed" in run_gc(capsys, "--mlruns", mlruns, "--caches", "--dry-run")[1]
    assert copy.exists()
    assert f"{told} freed" in run_gc(capsys, "--mlruns", mlruns, "--caches")[1]
    assert not copy.exists()
    assert (mlruns / "journal" / "demo-1.t001").exists()
