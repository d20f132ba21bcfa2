"""Several machines on one study: real PostgreSQL, a real MLflow server on it, and processes in folders of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from postgres import postgres
from servers import Server

from mammo_lightning.recipe import make_recipe
from mammo_lightning.study import run_study
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.types import Predictions

ROOT = Path(__file__).parents[1]
TRIALS = 6
WORDS = "--dataset synthetic --patients 80 --folds 3 --epochs 4 --no-prune --set init=4 --search depth=1,2 --workers 1"


def machine(folder: Path, storage: str, uri: str, name: str = "") -> subprocess.Popen[str]:
    """The same command, in a working directory of its own, and where `name` is given under a host name of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["unshare", "-Uru", "sh", "-c", 'hostname $0; exec "$@"', name] if name else []
    command += [sys.executable, "-m", "experiments.tune", *WORDS.split(), "--name", "shared", "--trials", str(TRIALS)]
    command += ["--storage", storage, "--tracking-uri", uri]
    with (folder / "output").open("a") as output:
        return subprocess.Popen(
            command, cwd=folder, text=True, stdout=output, stderr=output, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )


def fits(folder: Path) -> int:
    return len(list(folder.glob("mlruns/journal/*.t*/folds/*/fit.json")))


@pytest.fixture
def databases() -> Iterator[tuple[str, str]]:
    with postgres() as database:
        yield database("searches"), database("tracking")


def output(folder: Path) -> str:
    return (folder / "output").read_text()[-3000:]


def counted(client: MlflowClient, searches: str) -> None:
    """As many trials as were asked for, one of everything else, and nothing that still runs."""
    places = client.search_experiments()
    runs = client.search_runs([each.experiment_id for each in places])
    kinds = pd.Series([run.data.tags["kind"] for run in runs]).value_counts().to_dict()
    assert kinds == {"trial": TRIALS, "study": 1, "reference": 1, "final": 1}
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert sorted(int(run.data.tags["trial"]) for run in runs if "trial" in run.data.tags) == list(range(TRIALS))
    parent = next(run.info.run_id for run in runs if run.data.tags["kind"] == "study")
    assert {run.data.tags.get("mlflow.parentRunId") for run in runs} == {parent, None}
    (name,) = [each for each in optuna.get_all_study_names(searches) if each.startswith("shared")]
    found = optuna.load_study(study_name=name, storage=searches).trials
    assert [trial.number for trial in found] == list(range(TRIALS))
    assert {trial.state for trial in found} == {optuna.trial.TrialState.COMPLETE}


def combined(folder: Path, storage: str, uri: str) -> None:
    """A machine that trained nothing makes an ensemble of what all others trained, with their weights."""
    folder.mkdir()
    command = [sys.executable, "-m", "experiments.ensemble", "shared", "--members", str(TRIALS)]
    command += ["--storage", storage, "--tracking-uri", uri]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        command, cwd=folder, text=True, capture_output=True, timeout=400, env=environment, check=False
    )
    assert ended.returncode == 0, ended.stderr
    (made,) = Journal(folder / "mlruns").runs()
    run = Journal(folder / "mlruns").run(made)
    assert len(json.loads((run.artifacts / "manifest.json").read_text())["members"]) == TRIALS
    assert list(run.folder.glob("models/*/MLmodel"))
    assert "training it again" not in ended.stdout


@pytest.mark.proof
@pytest.mark.timeout(1800)
def test_a_laptop_that_sleeps_loses_its_place_and_wakes_to_find_it_so(
    databases: tuple[str, str], tmp_path: Path
) -> None:
    searches, tracking = databases
    server = Server(tmp_path / "server", backend=tracking)
    server.start()
    laptop, desk = tmp_path / "laptop", tmp_path / "desk"
    started = []
    try:
        started.append(sleeper := machine(laptop, searches, server.uri, "laptop"))
        deadline = time.monotonic() + 300
        while not fits(laptop):  # it leads, and has begun a trial
            assert time.monotonic() < deadline, output(laptop)
            time.sleep(0.2)
        sleeper.send_signal(signal.SIGSTOP)
        started.append(other := machine(desk, searches, server.uri, "desk"))
        assert other.wait(500) == 0, output(desk)
        sleeper.send_signal(signal.SIGCONT)
        sleeper.wait(200)
        told = output(laptop)
        assert "Traceback" not in told
        assert "not wholly" not in output(desk)
        counted(MlflowClient(server.uri), searches)
        started.append(again := machine(laptop, searches, server.uri, "laptop"))
        assert again.wait(200) == 0, output(laptop)
        counted(MlflowClient(server.uri), searches)
    finally:
        for each in started:
            each.kill()
        server.kill()
    tables = [text[text.rindex("study shared ·") :] for text in (output(laptop), output(desk))]
    assert tables[0] == tables[1]


@pytest.mark.proof
@pytest.mark.timeout(1800)
def test_three_machines_one_of_which_dies(databases: tuple[str, str], tmp_path: Path) -> None:
    searches, tracking = databases
    server = Server(tmp_path / "server", backend=tracking)
    server.start()
    names = ("a", "b", "c")
    try:
        machines = {name: machine(tmp_path / name, searches, server.uri) for name in names}
        deadline = time.monotonic() + 400
        while not all(fits(tmp_path / name) for name in names):
            assert time.monotonic() < deadline, [(tmp_path / name / "output").read_text()[-800:] for name in names]
            time.sleep(0.2)
        lead = next(name for name in names if list((tmp_path / name).glob("mlruns/journal/*.reference-*")))
        machines[lead].send_signal(signal.SIGKILL)  # it dies for good, in the middle of a trial
        machines[lead].wait()
        for name in set(names) - {lead}:
            assert machines[name].wait(500) == 0, (tmp_path / name / "output").read_text()[-3000:]
        client = MlflowClient(server.uri)
        counted(client, searches)
        assert {each.name for each in client.search_experiments()} == {"Default", "synthetic"}
        combined(tmp_path / "fourth", searches, server.uri)
        (name,) = [each for each in optuna.get_all_study_names(searches) if each.startswith("shared")]
        found = optuna.load_study(study_name=name, storage=searches).trials
    finally:
        for each in machines.values():
            each.kill()
        server.kill()
    finals = [path for each in names for path in (tmp_path / each).glob("mlruns/journal/*.final-*/artifacts")]
    assert len(finals) == 1, "it is made once, by the lead that was elected last"
    said = [(tmp_path / each / "output").read_text() for each in set(names) - {lead}]
    tables = [text[text.index("study shared") :] for text in said]
    assert tables[0] == tables[1], "every machine shows what the study ended in, and where"

    whole = tmp_path / "whole"  # the best trial's fold models, some of them from a machine that is gone
    slot = int(finals[0].parent.name.rpartition("-t")[2])
    keys = {"name": "whole", "dataset": "synthetic", "patients": 80, "folds": 3, "epochs": 4, "prune": False}
    keys |= {"set": {"init": 4, "depth": found[slot].params["depth"]}, "trials": slot + 1, "workers": 1}
    run_study(make_recipe({**keys, "mlruns": whole}))
    (alone,) = whole.glob(f"journal/*.t{slot:03d}/artifacts/predictions.parquet")
    tried = [path for each in names for path in (tmp_path / each).glob(f"mlruns/journal/*.t{slot:03d}/artifacts")]
    (trial, *_) = [path for path in tried if (path / "predictions.parquet").exists()]
    one, two = (Predictions.read(path).frame for path in (alone, trial / "predictions.parquet"))
    pd.testing.assert_frame_equal(one, two, check_exact=False, atol=1e-6)
