"""Nothing lost, nothing doubled: whatever a network does between the journal and MLflow."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.artifacts import list_artifacts
from servers import Server
from tracking.faulty import FAULTS, SECONDS, SLOW, Proxy, application, proxied, silent
from tracking.story import begin, everything, model_folder, png, small_study

from mammo_lightning.errors import TrackingError
from mammo_lightning.progress import Progress
from mammo_lightning.tracking import courier, publish
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.tracking.publish import Publisher, default_uri
from mammo_lightning.tracking.store import Store
from mammo_lightning.tracking.sync import sync


@pytest.fixture
def impatient(monkeypatch):
    """A client that gives up after a second, and takes all to have settled at once."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setattr(courier, "SETTLE", 0.0)


@pytest.fixture(scope="module")
def port(tmp_path_factory, empty_database):
    folder = tmp_path_factory.mktemp("server")
    (folder / "mlflow.db").write_bytes(empty_database.read_bytes())
    with pytest.MonkeyPatch.context() as patched, application(folder, patched) as port:
        yield port


def tell(mlruns: Path, name: str, trials: int = 2) -> Journal:
    """A study with files, images, models, and a run that was interrupted and taken up again."""
    journal = Journal(mlruns)
    small_study(journal, trials, name=name)
    for number in range(trials):
        trial = journal.run(f"{name}.t{number:03d}")
        trial.write("figures/roc.png", png(number))
        trial.write("predictions.parquet", bytes(range(256)) * 200 * (number + 1))
        trial.model(
            model_folder(mlruns.parent / "m", f"w{number}"),
            f"t{number:03d}",
            {"val_auc": trial.read_metrics()["val_auc"]},
        )
    again = begin(journal.run(f"{name}.again"), name="t009 again", parent=name)
    again.end("interrupted", "signal")
    begin(again, name="t009 again", parent=name)
    again.end("pruned", "hopeless")
    return journal


def publish_until_done(publisher: Publisher, rounds: int = 60) -> None:
    for _ in range(rounds):
        try:
            publisher.publish_all()
        except TrackingError:
            continue
        if not publisher.undelivered():
            return
    raise AssertionError(f"not delivered: {publisher.undelivered()}")


def told_without_faults(journal: Journal, empty_database: Path) -> dict[str, object]:
    """What the same journal looks like where nothing went wrong."""
    folder = journal.folder.parent.parent / "faultless"
    folder.mkdir()
    (folder / "mlflow.db").write_bytes(empty_database.read_bytes())
    publisher = Publisher(journal, default_uri(folder), folder)
    publisher.publish_all()
    return everything(publisher.store.client, "synthetic")


def through(proxy: Proxy, journal: Journal) -> Publisher:
    """Publish through a proxy until all is there, and what was carried out unheard is put right."""
    publisher = Publisher(journal, proxy.uri, journal.folder.parent)
    publish_until_done(publisher)
    proxy.settle()
    proxy.left = 0
    publisher.publish_all()
    assert set(proxy.made) == set(FAULTS), "too few faults to prove anything"
    return publisher


def test_a_study_through_a_faulty_network_arrives_whole_and_once(port, mlruns, empty_database, impatient):
    journal = tell(mlruns, "demo-1", 1)
    with proxied(port, rate=0.4, most=2 * len(FAULTS), seed=0) as proxy:
        publisher = through(proxy, journal)
        client = Store(f"http://127.0.0.1:{port}", mlruns).client
        assert everything(client, "synthetic") == told_without_faults(journal, empty_database)
        assert publisher.publish_all() == 0


def test_a_dropped_model_goes_away_on_the_server(port, mlruns):
    journal = tell(mlruns, "demo-2", 1)
    trial = journal.run("demo-2.t000")
    trial.write("models/f0/config.json", "{}")
    publisher = Publisher(journal, f"http://127.0.0.1:{port}", mlruns)
    publisher.publish_all()
    client = publisher.store.client
    place = client.search_logged_models(["1"], "tags.journal LIKE 'demo-2.t000/%'")[0].artifact_location
    trial.drop("models/")
    publisher.publish_all()
    (run,) = client.search_runs(["1"], "tags.journal = 'demo-2.t000'")
    assert client.search_logged_models(["1"], "tags.journal LIKE 'demo-2.t000/%'") == []
    assert list_artifacts(artifact_uri=place, tracking_uri=publisher.store.uri) == []
    assert sorted(file.path for file in client.list_artifacts(run.info.run_id)) == [
        *("events.jsonl", "figures", "images", "predictions.parquet")
    ]


class Told(Progress):
    """Keeps what was said, and is asked to stop as soon as anything is, where `hasty`."""

    def __init__(self, *, hasty: bool) -> None:
        super().__init__()
        self.hasty, self.lines = hasty, []

    def say(self, line: str) -> None:
        self.lines.append(line)
        self.stopping = self.hasty


@pytest.mark.parametrize("hasty", [False, True])
def test_a_server_that_is_slow_is_waited_for_and_one_may_ask_not_to(port, tmp_path, monkeypatch, hasty):
    monkeypatch.setattr(publish, "SHORT", 0.5)
    Publisher(tell(tmp_path / "warm", f"warm{hasty}", 1), f"http://127.0.0.1:{port}", tmp_path / "warm").publish_all()
    journal, said = tell(tmp_path / "mlruns", f"slow{hasty}", 1), Told(hasty=hasty)
    with proxied(port, rate=1.0, most=10**6, seed=0, faults=(SLOW,)) as proxy:
        publisher = Publisher(journal, proxy.uri, tmp_path / "mlruns")
        publisher.close(3.0, said)  # no answer takes so long; all of them do
    assert [line.partition(" at ")[0] for line in said.lines] == ["publishing what is left to MLflow"]
    assert bool(publisher.undelivered()) is hasty
    assert hasty or proxy.requests * SECONDS > 3


CLOSING = """
import logging, sys, time
from pathlib import Path
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.tracking.publish import Publisher
import mlflow
mlruns, uri = Path(sys.argv[1]), sys.argv[2]
run = Journal(mlruns).run("a")
run.begin(kind="trial", name="a", study="s", parent=None, experiment="synthetic", tags={})
publisher = Publisher(Journal(mlruns), uri, mlruns)
publisher.start()
time.sleep(1)
start = time.monotonic()
publisher.close(float(sys.argv[3]))
print(f"{time.monotonic() - start:.2f} {publisher.hanging}", flush=True)
"""


def test_a_server_that_never_answers_holds_up_neither_close_nor_the_end_of_the_process(tmp_path):
    environment = {**os.environ, "MLFLOW_HTTP_REQUEST_TIMEOUT": "100"}
    with silent() as uri:
        command = [sys.executable, "-c", CLOSING, str(tmp_path), uri, "0.5"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        ) as it:
            assert it.stdout is not None
            _, hanging = it.stdout.readline().split()
            said = it.communicate(timeout=60)[1]  # far less than the hundred seconds of the request
    assert (hanging, it.returncode) == ("True", 0)
    assert said.count("is not, or not wholly, in MLflow") == 1
    assert "no answer for 0.5 s" in said
    assert f"`python -m experiments.sync --mlruns {tmp_path} --tracking-uri {uri}` delivers" in said


@pytest.fixture
def server(tmp_path, empty_database) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "mlflow.db").write_bytes(empty_database.read_bytes())
    server = Server(folder)
    server.start()
    yield server
    server.kill()


@pytest.mark.proof
@pytest.mark.parametrize("seed", range(1, 6))
def test_proof_many_faults_before_a_real_server(server, mlruns, empty_database, impatient, seed):
    journal = tell(mlruns, "demo-1", 6)
    with proxied(server.port, rate=0.4, most=12 * len(FAULTS), seed=seed) as proxy:
        publisher = through(proxy, journal)
        client = Store(server.uri, mlruns).client
        assert everything(client, "synthetic") == told_without_faults(journal, empty_database)
        assert publisher.publish_all() == 0


@pytest.mark.proof
def test_proof_a_server_killed_and_started_again_and_down_for_a_study(
    server, mlruns, empty_database, impatient, caplog
):
    journal = Journal(mlruns)
    publisher = Publisher(journal, server.uri, mlruns)
    publisher.start()
    for number in range(4):  # killed while it is being told
        begin(journal.run(f"early{number}")).metrics({"val_auc": 0.5})
        tell(mlruns, f"demo-{number}", 3)
        time.sleep(1.5 if number else 0)
        server.kill()
        if number < 3:
            server.start()
    with caplog.at_level(logging.WARNING, "mammo_lightning.tracking"):
        start = time.monotonic()
        publisher.close()
        assert time.monotonic() - start < 12
    (after,) = [record.getMessage() for record in caplog.records if "not wholly" in record.getMessage()]
    assert "python -m experiments.sync" in after
    assert publisher.undelivered()
    server.start()
    assert not sync(mlruns, server.uri).failed
    client = Store(server.uri, mlruns).client
    assert everything(client, "synthetic") == told_without_faults(journal, empty_database)
    assert sync(mlruns, server.uri).delivered == 0
