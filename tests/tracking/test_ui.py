import signal
import socket
import subprocess
import sys
from urllib.request import urlopen

import pytest
from tracking.story import begin

from mammo_lightning.tracking.journal import Journal
from mammo_lightning.tracking.publish import Publisher, default_uri

UI = [sys.executable, "-m", "experiments.ui"]


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_without_a_database_it_says_what_to_do(tmp_path):
    done = subprocess.run([*UI, "--mlruns", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no mlflow.db in")
    assert done.stderr.count("\n") == 1


def test_a_port_in_use_is_one_line(mlruns, port):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        done = subprocess.run([*UI, "--mlruns", str(mlruns), "--port", str(port)], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"error: port {port} cannot be used (Address already in use); pass another --port\n"


@pytest.mark.proof
def test_it_prints_the_leaderboards_newest_last_and_ends_at_ctrl_c(mlruns, port):
    journal = Journal(mlruns)
    for study in ("older", "newer"):
        begin(journal.run(study), "study", study, study=study).end("completed")
    Publisher(journal, default_uri(mlruns), mlruns).publish_all()
    command = [*UI, "--mlruns", str(mlruns), "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        lines = [server.stdout.readline() for _ in range(2)]
        assert [line.partition(":")[0] for line in lines] == ["older", "newer"]
        assert all(f"http://127.0.0.1:{port}/#/experiments/" in line for line in lines)
        with urlopen(f"http://127.0.0.1:{port}/health") as answer:
            assert answer.status == 200
        server.send_signal(signal.SIGINT)
        assert server.wait(20) == 0
    finally:
        server.terminate()
        server.communicate()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
