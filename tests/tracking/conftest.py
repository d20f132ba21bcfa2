import shutil
import socket

import pytest

from mammo_lightning.tracking.store import Store, default_uri


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    mlruns = tmp_path_factory.mktemp("database")
    Store(default_uri(mlruns), mlruns).client.search_experiments()
    return mlruns / "mlflow.db"


@pytest.fixture
def mlruns(tmp_path, empty_database):
    """A tracking folder with a database that is made already: making one takes seconds."""
    folder = tmp_path / "mlruns"
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    return folder


@pytest.fixture
def nowhere():
    """An address at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"
