"""Kill anything at any moment and give the same command again: nothing is lost, nothing stands twice."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chaos import ROOT, Chaos, check_counts
from servers import Server

from mammo_lightning.recipe import make_recipe
from mammo_lightning.study import run_study
from mammo_lightning.tracking.journal import Journal

KEYS = {
    "name": "chaos",
    "dataset": "synthetic",
    "patients": 80,
    "folds": 3,
    "set": {"init": 4, "batch_size": 16},
    "search": {"depth": "1,2"},
}


def command(mlruns: Path, *more: str) -> list[str]:
    words = "--dataset synthetic --patients 80 --folds 3 --set init=4 --set batch_size=16 --search depth=1,2"
    python = [sys.executable, "-m", "experiments.tune", *words.split(), "--name", "chaos", "--workers", "2"]
    return [*python, "--mlruns", str(mlruns), *more]


def tables(mlruns: Path) -> dict[str, tuple[str, pd.DataFrame]]:
    """Settings and predictions of completed trials, by slot."""
    journal, found = Journal(mlruns), {}
    for run_id in journal.runs():
        path = journal.run(run_id).artifacts / "predictions.parquet"
        if ".t" in run_id and path.exists():
            settings = (path.parent / "settings.json").read_text()
            found[run_id.rpartition(".")[2]] = settings, pd.read_parquet(path)
    return found


def check_results(mlruns: Path, whole: Path) -> None:
    """A trial that was killed, however often, is the trial that was not."""
    broken, unbroken = tables(mlruns), tables(whole)
    same = [slot for slot in broken if slot in unbroken and broken[slot][0] == unbroken[slot][0]]
    assert "t000" in same
    for slot in same:
        one, two = broken[slot][1], unbroken[slot][1]
        pd.testing.assert_frame_equal(one, two, check_exact=False, atol=1e-6)


@pytest.mark.proof
@pytest.mark.timeout(3000)
def test_a_study_of_twelve_trials_survives_twenty_kills_and_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(tmp_path / "server")
    server.start()
    mlruns = tmp_path / "mlruns"
    epochs, trials = 4, 12
    more = ["--trials", str(trials), "--epochs", str(epochs), "--tracking-uri", server.uri]
    try:
        chaos = Chaos(command(mlruns, *more), mlruns, seed=1, kills=27, server=server)
        chaos.run(seconds=900)
        server.kill()
        server.start()
        sync = [sys.executable, "-m", "experiments.sync", "--mlruns", str(mlruns), "--tracking-uri", server.uri]
        Chaos(sync, mlruns, seed=0, kills=0, server=None).run(seconds=120)
    finally:
        server.kill()
    print(f"killed: {dict(chaos.killed)}")
    assert sum(chaos.killed.values()) >= 20
    assert min(chaos.killed[each] for each in ("worker", "parent", "server")) >= 5
    check_counts(mlruns, server.database, "chaos", trials)
    whole = tmp_path / "whole"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as many as each of two workers had: rounding differs with threads
    run_study(make_recipe({**KEYS, "trials": 4, "epochs": epochs, "workers": 1, "mlruns": whole}))
    check_results(mlruns, whole)


def test_a_small_study_survives_kills(tmp_path: Path) -> None:
    mlruns, trials = tmp_path / "mlruns", 3
    chaos = Chaos(command(mlruns, "--trials", str(trials), "--epochs", "3"), mlruns, seed=4, kills=2, server=None)
    chaos.run(seconds=400)
    assert chaos.killed["worker"] >= 1
    assert chaos.killed["parent"] >= 1
    check_counts(mlruns, mlruns / "mlflow.db", "chaos", trials)
    assert np.all([len(table) > 0 for _, table in tables(mlruns).values()])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few megabytes that can be made larger."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)], check=False).returncode == 0
    )
    if not mounted:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.proof
def test_a_full_disk_is_said_and_once_there_is_room_the_study_goes_on(small_disk: Path) -> None:
    mlruns = small_disk / "mlruns"
    words = command(mlruns, "--trials", "4", "--epochs", "2")
    full = subprocess.run(words, cwd=ROOT, text=True, capture_output=True, timeout=300, check=False)
    assert full.returncode == 2, full.stderr
    (line,) = [line for line in full.stderr.splitlines() if line.startswith("error: ")]
    assert "disk" in line
    assert "Traceback" not in full.stderr
    before = {path: path.read_bytes() for path in mlruns.glob("journal/*/events.jsonl")}
    subprocess.run(["mount", "-o", "remount,size=500m", str(small_disk)], check=True)
    again = subprocess.run(words, cwd=ROOT, text=True, capture_output=True, timeout=500, check=False)
    assert again.returncode == 0, again.stderr
    for path, events in before.items():
        assert path.read_bytes().startswith(events), "what was journaled before still is"
    check_counts(mlruns, mlruns / "mlflow.db", "chaos", 4)
