"""What `sync` finds: stores that lost something, were restored, or hold what they should not."""

import shutil

import pytest
from tracking.story import begin, everything, model_folder, small_study

from mammo_lightning.errors import TrackingError
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.tracking.publish import Publisher, default_uri
from mammo_lightning.tracking.sync import sync
from mammo_lightning.tracking.views import TAG, view_key

RUNS = 4


@pytest.fixture
def told(mlruns):
    """A study as a journal tells it, and its publisher to the folder's own database."""
    journal = Journal(mlruns)
    small_study(journal, trials=1)
    journal.run("demo-1.t000").model(model_folder(mlruns.parent / "m"), "t000", {})
    return Publisher(journal, default_uri(mlruns), mlruns)


def synced(publisher):
    done = sync(publisher.store.mlruns, publisher.store.uri)
    return done.present, done.delivered, done.deleted, done.failed


def found(publisher, name):
    (run,) = publisher.store.client.search_runs(["1"], f"tags.journal = '{name}'")
    return run.info.run_id


def test_a_study_moves_to_another_store_whole_and_once(told, tmp_path, empty_database):
    told.publish_all()
    lab = tmp_path / "lab"
    lab.mkdir()
    shutil.copy(empty_database, lab / "mlflow.db")
    uri, seen = default_uri(lab), []
    mlruns = told.store.mlruns
    assert sync(mlruns, uri, progress=lambda *counts: seen.append(counts)).delivered == RUNS
    assert seen == [(number + 1, RUNS) for number in range(RUNS)]
    there = Publisher(told.journal, uri, mlruns).store.client
    assert everything(there, "synthetic") == everything(told.store.client, "synthetic")
    assert sync(mlruns, uri).present == RUNS
    told.courier.cursors.path.parent.joinpath(
        f"published-{Publisher(told.journal, uri, mlruns).store.key}.jsonl"
    ).unlink()
    assert sync(mlruns, uri).delivered == RUNS
    assert everything(there, "synthetic") == everything(told.store.client, "synthetic")


def test_a_store_restored_from_an_older_backup_is_filled_up(told, mlruns):
    run = begin(told.journal.run("demo-2"), "study", "other", study="other")
    told.publish_all()
    shutil.copy(mlruns / "mlflow.db", mlruns / "backup.db")
    run.metrics({"val_auc": 0.5})
    run.params({"depth": 3})
    begin(told.journal.run("demo-2.t000"), parent="demo-2", study="other").end("completed")
    run.end("completed")
    told.publish_all()
    before = everything(told.store.client, "synthetic")
    told.store.client._tracking_client.store.engine.dispose()
    (mlruns / "backup.db").replace(mlruns / "mlflow.db")
    assert told.undelivered() == []
    assert synced(told) == (RUNS, 2, 0, {})
    assert everything(told.store.client, "synthetic") == before
    assert synced(told) == (RUNS + 2, 0, 0, {})


def test_a_publisher_that_runs_meanwhile_notices_by_itself(told, mlruns):
    told.publish_all()
    shutil.copy(mlruns / "mlflow.db", mlruns / "backup.db")
    run = begin(told.journal.run("late"))
    told.publish_all()
    told.store.client._tracking_client.store.engine.dispose()
    (mlruns / "backup.db").replace(mlruns / "mlflow.db")
    run.metrics({"val_auc": 0.5})
    assert told.publish_all() == 1
    assert told.store.client.get_run(found(told, "late")).data.metrics == {"val_auc": 0.5}


def test_what_a_person_deleted_stays_deleted_and_a_second_run_goes_away(told):
    told.publish_all()
    client = told.store.client
    client.delete_run(found(told, "demo-1.t000"))
    assert synced(told) == (RUNS - 1, 0, 1, {})
    kept = found(told, "demo-1.final")
    for _ in range(3):  # some of them with a lower id than the one that was delivered to
        client.create_run("1", 1, {"journal": "demo-1.final"})
    assert synced(told) == (RUNS - 2, 1, 1, {})
    assert found(told, "demo-1.final") == kept
    assert synced(told) == (RUNS - 1, 0, 1, {})


def test_a_state_a_parent_or_a_view_that_is_wrong_is_put_right(told):
    told.publish_all()
    client = told.store.client
    before = everything(client, "synthetic")
    client.update_run(found(told, "demo-1"), status="RUNNING")
    client.set_tag(found(told, "demo-1.t000"), "mlflow.parentRunId", "0" * 32)
    client.delete_experiment_tag("1", TAG + view_key("demo", "leaderboard"))
    assert synced(told) == (RUNS - 2, 2, 0, {})
    assert everything(client, "synthetic") == before
    assert TAG + view_key("demo", "leaderboard") in client.get_experiment("1").tags


def test_stopped_in_the_middle_it_goes_on(told):
    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="^$"):
        sync(told.store.mlruns, told.store.uri, progress=stop)
    assert synced(told) == (2, 2, 0, {})


def test_one_run_that_fails_holds_up_no_other(told, monkeypatch):
    publish = type(told.courier).publish

    def failing(courier, run_id, **how):
        if run_id.endswith("t000"):
            raise ConnectionError("away")
        return publish(courier, run_id, **how)

    with monkeypatch.context() as patched:
        patched.setattr(type(told.courier), "publish", failing)
        assert synced(told) == (0, RUNS - 1, 0, {"demo-1.t000": "ConnectionError: away"})
    assert synced(told) == (RUNS - 1, 1, 0, {})


def test_no_runs_and_no_server_are_one_line_each(told, tmp_path, nowhere):
    with pytest.raises(TrackingError, match="no runs in .* or pass --mlruns"):
        sync(tmp_path / "none", "sqlite:///x.db")
    with pytest.raises(TrackingError, match=r"cannot publish to http://.* Is the server running\? The same command"):
        sync(told.store.mlruns, nowhere)
    with told.courier.locked(1), pytest.raises(TrackingError, match="another process is publishing"):
        sync(told.store.mlruns, told.store.uri, patience=0.1)
