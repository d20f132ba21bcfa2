import json

import pytest
from tracking.story import begin, png

from mammo_lightning.errors import TrackingError
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.types import Outcome


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path)


def events(run, kind):
    return [event for event in run.since(0)[0] if event["event"] == kind]


def test_what_was_said_is_read_back_by_another_process(journal, tmp_path):
    run = begin(journal.run("a"), trial="3")
    run.params({"depth": 3})
    run.metrics({"val_auc": 0.9})
    run.metrics({"fold/val_auc": 0.7}, step=1)
    run.metrics({"fold/val_auc": 0.8}, step=0)
    run.series("roc/tpr", [0.0, 0.5, 1.0])
    run.note("good")
    run.end(Outcome.completed, "done")
    other = Journal(tmp_path).run("a")
    assert other.identity["kind"] == "trial"
    assert other.read_params() == {"depth": "3"}
    assert other.read_metrics() == {"val_auc": 0.9, "fold/val_auc": 0.7, "roc/tpr": 1.0}
    assert other.read_series("roc/tpr") == [0.0, 0.5, 1.0]
    assert other.read_tags() == {"trial": "3", "mlflow.note.content": "good"}
    assert (other.outcome, other.reason) == (Outcome.completed, "done")


def test_a_line_torn_by_a_kill_costs_that_line_only(journal, tmp_path):
    run = begin(journal.run("a"))
    run.metrics({"val_auc": 0.9})
    with run.events.open("ab") as stream:
        stream.write(b'{"time": 1, "event": "metrics", "values": {"val_\xc3')
    assert Journal(tmp_path).run("a").read_metrics() == {"val_auc": 0.9}
    again = Journal(tmp_path).run("a")
    again.metrics({"val_tpr": 0.8})
    assert run.read_metrics() == {"val_auc": 0.9, "val_tpr": 0.8}
    assert Journal(tmp_path).run("a").read_metrics() == {"val_auc": 0.9, "val_tpr": 0.8}


def test_since_stops_before_a_line_that_is_still_being_written(journal):
    run = begin(journal.run("a"))
    _, offset = run.since(0)
    line = json.dumps({"time": 1, "event": "tags", "values": {"x": "1"}}).encode()
    with run.events.open("ab") as stream:
        stream.write(line[:10])
    assert run.since(offset) == ([], offset)
    with run.events.open("ab") as stream:
        stream.write(line[10:] + b"\n")
    assert [event["values"] for event in run.since(offset)[0]] == [{"x": "1"}]


def test_beginning_again_changes_nothing_and_reopens_what_had_ended(journal):
    run = begin(journal.run("a"))
    begin(run)
    assert [event["event"] for event in run.since(0)[0]] == ["begin"]
    run.end("interrupted", "signal")
    assert run.outcome is Outcome.interrupted
    begin(run)
    assert run.outcome is None
    assert [event["event"] for event in run.since(0)[0]] == ["begin", "end", "reopen"]


def test_another_identity_under_the_same_id_is_refused(journal):
    begin(journal.run("a"))
    with pytest.raises(TrackingError, match=r"was begun as .* use another id"):
        begin(journal.run("a"), name="another")


def test_saying_the_same_again_adds_nothing(journal, tmp_path):
    for run in (begin(journal.run("a")), begin(Journal(tmp_path).run("a"))):
        run.metrics({"val_auc": 0.9, "odd": float("nan")})
        run.series("roc/tpr", [0.0, 1.0])
        run.params({"depth": 3})
        run.write("a.txt", "a")
        run.image("roc", png(1))
        run.dataset("synthetic", "d", "here")
    kinds = [event["event"] for event in run.since(0)[0]]
    assert kinds == ["begin", "metrics", "series", "params", "artifact", "image", "dataset"]


def test_a_longer_series_adds_its_new_points_only(journal):
    run = begin(journal.run("a"))
    run.series("epoch/train_loss/f0", [3.0, 2.0])
    run.series("epoch/train_loss/f0", [3.0, 2.0, 1.0])
    assert [event["points"] for event in events(run, "series")] == [[[0, 3.0], [1, 2.0]], [[2, 1.0]]]
    assert run.read_series("epoch/train_loss/f0") == [3.0, 2.0, 1.0]


def test_a_file_that_changes_back_is_said_again(journal):
    run = begin(journal.run("a"))
    for text in ("one", "two", "one"):
        run.write("a.txt", text)
    assert len(events(run, "artifact")) == 3
    assert (run.artifacts / "a.txt").read_text() == "one"


@pytest.mark.parametrize("name", ["../a.txt", "/a.txt", ""])
def test_artifacts_stay_in_their_run(journal, name):
    with pytest.raises(TrackingError, match="leaves its run"):
        begin(journal.run("a")).write(name, "a")


def test_bad_input_is_said_in_one_line(journal, tmp_path):
    run = begin(journal.run("a"))
    with pytest.raises(TrackingError, match="no folder name"):
        journal.run("../a")
    with pytest.raises(TrackingError, match=r"no file .* to keep"):
        run.artifact(tmp_path / "none", "a.txt")
    with pytest.raises(TrackingError, match="no PNG"):
        run.image("roc", b"GIF8")
    with pytest.raises(TrackingError, match="no MLmodel"):
        run.model(tmp_path, "final", {})


def test_a_model_folder_is_kept_with_its_run_and_its_metrics_at_their_time(journal, tmp_path):
    run = begin(journal.run("a"))
    run.metrics({"val_auc": 0.9})
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "MLmodel").write_text("first")
    (folder / "weights").write_text("w")
    run.model(folder, "final", {"val_auc": 0.9})
    (folder / "MLmodel").write_text("written at another time")
    run.model(folder, "final", {"val_auc": 0.9})
    (said,) = events(run, "model")
    assert (run.folder / said["folder"] / "weights").read_text() == "w"
    assert said["metrics"]["val_auc"] == [0.9, events(run, "metrics")[0]["time"]]


def test_runs_stand_in_order_of_their_beginning(journal):
    for name in ("b", "a", "c"):
        begin(journal.run(name))
    journal.run("never")
    assert journal.runs() == ["b", "a", "c"]
