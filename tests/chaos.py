"""A study that is killed again and again: what is killed and when follows from a seed."""

import os
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from pathlib import Path

import numpy as np
import optuna
import psutil
from servers import Server

ROOT = Path(__file__).parents[1]


class Chaos:
    """Runs one command until it succeeds, killing what belongs to it on the way.

    A kill falls due when some more fits are finished than at the last one, and then a random moment later, so that the
    study gets on; every third falls at a random moment after the start of the command, whatever it is doing then.
    """

    def __init__(self, command: list[str], mlruns: Path, *, seed: int, kills: int, server: Server | None) -> None:
        self.command, self.mlruns, self.server = command, mlruns, server
        self.rng = np.random.default_rng(seed)
        targets = ["worker", "parent", *(["server"] if server else [])]
        self.plan = [targets[number % len(targets)] for number in range(kills)]
        self.rng.shuffle(self.plan)
        self.killed: Counter[str] = Counter()
        self.output = mlruns.parent / "output"

    def fits(self) -> int:
        return len(list(self.mlruns.glob("journal/*.t*/folds/*/fit.json")))

    def start(self) -> subprocess.Popen[bytes]:
        with self.output.open("ab") as output:
            return subprocess.Popen(self.command, cwd=ROOT, stdout=output, stderr=output)

    def run(self, seconds: float) -> None:
        """Until the command ends by itself with all kills done."""
        deadline, process, begun = time.monotonic() + seconds, self.start(), time.monotonic()
        for number, target in enumerate(self.plan):
            known, delay, early = self.fits(), self.rng.uniform(0, 1.5), number % 3 == 2
            moment = begun + self.rng.uniform(2, 20)
            while time.monotonic() < moment if early else self.fits() <= known:
                if process.poll() is not None:
                    break  # with some kills left: what is left is tried on a study that is done
                assert time.monotonic() < deadline, self.output.read_text()[-3000:]
                time.sleep(0.05)
            time.sleep(delay)
            process, begun = self.kill(target, process, begun)
        while process.poll() is None:
            assert time.monotonic() < deadline, self.output.read_text()[-3000:]
            time.sleep(0.2)
        assert process.returncode == 0, self.output.read_text()[-3000:]

    def kill(
        self, target: str, process: subprocess.Popen[bytes], begun: float
    ) -> tuple[subprocess.Popen[bytes], float]:
        if process.poll() is not None:
            assert process.returncode == 0, self.output.read_text()[-3000:]
            return process, begun
        if target == "server":
            self.server.kill()
            self.server.start(wait=False)
        elif target == "worker":
            below = workers(process.pid)
            if not below:
                return process, begun  # none has started yet
            os.kill(below[int(self.rng.integers(len(below)))].pid, signal.SIGKILL)
        else:
            below = workers(process.pid)
            process.kill()
            process.wait()
            psutil.wait_procs(below, timeout=20)
            assert not [each for each in below if each.is_running()], "a worker outlived its parent"
            process, begun = self.start(), time.monotonic()
        self.killed[target] += 1
        return process, begun


def workers(pid: int) -> list[psutil.Process]:
    """Processes that compute fits: children of the process that they are forked from."""
    try:
        below = psutil.Process(pid).children(recursive=True)
        return [each for each in below if each.ppid() != pid]
    except psutil.NoSuchProcess:
        return []


def check_counts(mlruns: Path, database: Path, name: str, trials: int) -> None:
    """As many trials as asked for, none under two numbers, nothing RUNNING, nothing twice: in Optuna and in MLflow."""
    storage = f"sqlite:///{mlruns / 'studies.db'}"
    (study,) = [each for each in optuna.get_all_study_names(storage) if each.startswith(name)]
    found = optuna.load_study(study_name=study, storage=storage).trials
    assert [trial.number for trial in found] == list(range(trials))
    assert all(trial.state.is_finished() for trial in found), Counter(trial.state for trial in found)
    with sqlite3.connect(database) as connection:

        def rows(query: str) -> list[tuple]:
            return connection.execute(query).fetchall()

        active = "FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid WHERE r.lifecycle_stage = 'active'"
        assert not rows(f"SELECT r.run_uuid {active} AND r.status NOT IN ('FINISHED', 'KILLED', 'FAILED')")
        slots = [value for (value,) in rows(f"SELECT t.value {active} AND t.key = 'trial'")]
        assert sorted(slots, key=int) == [str(slot) for slot in range(trials)]
        journals = Counter(value for (value,) in rows(f"SELECT t.value {active} AND t.key = 'journal'"))
        assert set(journals.values()) == {1}
        assert set(journals) == {path.parent.name for path in mlruns.glob("journal/*/events.jsonl")}
        doubled = "SELECT run_uuid, key, step, COUNT(*) FROM metrics GROUP BY run_uuid, key, step HAVING COUNT(*) > 1"
        assert not rows(doubled), rows(doubled)[:5]
        statuses = dict(rows(f"SELECT r.status, COUNT(*) {active} AND t.key = 'journal' GROUP BY r.status"))
        assert statuses.keys() <= {"FINISHED", "KILLED"}, statuses
        trials_ended = rows(
            "SELECT r.status, t2.value FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = 'trial' "
            "JOIN tags t2 ON t2.run_uuid = r.run_uuid AND t2.key = 'outcome' WHERE r.lifecycle_stage = 'active'"
        )
        assert {pair for pair in trials_ended} <= {("FINISHED", "completed"), ("KILLED", "pruned")}
        assert len(trials_ended) == trials
    assert len((mlruns / "test_reads.jsonl").read_text().splitlines()) == 1
