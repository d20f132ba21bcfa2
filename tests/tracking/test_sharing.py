"""Several machines tell of one study, each from a journal of its own."""

from pathlib import Path

import pytest
from tracking.faulty import application
from tracking.story import begin

from mammo_lightning.tracking.journal import Journal
from mammo_lightning.tracking.publish import Publisher
from mammo_lightning.tracking.sync import sync


@pytest.fixture(scope="module")
def uri(tmp_path_factory, empty_database):
    folder = tmp_path_factory.mktemp("server")
    (folder / "mlflow.db").write_bytes(empty_database.read_bytes())
    with pytest.MonkeyPatch.context() as patched, application(folder, patched) as port:
        yield f"http://127.0.0.1:{port}"


def machine(folder: Path, uri: str) -> tuple[Journal, Publisher]:
    return Journal(folder), Publisher(Journal(folder), uri, folder)


def found(publisher: Publisher, run_id: str):
    experiment_id, _ = publisher.store.experiment("synthetic")
    return list(publisher.store.client.search_runs([experiment_id], f"tags.journal = '{run_id}'"))


def test_whoever_took_a_trial_over_is_believed_and_no_point_stands_twice(tmp_path, uri):
    first, second = machine(tmp_path / "a", uri), machine(tmp_path / "b", uri)
    old = begin(first[0].run("one"), attempt="0")
    old.metrics({"fold/val_auc": 0.7}, step=0)
    old.metrics({"fold/val_auc": 0.8}, step=1)
    first[1].publish_all()
    new = begin(second[0].run("one"), attempt="1")
    for fold, value in enumerate((0.7, 0.8, 0.9)):
        new.metrics({"fold/val_auc": value}, step=fold)
        second[1].publish_all()
    new.end("completed")
    second[1].publish_all()
    old.metrics({"fold/val_auc": 0.9}, step=2)
    old.end("interrupted", "signal")
    first[1].publish_all()
    sync(tmp_path / "a", uri)
    (run,) = found(second[1], "one")
    assert (run.info.status, run.data.tags["outcome"]) == ("FINISHED", "completed")
    points = second[1].store.client.get_metric_history(run.info.run_id, "fold/val_auc")
    assert sorted((point.step, point.value) for point in points) == [(0, 0.7), (1, 0.8), (2, 0.9)]
    assert not first[1].undelivered()


def test_a_trial_waits_for_the_study_that_another_machine_publishes(tmp_path, uri):
    lead, other = machine(tmp_path / "a", uri), machine(tmp_path / "b", uri)
    begin(other[0].run("two.t000"), parent="two").end("completed")
    assert other[1].publish_all() == 0
    assert other[1].undelivered() == ["two.t000"]
    begin(lead[0].run("two"), kind="study", name="two")
    lead[1].publish_all()
    other[1].publish_all()
    (above,), (below,) = found(lead[1], "two"), found(lead[1], "two.t000")
    assert below.data.tags["mlflow.parentRunId"] == above.info.run_id
    assert not other[1].undelivered()


def test_sync_waits_for_nobody(tmp_path, uri):
    journal, publisher = machine(tmp_path / "a", uri)
    begin(journal.run("three.t000"), parent="three").end("completed")
    assert sync(tmp_path / "a", uri).delivered == 1
    assert found(publisher, "three.t000")
