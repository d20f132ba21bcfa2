"""The verb `predict`: a tiny real study's model on files, by run and by its name in the registry."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fakes import write_folder

from experiments import cli, evaluate, predict
from mammo_lightning.recipe import make_recipe
from mammo_lightning.runs import Runs
from mammo_lightning.scoring.loading import find_servable
from mammo_lightning.study import run_study
from mammo_lightning.tracking.publish import default_uri
from mammo_lightning.tracking.registry import ModelRegistry
from mammo_lightning.types import Kind

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a study stands whose images lie beside it."""
    place = tmp_path_factory.mktemp("predict")
    options = write_folder(place / "data", patients=32)
    keys = {"dataset": "folder", "classifier": "linear", "trials": 1, "folds": 2, "test": 0.25, "workers": 1}
    run_study(make_recipe({**options, **keys, "name": "tiny", "mlruns": place / "mlruns"}))
    return place


@pytest.fixture(scope="module")
def registered(study: Path) -> Path:
    """The same, with the final as version 1 of `tiny-model`, called champion."""
    runs = Runs(study / "mlruns")
    registry = ModelRegistry(runs.journal, default_uri(study / "mlruns"), study / "mlruns")
    (final,) = runs.of_study("tiny", (Kind.final,))
    version, _ = registry.register(final.run, "tiny-model", tags={})
    registry.point(version, "champion")
    return study


@pytest.fixture
def call(monkeypatch, capfd) -> Callable[..., tuple[object, str, str]]:
    def run(verb, *words: object) -> tuple[object, str, str]:
        monkeypatch.setattr("sys.argv", ["verb", *map(str, words)])
        with pytest.raises(SystemExit, match=r"\d") as end:  # every code is looked at
            cli.run(verb.app)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the verb's process would have ended
        said = capfd.readouterr()
        return end.value.code, said.out, said.err

    return run


def test_scores_are_those_of_the_run_and_of_the_served_model(study, tmp_path, call):
    mlruns = study / "mlruns"
    out = tmp_path / "scores.csv"
    code, said, _ = call(predict, "tiny", study / "data", "--out", out, "--mlruns", mlruns)
    assert code == 0
    assert "96 images scored by tiny final" in said
    (final,) = Runs(mlruns).of_study("tiny", (Kind.final,))
    test = final.predictions("test").frame.set_index("image")
    scores = pd.read_csv(out).set_index("path")
    assert len(test) >= 12
    np.testing.assert_allclose(scores.loc[test.index, "p_malignant"], test["p_malignant"], atol=1e-6)

    import mlflow

    from mammo_lightning.preprocessing.images import read_image

    model = mlflow.pyfunc.load_model(str(next((final.run.folder / "models").glob("*/MLmodel")).parent))
    table = model.predict(np.stack([read_image(study / "data" / name)[None] for name in scores.index]))
    np.testing.assert_allclose(scores["p_malignant"], table["p_malignant"], atol=1e-6)
    assert f"{int(table['positive'].sum())} of 96 reach" in said
    again = call(predict, "tiny", study / "data", "--out", out, "--mlruns", mlruns)[1]
    assert again.startswith("0 images scored by tiny final")
    assert "96 were there already" in again


def test_what_was_trained_on_travels_with_the_model(study):
    servable, about = find_servable("tiny", study / "mlruns")
    (final,) = Runs(study / "mlruns").of_study("tiny", (Kind.final,))
    assert len(servable.trained_on) == 96 - len(final.predictions("test"))
    assert about["run"] == final.run_id
    assert servable.about.points == {level: point.threshold for level, point in final.points.items()}


def test_a_registered_model_gives_the_same_scores(registered, tmp_path, call):
    mlruns = registered / "mlruns"
    tables = []
    for number, word in enumerate(("tiny", "tiny-model@champion", "tiny-model/1")):
        out = tmp_path / f"{number}.csv"
        assert call(predict, word, registered / "data", "--out", out, "--mlruns", mlruns)[0] == 0
        tables.append(out.read_bytes())
    assert tables[0] == tables[1] == tables[2]
    # by another name it is the same model: its rows are kept
    said = call(predict, "tiny-model/1", registered / "data", "--out", tmp_path / "0.csv", "--mlruns", mlruns)[1]
    assert "96 were there already" in said


def test_bad_input_is_one_line(registered, tmp_path, call):
    mlruns, data = registered / "mlruns", registered / "data"
    trial = Runs(mlruns).get("tiny/t000").run
    (reference,) = Runs(mlruns).of_study("tiny", (Kind.reference,)) or [None]
    cases = {
        ("none", data): "error: no run 'none' in",
        ("tiny-model@other", data): "error: no version of 'tiny-model' has the alias 'other'; known: champion",
        ("tiny-model/7", data): "error: model 'tiny-model' has no version 7; known: 1",
        ("nobody/1", data): "error: no registered model 'nobody'",
        ("a b@champion", data): "error: 'a b' is no model name",
        ("tiny", data / "none"): "error: no such file or folder",
        ("tiny", tmp_path): "error: no image under",
    }
    if reference is not None:
        cases[reference.run_id, data] = "error: run 'tiny-"
    for (model, images), expected in cases.items():
        code, out, said = call(predict, model, images, "--out", tmp_path / "s.csv", "--mlruns", mlruns)
        assert (code, out, said.count("\n")) == (2, "", 1), said
        assert said.startswith(expected), said
    assert not (tmp_path / "s.csv").exists()
    none = f"sqlite:///{tmp_path / 'none.db'}"
    words = ["tiny-model@champion", data, "--out", tmp_path / "s.csv", "--mlruns", mlruns, "--tracking-uri", none]
    code, out, said = call(predict, *words)
    assert (code, out, said.count("\n")) == (2, "", 1), said
    assert said.startswith(f"error: --tracking-uri '{none}': there is no database")
    assert not (tmp_path / "none.db").exists()
    path = next((trial.folder / "models").rglob("servable.json"))
    kept = path.read_bytes()
    path.write_bytes(kept.replace(b"0.", b"1."))
    code, _, said = call(predict, trial.run_id, data, "--out", tmp_path / "s.csv", "--mlruns", mlruns)
    assert (code, "is not what run" in said) == (2, True)
    path.write_bytes(kept)


@pytest.mark.parametrize("name", ["x[/b].csv", "out[old]/s.csv", ":warning:.csv", "[bold].csv"])
def test_a_name_is_printed_as_it_is(study, tmp_path, call, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (first, *_) = sorted((study / "data").rglob("*.png"))
    code, said, err = call(predict, "tiny", first, "--out", name, "--mlruns", study / "mlruns")
    assert (code, err) == (0, "")
    assert said.splitlines()[-1].endswith(f"'malignant': {name}")
    assert (tmp_path / name).is_file()


def test_no_registry_is_said_and_none_is_made(tmp_path, call):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.png").touch()
    for mlruns, expected in ((tmp_path / "empty", "no registered model in"), (tmp_path / "none", "no folder")):
        code, _, said = call(predict, "a@b", tmp_path, "--mlruns", mlruns)
        assert (code, said.count("\n")) == (2, 1)
        assert expected in said
    assert not list((tmp_path / "empty").iterdir())


def test_a_signal_leaves_a_whole_csv_and_the_same_command_goes_on(study, tmp_path, call):
    place = tmp_path / "many"
    place.mkdir()
    (first, *_) = sorted((study / "data").rglob("*.png"))
    for number in range(2000):
        os.link(first, place / f"{number:05d}.png")
    words = ["tiny", place, "--out", tmp_path / "s.csv", "--mlruns", study / "mlruns"]
    command = [sys.executable, "-c", SLOW, *map(str, words)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (130, "interrupted; the same command continues\n")
    kept = len(pd.read_csv(tmp_path / "s.csv"))
    assert 0 < kept < 2000
    code, out, _ = call(predict, *words)
    assert code == 0
    assert f"{2000 - kept:,} images scored" in out
    assert len(pd.read_csv(tmp_path / "s.csv")) == 2000


#: the verb, slowed down, that says when what it scored first is kept
SLOW = """
import time
from experiments import cli, predict
from mammo_lightning.tracking.servable import Servable
once, calls = Servable.__call__, []
def slow(self, images):
    calls.append(len(images))
    if len(calls) == 2:
        print("begun", flush=True)
    time.sleep(0.05)
    return once(self, images)
Servable.__call__ = slow
cli.run(predict.app)
"""


def test_the_model_is_judged_on_other_images(registered, tmp_path, call):
    mlruns = registered / "mlruns"
    options = write_folder(tmp_path / "other", patients=24, seed=5)
    words = ["--dataset", "folder", "--root", options["root"], "--patient-from", options["patient_from"]]
    code, said, _ = call(evaluate, "tiny-model@champion", *words, "--mlruns", mlruns)
    assert code == 0
    assert "external folder by tiny-model version 1" in said
    assert "36+/36- · 24 patients" in said
    (name,) = [each for each in Runs(mlruns).journal.runs() if each.startswith("external-")]
    scored = Runs(mlruns).get(name)
    servable, _ = find_servable("tiny", mlruns)
    assert scored.points["patch"].threshold == servable.threshold
    own = ["--dataset", "folder", "--root", registered / "data", "--patient-from", options["patient_from"]]
    code, _, said = call(evaluate, "tiny", *own, "--mlruns", mlruns)
    assert (code, said.count("\n")) == (2, 1)
    assert said.startswith("error: the model was trained on these images: dataset 'folder' is that of run 'tiny-")


@pytest.mark.proof
def test_mlflow_serves_an_ensemble_over_http(tmp_path):
    import json
    from urllib.request import Request, urlopen

    from served_models import PLATTS, fit_folder, images, save_model
    from servers import free_port

    from mammo_lightning.tracking.serving import Member, load_servable

    names = ("none", "gcn", "background")
    members = [
        Member(name, [fit_folder(tmp_path / name, seed, name)], [PLATTS[seed]]) for seed, name in enumerate(names)
    ]
    stacked = {"rule": "stacking", "weights": [0.7, 0.5, -0.2], "intercept": 0.1}
    folder = save_model(tmp_path / "model", tmp_path, members=members, combiner=stacked)
    port = free_port()
    words = ["models", "serve", "-m", str(folder), "-h", "127.0.0.1", "-p", str(port), "--env-manager", "local"]
    environment = {**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "PYTHONPATH": str(ROOT)}
    # the verb starts uvicorn by its name
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *words], env=environment, cwd=tmp_path, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            assert process.poll() is None
            try:
                with urlopen(f"http://127.0.0.1:{port}/ping", timeout=5):
                    break
            except OSError:
                time.sleep(0.5)
        pixels = images(7)
        for count in (1, 7):
            body = json.dumps({"inputs": pixels[:count].tolist()}).encode()
            post = Request(f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"})
            with urlopen(post, timeout=60) as answer:
                rows = json.loads(answer.read())["predictions"]
            assert list(rows[0]) == ["p_benign", "p_malignant", "positive"]
            np.testing.assert_allclose(
                [row["p_malignant"] for row in rows], load_servable(folder)(pixels[:count]), atol=1e-6
            )
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
