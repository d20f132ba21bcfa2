"""A real Ray cluster of two nodes on this machine."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from mammo_lightning.engine.base import Job
from mammo_lightning.engine.choice import open_engine
from mammo_lightning.errors import TrackingError
from mammo_lightning.hardware import Hardware
from mammo_lightning.progress import Progress
from mammo_lightning.recipe import make_recipe
from mammo_lightning.study import run_study
from mammo_lightning.tracking.journal import Journal

KEYS = {
    "name": "far",
    "dataset": "synthetic",
    "patients": 80,
    "trials": 2,
    "folds": 3,
    "epochs": 12,
    "prune": False,
    "set": {"init": 4, "batch_size": 32, "depth": 1},
    "search": {"dropout": "0.0,0.1"},
}
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False, "node_ip_address": "127.0.0.1"}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("ray._private.ray_constants.ENABLE_RAY_CLUSTER", False)  # 127.0.0.1 stays what it is
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={**NODE})
    made.add_node(**{key: value for key, value in NODE.items() if key != "include_dashboard"})
    monkeypatch.setenv("RAY_ADDRESS", made.address)
    try:
        yield made
    finally:
        made.shutdown()


def predictions(mlruns: Path) -> dict[str, pd.DataFrame]:
    """The out-of-fold table of each trial, by its settings."""
    found = {}
    for name in Journal(mlruns).runs():
        run = Journal(mlruns).run(name)
        if run.identity["kind"] == "trial":
            found[name.rpartition(".")[2]] = pd.read_parquet(run.artifacts / "predictions.parquet")
    return found


class Watching(Progress):
    """Remembers who worked, and kills a node in the middle."""

    def __init__(self, kill: Any) -> None:
        super().__init__()
        self.kill, self.most, self.killed_at = kill, 0, -1
        self.lines: list[str] = []

    def epoch(self, key: str, epoch: int) -> None:
        super().epoch(key, epoch)
        self.most = max(self.most, self.workers)
        running = sum(0 < fit.epoch < fit.epochs for fit in self.fits.values())
        if self.killed_at < 0 and running == 2 and self._ended >= 1:
            self.killed_at = self._ended
            self.kill()

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_no_cluster_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with socket.socket() as nobody:
        nobody.bind(("0.0.0.0", 0))  # taken, and not listening
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{nobody.getsockname()[1]}")
        with pytest.raises(TrackingError, match=r"no Ray cluster at '127.0.0.1:.* refused\); .* or drop --engine"):
            open_engine("ray", [Hardware()])
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    with pytest.raises(TrackingError, match=r"no Ray cluster at 'nonsense' \(.*\); start one with `ray start --head`"):
        open_engine("ray", [Hardware()])
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("resources", "share", "places"),
    [
        ({"CPU": 4.0}, 0.0, 4),
        ({"CPU": 4.0}, 1.0, 0),
        ({"CPU": 4.0, "GPU": 2.0}, 1.0, 2),
        ({"CPU": 4.0, "GPU": 2.0}, 0.3, 4),
        ({"CPU": 64.0, "GPU": 2.0}, 0.1, 20),
        ({}, 0.0, 0),
    ],
)
def test_places_of_a_node(monkeypatch: pytest.MonkeyPatch, resources: dict, share: float, places: int) -> None:
    from mammo_lightning.engine import joining

    nodes = [{"Alive": True, "Resources": resources}, {"Alive": False, "Resources": {"CPU": 9.0, "GPU": 9.0}}]
    monkeypatch.setattr(joining.ray, "nodes", lambda: nodes)
    assert joining.places(share) == places


def test_a_fit_travels_whole_and_a_stopped_one_goes_on(tmp_path: Path) -> None:
    """The node's side, without a cluster: what it is told and what it says, in terms of folders here and there."""
    from mammo_lightning.engine.node import Desk, read_files, write_files

    mine, desk = tmp_path / "mine", Desk()
    write_files(mine, {"asked.json": b"{}", "epoch.ckpt": b"state 1", "deep/er": b"x"}, last="asked.json")
    job = Job(SimpleNamespace(), 1, {}, 5, mine)
    desk.inbox.put(("fit", job, 0, read_files(mine)))
    _, there, _ = desk.recv()
    assert there.folder != mine
    assert read_files(there.folder) == read_files(mine)
    desk.send(("epoch", there.key, 0, {"loss": 1.0}))
    assert desk.outbox.get() == ("epoch", job.key, 0, {"loss": 1.0}, read_files(mine))
    desk.send(("epoch", there.key, 1, {}))
    assert desk.outbox.get() == ("epoch", job.key, 1, {}, {}), "nothing new to send"
    desk.inbox.put(("cancel", job.key))
    assert desk.recv() == ("cancel", there.key)
    (there.folder / "epoch.ckpt").unlink()
    (there.folder / "fit.json").write_bytes(b"done")
    desk.send(("end", there.key, None))
    kind, key, failure, files = desk.outbox.get()
    assert (kind, key, failure, set(files)) == ("end", job.key, None, {"asked.json", "deep/er", "fit.json"})
    assert not there.folder.parent.exists(), "nothing is left on the node"
    desk.inbox.put(("cancel", job.key))
    assert desk.recv() == ("cancel", ""), "it has ended"


@pytest.mark.proof
def test_a_study_outlives_a_node_and_is_what_one_process_makes(cluster: Any, tmp_path: Path) -> None:
    far, near = tmp_path / "far", tmp_path / "near"
    progress = Watching(lambda: cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False))
    before = signal.getsignal(signal.SIGTERM)
    run_study(make_recipe({**KEYS, "engine": "ray", "mlruns": far}), progress)
    assert progress.most == 2, "both nodes worked"
    assert 1 <= progress.killed_at < 6, "a node was killed half-way"
    assert signal.getsignal(signal.SIGTERM) is before
    run_study(make_recipe({**KEYS, "workers": 1, "mlruns": near}))
    outcomes = {str(Journal(far).run(name).outcome) for name in Journal(far).runs()}
    assert outcomes == {"completed"}
    one, two = predictions(far), predictions(near)
    assert set(one) == set(two) == {"t000", "t001"}
    for name in one:
        pd.testing.assert_frame_equal(one[name], two[name])
