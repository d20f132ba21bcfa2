import shutil

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
