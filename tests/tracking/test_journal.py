import errno
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tracking.story import begin, png

from mammo_lightning.errors import TrackingError
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.types import Outcome, digest


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


def test_the_index_of_runs_is_only_a_help(journal, tmp_path):
    for name in ("b", "a"):
        begin(journal.run(name))
    index = journal.folder / "runs.jsonl"
    assert journal.runs() == ["b", "a"]
    index.write_bytes(index.read_bytes()[:-5] + b'\x00garbage\n[1]\n{"run": 3}\n')
    begin(journal.run("c"))
    assert Journal(tmp_path).runs() == journal.runs() == ["b", "a", "c"]
    index.unlink()
    assert Journal(tmp_path).runs() == ["b", "a", "c"]
    shutil.rmtree(journal.folder / "a")
    assert Journal(tmp_path).runs() == journal.runs() == ["b", "c"]


def test_an_artifact_shares_its_file_and_replacing_either_leaves_the_other(journal, tmp_path):
    run = begin(journal.run("a"))
    source = tmp_path / "fit" / "model.safetensors"
    source.parent.mkdir()
    source.write_bytes(b"weights")
    for _ in range(2):
        kept = run.artifact(source, "models/f0/model.safetensors")
    assert kept.samefile(source)
    assert list(kept.parent.iterdir()) == [kept]
    source.unlink()
    source.write_bytes(b"another fit")
    assert kept.read_bytes() == b"weights"
    run.artifact(source, "models/f0/model.safetensors")
    run.write("models/f0/model.safetensors", b"written")
    assert source.read_bytes() == b"another fit"
    assert [event["digest"] for event in events(run, "artifact")] == [
        digest(content) for content in (b"weights", b"another fit", b"written")
    ]


def test_where_there_are_no_links_an_artifact_is_a_copy(journal, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EXDEV, "another device")

    source = tmp_path / "file"
    source.write_text("content")
    monkeypatch.setattr(Path, "hardlink_to", refuse)
    kept = begin(journal.run("a")).artifact(source, "file")
    assert kept.read_text() == "content"
    assert not kept.samefile(source)
    assert list(kept.parent.iterdir()) == [kept]


def test_times_never_go_backwards_whatever_the_clock_does(journal, monkeypatch):
    clock = [2_000_000_000_000_000_000]
    monkeypatch.setattr(time, "time_ns", lambda: clock[0])
    parent = begin(journal.run("parent"), "study", "study")
    clock[0] -= 3_600_000_000_000
    child = begin(journal.run("child"), parent="parent")
    child.metrics({"val_auc": 0.5})
    clock[0] -= 3_600_000_000_000
    for run in (Journal(journal.folder.parent).run("child"), parent):
        run.end("completed")
    times = [event["time"] for run in (parent, child) for event in run.since(0)[0]]
    assert times == [2_000_000_000_000] * 5
    assert Journal(journal.folder.parent).runs() == ["parent", "child"]


@pytest.mark.parametrize(
    "tail", [b"\0" * 300, b"\xff\xfe{}\n\0\n\r", b'{"time": 1, "event": "metrics"}\n', b"[" * 100_000, b'{"time": 1}']
)
def test_a_damaged_tail_costs_itself_only_and_is_counted(journal, tmp_path, tail):
    run = begin(journal.run("a"))
    run.metrics({"val_auc": 0.9})
    assert run.unreadable() == 0
    with run.events.open("ab") as stream:
        stream.write(tail)
    again = Journal(tmp_path).run("a")
    assert again.read_metrics() == {"val_auc": 0.9}
    assert again.unreadable() > 0
    again.end("completed")
    damage = again.unreadable()
    assert damage == Journal(tmp_path).run("a").unreadable() > 0
    assert Journal(tmp_path).run("a").outcome is Outcome.completed
    assert run.read_metrics() == {"val_auc": 0.9}


def test_a_damaged_head_can_be_begun_again(journal, tmp_path):
    run = begin(journal.run("a"))
    run.events.write_bytes(b"\0" * run.events.stat().st_size)
    assert Journal(tmp_path).runs() == []
    begin(Journal(tmp_path).run("a"))
    assert Journal(tmp_path).runs() == ["a"]


def test_a_full_disk_is_said_and_costs_no_line_before_or_after(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == (
        f"'{tmp_path}/journal/a' cannot be written to (File too large); nothing said before is lost. "
        "Free some space or mend the folder, then give the same command again\n" * 2
    )
    run = Journal(tmp_path).run("a")
    assert run.unreadable() == 1
    assert run.read_tags() == {"before": "1", "after": "1"}
    assert [path.name for path in run.artifacts.iterdir()] == []


# a limit of this process alone, which like a full disk lets a part of a line through
FULL = """
import resource, signal, sys
from pathlib import Path
from mammo_lightning.errors import TrackingError
from mammo_lightning.tracking.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
run = Journal(Path(sys.argv[1])).run("a")
run.begin(kind="trial", name="a", study="s", parent=None, experiment="e", tags={})
run.tags({"before": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
for say in (lambda: run.tags({"long": "x" * 5000}), lambda: run.write("big", b"x" * 5000)):
    try:
        say()
    except TrackingError as error:
        print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
run.tags({"after": 1})
"""


def test_what_is_dropped_goes_and_may_be_written_again(journal, tmp_path):
    run = begin(journal.run("a"))
    for name in ("models/f0/config.json", "models/f1/config.json", "models.txt", "figures/roc.png"):
        run.write(name, "x")
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "MLmodel").write_text("x")
    run.model(folder, "final", {})
    run.image("roc", png(1))
    run.drop("models/f0")
    left = sorted(path.name for path in run.artifacts.rglob("*.*"))
    assert left == ["config.json", "models.txt", "roc.png"]
    assert (run.folder / "models" / "final").is_dir()
    run.drop("models/")
    Journal(tmp_path).run("a").drop("models")  # said already
    assert [event["name"] for event in events(run, "drop")] == ["models/f0", "models"]
    assert sorted(path.name for path in run.artifacts.rglob("*.*")) == ["models.txt", "roc.png"]
    assert not (run.folder / "models").exists()
    assert len(list((run.folder / "images").iterdir())) == 1
    run.write("models/f0/config.json", "x")
    run.model(folder, "final", {})
    assert len(events(run, "artifact")) == 5
    assert len(events(run, "model")) == 2


def test_a_drop_that_was_killed_is_finished_and_touches_nothing_else(journal):
    run = begin(journal.run("a"))
    run.write("models/f0/config.json", "x")
    run.write("events.jsonl", "no journal")
    run.drop("models")
    left = run.artifacts / "models" / "f0" / "config.json"
    left.parent.mkdir(parents=True)
    left.write_text("still here")
    run.drop("models")
    assert not left.exists()
    assert len(events(run, "drop")) == 1
    run.drop("events.jsonl")
    assert run.outcome is None
    assert [event["event"] for event in run.since(0)[0]] == ["begin", "artifact", "artifact", "drop", "drop"]
    for name in ("", "..", "/"):
        with pytest.raises(TrackingError, match="leaves its run"):
            run.drop(name)
