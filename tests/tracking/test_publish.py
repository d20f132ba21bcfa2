import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tracking.story import begin, model_folder, png, small_study

from mammo_lightning.errors import TrackingError
from mammo_lightning.tracking.cursors import Cursor, Cursors
from mammo_lightning.tracking.deliver import deliver, find_or_create
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.tracking.publish import Publisher, check_uri, default_uri
from mammo_lightning.tracking.store import Store, public, told, without_user

TRACKING = "mammo_lightning.tracking"


@pytest.fixture
def journal(mlruns):
    return Journal(mlruns)


@pytest.fixture
def publisher(journal, mlruns):
    return Publisher(journal, default_uri(mlruns), mlruns)


def runs(publisher):
    found = publisher.store.client.search_runs([publisher.store.experiment("synthetic")[0]])
    return {run.data.tags["journal"]: run for run in found}


def contents(publisher):
    """Everything a reader could see of every run."""
    client = publisher.store.client
    seen = {}
    for name, run in runs(publisher).items():
        run_id = run.info.run_id
        points = {
            key: [(point.step, point.value, point.timestamp) for point in client.get_metric_history(run_id, key)]
            for key in run.data.metrics
        }
        files = sorted(
            file.path for folder in (None, "images", "figures") for file in client.list_artifacts(run_id, folder)
        )
        models = [output.model_id for output in run.outputs.model_outputs]
        datasets = [(each.dataset.name, each.dataset.digest) for each in run.inputs.dataset_inputs]
        tags = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.sharedView")}
        seen[name] = (run_id, run.info.status, run.data.params, tags, points, files, models, datasets)
    return seen


def test_publishing_twice_or_without_cursors_doubles_nothing(journal, publisher, mlruns, tmp_path):
    small_study(journal)
    trial = journal.run("demo-1.t001")
    trial.write("figures/roc.png", png(3))
    trial.model(model_folder(tmp_path / "m"), "t001", {"val_auc": trial.read_metrics()["val_auc"]})
    assert publisher.publish_all() == 5
    first = contents(publisher)
    assert set(first) == set(journal.runs())
    assert publisher.publish_all() == 0
    for cursor in mlruns.glob("journal/published-*.jsonl"):
        cursor.unlink()
    anew = Publisher(Journal(mlruns), default_uri(mlruns), mlruns)
    assert anew.publish_all() == 5
    assert contents(anew) == first
    assert len(anew.store.client.search_logged_models(["1"])) == 1
    assert first["demo-1.t001"][6:] == (
        [anew.store.client.search_logged_models(["1"])[0].model_id],
        [("synthetic", "d1")],
    )
    assert any("images/roc+step+0" in path for path in first["demo-1.t001"][5])
    assert "figures/roc.png" in first["demo-1.t001"][5]


def test_runs_hang_under_their_parent_with_name_colour_and_curves(journal, publisher):
    begin(journal.run("child"), name="t007 hyper", parent="top", trial="7")
    journal.run("child").metrics({"val_auc": 0.123456, "p": 0.0000123456, "bad": float("inf")})
    journal.run("child").series("roc/tpr", [0.0, 0.5, 1.0])
    begin(journal.run("top"), "study", "demo")
    publisher.publish_all()
    child, top = runs(publisher)["child"], runs(publisher)["top"]
    assert child.data.tags["mlflow.parentRunId"] == top.info.run_id
    assert child.info.run_name == "t007 hyper"
    assert child.data.tags["mlflow.runColor"] == "#17becf"
    assert child.data.metrics == {"val_auc": 0.1235, "p": 1.23e-05, "roc/tpr": 1.0}
    assert child.data.tags["not_finite"] == "bad"
    history = publisher.store.client.get_metric_history(child.info.run_id, "roc/tpr")
    assert [(point.step, point.value) for point in history] == [(0, 0.0), (1, 0.5), (2, 1.0)]
    assert child.info.artifact_uri.startswith(f"file://{publisher.store.mlruns}/artifacts/")


@pytest.mark.parametrize(
    ("outcome", "status"),
    [("completed", "FINISHED"), ("pruned", "KILLED"), ("failed", "FAILED"), ("interrupted", "KILLED")],
)
def test_outcomes_become_states(journal, publisher, outcome, status):
    begin(journal.run("a")).end(outcome, "because")
    publisher.publish_all()
    run = runs(publisher)["a"]
    assert (run.info.status, run.data.tags["outcome"], run.data.tags["reason"]) == (status, outcome, "because")
    assert run.info.end_time == journal.run("a").since(0)[0][-1]["time"]


def test_a_run_that_is_taken_up_again_runs_and_ends_once(journal, publisher):
    run = begin(journal.run("a"))
    run.end("interrupted", "signal")
    publisher.publish_all()
    begin(run)
    publisher.publish_all()
    again = runs(publisher)["a"]
    assert again.info.status == "RUNNING"
    assert not {"outcome", "reason"} & set(again.data.tags)
    run.metrics({"val_auc": 0.9})
    run.end("completed")
    publisher.publish_all()
    done = runs(publisher)["a"]
    assert (done.info.run_id, done.info.status, done.data.metrics) == (again.info.run_id, "FINISHED", {"val_auc": 0.9})


def test_a_run_taken_up_again_between_two_deliveries_keeps_no_stale_reason(journal, publisher):
    run = begin(journal.run("a"))
    run.end("interrupted", "signal")
    publisher.publish_all()
    begin(run)
    run.end("completed")
    publisher.publish_all()
    tags = runs(publisher)["a"].data.tags
    assert tags["outcome"] == "completed"
    assert "reason" not in tags


def test_a_model_is_shown_with_its_run_and_can_be_registered(journal, publisher, tmp_path, monkeypatch):
    import mlflow

    run = begin(journal.run("a"), "final", "final")
    run.dataset("synthetic", "d1", "synthetic")
    run.metrics({"val_auc": 0.9})
    run.model(model_folder(tmp_path / "m"), "final", {"val_auc": 0.9})
    run.end("completed")
    publisher.publish_all()
    client, published = publisher.store.client, runs(publisher)["a"]
    (output,) = published.outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert (model.name, str(model.status), model.source_run_id) == ("final", "READY", published.info.run_id)
    assert [(each.key, each.value, each.dataset_name) for each in model.metrics] == [("val_auc", 0.9, "synthetic")]
    assert len(client.get_metric_history(published.info.run_id, "val_auc")) == 1
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", publisher.store.uri)  # MLflow's own setter would leave it set
    mlflow.set_tracking_uri(publisher.store.uri)
    try:
        version = mlflow.register_model(f"models:/{model.model_id}", "mammo")
    finally:
        mlflow.set_tracking_uri(None)
    assert (version.version, version.run_id) == (1, published.info.run_id)
    run.model(model_folder(tmp_path / "m", "other weights"), "final", {"val_auc": 0.9})
    publisher.publish_all()
    assert len(runs(publisher)["a"].outputs.model_outputs) == 2


def test_a_deleted_run_stays_deleted_and_holds_up_nobody(journal, publisher, mlruns, caplog):
    begin(journal.run("a"))
    begin(journal.run("b"))
    publisher.publish_all()
    publisher.store.client.delete_run(runs(publisher)["a"].info.run_id)
    journal.run("a").metrics({"val_auc": 0.1})
    journal.run("b").metrics({"val_auc": 0.2})
    with caplog.at_level(logging.WARNING, TRACKING):
        publisher.publish_all()
    assert "run a was deleted in MLflow, and stays in the journal only" in caplog.text
    for cursor in mlruns.glob("journal/published-*.jsonl"):
        cursor.unlink()
    Publisher(journal, default_uri(mlruns), mlruns).publish_all()
    assert {name: run.data.metrics for name, run in runs(publisher).items()} == {"b": {"val_auc": 0.2}}


def test_a_database_that_was_thrown_away_is_filled_again(journal, publisher, mlruns, empty_database):
    small_study(journal, trials=1)
    publisher.publish_all()
    time.sleep(0.002)  # the experiment of the new database is younger
    fresh = mlruns.parent / "fresh"
    fresh.mkdir()
    (fresh / "mlflow.db").write_bytes(empty_database.read_bytes())
    publisher.store.client._tracking_client.store.engine.dispose()
    (fresh / "mlflow.db").replace(mlruns / "mlflow.db")
    again = Publisher(journal, default_uri(mlruns), mlruns)
    assert again.publish_all() == 4
    assert set(runs(again)) == set(journal.runs())


def test_the_thread_delivers_while_the_study_runs_and_the_rest_at_the_end(journal, publisher, mlruns):
    run = begin(journal.run("a"))
    publisher.start()
    deadline = time.monotonic() + 30
    while publisher.undelivered() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert runs(publisher)["a"].info.status == "RUNNING"
    run.metrics({"val_auc": 0.5})
    run.end("completed")
    publisher.close()
    done = runs(publisher)["a"]
    assert (done.info.status, done.data.metrics) == ("FINISHED", {"val_auc": 0.5})


def test_a_server_that_is_down_costs_a_warning(journal, mlruns, caplog, nowhere):
    begin(journal.run("a")).end("completed")
    publisher = Publisher(journal, nowhere, mlruns)
    with caplog.at_level(logging.WARNING, TRACKING):
        publisher.start()
        deadline = time.monotonic() + 30
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.05)
        publisher.close()
    during, after = [record.getMessage() for record in caplog.records]
    assert "retrying meanwhile" in during
    assert "1 run is not, or not wholly, in MLflow" in after
    assert f"`python -m experiments.sync --mlruns {mlruns} --tracking-uri {nowhere}` delivers" in after
    assert not publisher.hanging
    with pytest.raises(TrackingError, match=r"does not answer; `python -m experiments.sync"):
        publisher.link("a")
    with pytest.raises(TrackingError, match=r"cannot publish to http:"):
        publisher.publish_all()
    later = Publisher(journal, default_uri(mlruns), mlruns)
    assert later.publish_all() == 1


@pytest.mark.parametrize("key", ["a: b/c?ü", "//x", "x/../y"])
def test_no_key_is_refused(journal, publisher, key):
    run = begin(journal.run("a"))
    run.metrics({key: 1.0})
    run.params({key: "1"})
    run.tags({key: "1"})
    publisher.publish_all()
    data = runs(publisher)["a"].data
    assert len(data.metrics) == len(data.params) == 1


def test_parameters_that_changed_keep_their_first_value(journal, publisher, caplog):
    run = begin(journal.run("a"))
    run.params({"depth": 3})
    publisher.publish_all()
    run.params({"depth": 4, "width": 8})
    with caplog.at_level(logging.WARNING, TRACKING):
        publisher.publish_all()
    assert runs(publisher)["a"].data.params == {"depth": "3", "width": "8"}
    assert "parameters cannot change" in caplog.text


@pytest.mark.parametrize(
    "uri", ["mlruns", "htp://x", "file:///tmp/x", "sqlite://", "sqlite:///", "http://", "http://h:port", "http://a b"]
)
def test_a_malformed_address_is_one_line(uri):
    with pytest.raises(TrackingError, match=r"tracking URI .* expected .* Leave --tracking-uri out"):
        check_uri(uri)


@pytest.mark.parametrize(
    ("uri", "match"),
    [
        ("sqlite+foo:///x.db", r"there is no database or driver 'sqlite\+foo'"),
        ("postgresql+foo://me:secret@host/x", r"'postgresql\+foo://me@host/x': there is no database or driver"),
        ("mysql+pymysql://me@host/x", "needs the driver 'pymysql', which is not installed"),
        ("mssql://me@host/x", "needs the driver 'pyodbc', which is not installed"),
        ("sqlite:////nope/dir/x.db", "no such folder '/nope/dir'; make it first"),
        ("sqlite:///nope/x.db", r"no such folder '.*/nope'; make it first"),
    ],
)
def test_a_database_that_cannot_be_used_is_refused_at_once(uri, match, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("pymysql", "pyodbc"):
        monkeypatch.setitem(sys.modules, name, None)  # wherever the tests run, it is not there
    with pytest.raises(TrackingError, match=match) as error:
        check_uri(uri)
    assert "Leave --tracking-uri out" in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_addresses_that_are_right_pass_and_passwords_are_not_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert check_uri("http://127.0.0.1:5000") == "http://127.0.0.1:5000"
    assert check_uri("postgresql+psycopg://me:secret@host:5432/mlflow").startswith("postgresql")
    assert check_uri("sqlite:///x.db") == f"sqlite:///{tmp_path / 'x.db'}"
    assert check_uri(default_uri(tmp_path)) == default_uri(tmp_path)
    assert public("postgresql://me:secret@host/mlflow") == "postgresql://me@host/mlflow"
    with pytest.raises(TrackingError, match="me@host"):
        check_uri("postgresql://me:secret@host:port/mlflow")


def dropped(publisher):
    """Files below models of run a, and its logged models."""
    client, run = publisher.store.client, runs(publisher)["a"]
    files = [
        each.path for folder in ("models/f0", "models/f1") for each in client.list_artifacts(run.info.run_id, folder)
    ]
    return sorted(files), [model.name for model in client.search_logged_models(["1"])]


def test_what_is_dropped_is_deleted_in_mlflow_and_what_never_got_there_is_no_matter(
    journal, publisher, mlruns, tmp_path, caplog
):
    run = begin(journal.run("a"))
    for name in ("models/f0/config.json", "models/f1/config.json", "kept.txt"):
        run.write(name, "x")
    run.model(model_folder(tmp_path / "m"), "final", {})
    publisher.publish_all()
    assert dropped(publisher) == (["models/f0/config.json", "models/f1/config.json"], ["final"])
    (place,) = [model.artifact_location for model in publisher.store.client.search_logged_models(["1"])]
    run.drop("models/")
    run.write("models/f1/config.json", "again")
    run.write("models/f0/never.json", "x")
    run.model(model_folder(tmp_path / "m", "never"), "other", {})
    run.drop("models/f0")
    run.drop("models/other")
    with caplog.at_level(logging.WARNING, TRACKING):
        publisher.publish_all()
        assert dropped(publisher) == (["models/f1/config.json"], [])
        assert not list(Path(place.removeprefix("file://")).glob("*"))
        publisher.courier.cursors.path.unlink()
        Publisher(journal, default_uri(mlruns), mlruns).publish_all()
    assert dropped(publisher) == (["models/f1/config.json"], [])
    assert not caplog.records
    run.model(model_folder(tmp_path / "m"), "final", {})
    publisher.publish_all()
    assert dropped(publisher)[1] == ["final"]


def test_what_is_dropped_while_it_is_delivered_is_left_out_in_silence(journal, publisher, monkeypatch, caplog):
    run = begin(journal.run("a"))
    run.write("models/f0/config.json", "x")
    seen = run.since(0)[0]
    run.drop("models")
    with caplog.at_level(logging.WARNING, TRACKING):
        mlflow_id, _ = find_or_create(
            publisher.store.client, run, publisher.store.experiment("synthetic")[0], None, seen[0]
        )
        deliver(publisher.store.client, "1", mlflow_id, run, seen)
        assert not caplog.records
        run.write("gone.txt", "x").unlink()
        publisher.publish_all()
    assert "artifact 'gone.txt' was left out" in caplog.text


def test_a_run_created_twice_is_one_whoever_asks(journal, publisher):
    client, experiment = publisher.store.client, publisher.store.experiment("synthetic")[0]
    ghosts = [client.create_run(experiment, 1, {"journal": "a"}).info.run_id for _ in range(3)]
    run = begin(journal.run("a"))
    publisher.publish_all()
    assert runs(publisher)["a"].info.run_id == min(ghosts)
    late = client.create_run(experiment, 1, {"journal": "a"}).info.run_id
    run.metrics({"val_auc": 0.5})
    publisher.courier.cursors.path.unlink()
    publisher.publish_all()
    assert runs(publisher)["a"].info.run_id == min(ghosts)
    assert client.get_run(late).info.lifecycle_stage == "deleted"


def test_a_journal_torn_in_the_middle_of_a_line_is_delivered_all_the_same(journal, publisher):
    run = begin(journal.run("a"))
    with run.events.open("ab") as stream:
        stream.write(b'{"time": 1, "ev')
    assert publisher.publish_all() == 1
    assert publisher.undelivered() == []
    assert publisher.publish_all() == 0
    run.metrics({"val_auc": 0.5})
    assert publisher.undelivered() == ["a"]
    publisher.publish_all()
    assert runs(publisher)["a"].data.metrics == {"val_auc": 0.5}


def test_cursors_are_compacted_and_read_by_others_meanwhile(tmp_path):
    mine, others = Cursors(tmp_path / "cursors.jsonl"), Cursors(tmp_path / "cursors.jsonl")
    for number in range(1100):
        mine.keep(f"r{number % 3}", Cursor(number, "id", "store", "e"))
        if number == 500:
            others.refresh()
    assert len((tmp_path / "cursors.jsonl").read_text().splitlines()) < 200
    with (tmp_path / "cursors.jsonl").open("ab") as stream:
        stream.write(b'{"run": "r0", "offset": 1}\n{"run": "r0", "off')
    mine.keep("r9", Cursor(9, "id", "store", "e"))
    expected = {"r0": 1098, "r1": 1099, "r2": 1097, "r9": 9}
    assert {run: cursor.offset for run, cursor in others.refresh().items()} == expected


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://admin:s3cret@host:5000/api", "http://admin@host:5000/api"),
        ("postgresql://host/db?user=u&password=s3cret&x=1", "postgresql://host/db?user=u&password=...&x=1"),
        ("cannot reach http://admin:s3cret@host: refused", "cannot reach http://admin@host: refused"),
    ],
)
def test_no_password_is_ever_told(text, shown):
    assert told(text) == shown


def test_a_link_has_neither_user_nor_password():
    assert without_user("http://admin:s3cret@host:5000") == "http://host:5000"
    assert public("postgresql://host/db?password=s3cret") == "postgresql://host/db?password=..."


def test_a_database_whose_making_was_killed_is_made_anew(tmp_path):
    script = (
        "import sys; from pathlib import Path; from mammo_lightning.tracking.store import Store, default_uri; "
        "folder = Path(sys.argv[1]); Store(default_uri(folder), folder).client"
    )
    maker = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    part, deadline = tmp_path / "mlflow.db.part", time.monotonic() + 120
    while not (part.exists() and part.stat().st_size > 0):
        assert maker.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.001)
    maker.kill()
    maker.wait()
    assert part.exists()
    assert not (tmp_path / "mlflow.db").exists(), "it was killed half-way"
    made = Store(default_uri(tmp_path), tmp_path)
    assert [each.name for each in made.client.search_experiments()] == ["Default"]
    assert not part.exists()
