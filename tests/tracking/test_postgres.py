"""The same journal, delivered into a real PostgreSQL."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tracking.story import small_study

from mammo_lightning.tracking.journal import Journal
from mammo_lightning.tracking.publish import Publisher

pytestmark = pytest.mark.proof


def binaries() -> Path:
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders:
        pytest.skip("no PostgreSQL on this machine")
    return folders[-1]


@pytest.fixture
def database() -> Iterator[str]:
    """An own server on a free loopback port, run by an unprivileged user where the tests run as root."""
    bin_folder, folder = binaries(), Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_user:
        shutil.chown(folder, "postgres", "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = folder / "data"
    options = f"-p {port} -h 127.0.0.1 -k {folder}"

    def run(*command: str) -> None:
        with (folder / "output").open("ab") as output:  # no pipe: the server would hold it open
            done = subprocess.run(
                [*as_user, *command], stdout=output, stderr=output, cwd=folder, timeout=120, check=False
            )
        assert done.returncode == 0, (folder / "output").read_text()

    run(str(bin_folder / "initdb"), "-D", str(data), "-U", "mammo", "-A", "trust")
    run(str(bin_folder / "pg_ctl"), "-D", str(data), "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        yield f"postgresql://mammo@127.0.0.1:{port}/postgres"
    finally:
        run(str(bin_folder / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def test_a_study_is_delivered_once(database: str, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    journal = Journal(tmp_path)
    small_study(journal, 3)
    assert Publisher(journal, database, tmp_path).publish_all() == 6
    for cursor in tmp_path.glob("journal/*/*published*"):
        cursor.unlink()
    Publisher(journal, database, tmp_path).publish_all()
    client = MlflowClient(database)
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert len(runs) == 6
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        history = client.get_metric_history(run.info.run_id, "roc/tpr")
        assert len({point.step for point in history}) == len(history)
