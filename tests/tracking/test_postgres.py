"""The same journal, delivered into a real PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres import postgres
from tracking.story import small_study

from mammo_lightning.tracking.journal import Journal
from mammo_lightning.tracking.publish import Publisher

pytestmark = pytest.mark.proof


@pytest.fixture
def database() -> Iterator[str]:
    with postgres() as make:
        yield make("tracking")


def test_a_study_is_delivered_once(database: str, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    journal = Journal(tmp_path)
    small_study(journal, 3)
    assert Publisher(journal, database, tmp_path).publish_all() == 6
    for cursor in tmp_path.glob("journal/published*"):
        cursor.unlink()
    Publisher(journal, database, tmp_path).publish_all()
    client = MlflowClient(database)
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert len(runs) == 6
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        history = client.get_metric_history(run.info.run_id, "roc/tpr")
        assert len({point.step for point in history}) == len(history)
