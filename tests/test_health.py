"""Every check finds what it is for, says nothing where all is well, and never raises."""

import http.server
import json
import os
import sqlite3
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import psutil
import pytest
from filelock import FileLock
from sqlalchemy import create_engine, insert, update
from tracking.conftest import empty_database, mlruns  # noqa: F401 # fixtures
from tracking.story import begin, small_study

from mammo_lightning.datamodules.cache import decoded
from mammo_lightning.health import delivery, identifiers, images, machine, runs, stores
from mammo_lightning.health.checks import Places, examine
from mammo_lightning.health.finding import Finding, State, guarded, listed, size
from mammo_lightning.health.survey import Survey
from mammo_lightning.ledger import LEASES, STUDIES, Ledger
from mammo_lightning.owner import Owner
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.tracking.publish import Publisher
from mammo_lightning.tracking.store import Store, default_uri

GONE = replace(Owner.me(), started="0")  # this process's number, begun at another time


def only(findings) -> Finding:
    (finding,) = findings
    assert "\n" not in str(finding)
    return finding


def test_a_check_that_cannot_run_is_a_finding():
    def broken():
        yield Finding(State.ok, "a", "fine")
        raise OSError("first line\nsecond")

    fine, failed = guarded("disk", broken)
    assert fine.state is State.ok
    assert str(failed) == "bad   disk: could not be checked (OSError: first line)"


def test_words_of_a_finding():
    assert str(Finding(State.warn, "disk", "full", "Free some")) == "warn  disk: full. Free some"
    assert listed(["c", "a", "b", "d"]) == "a, b, c and 1 more"
    assert [size(count) for count in (0, 999, 1500, 2_000_000, 37_000_000_000)] == ["0 B", "999 B", "1.5 kB", "2.0 MB",
                                                                                   "37 GB"]  # fmt: skip


def test_versions_are_compared_with_the_bounds(monkeypatch):
    assert only(machine.versions()).state is State.ok
    own = {
        "mammo-lightning": ["numpy>=99", "absent-thing>=1", "ray>=99; extra == 'ray'"],
        "torchvision": ["torch==1.0"],
    }
    monkeypatch.setattr(machine, "requires", own.get)
    found = only(machine.versions())
    assert found.state is State.bad
    assert "is not >=99; absent-thing is not installed; torchvision" in found.text
    assert "needs another torch: torch" in found.text
    assert "ray" not in found.text


def test_a_mixed_pair_of_builds_is_bad(monkeypatch):
    real = machine.version
    monkeypatch.setattr(machine, "version", lambda name: real(name) + ("+cpu" if name == "torch" else ""))
    monkeypatch.setattr(machine, "requires", lambda name: [])
    assert "torch is a cpu build, torchvision a default one" in only(machine.versions()).text


@pytest.mark.parametrize(("free", "state"), [(10**10, State.ok), (10**9, State.warn), (10**6, State.bad)])
def test_disk(tmp_path, monkeypatch, free, state):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    writable, room = machine.disk(tmp_path / "mlruns")
    assert (writable.state, room.state) == (State.ok, state)
    assert not (tmp_path / "mlruns").exists()


def test_a_folder_that_cannot_be_written_to():
    assert next(machine.disk(Path("/proc/mlruns"))).state is State.bad


def test_a_network_file_system_is_told_from_a_local_one(monkeypatch, tmp_path):
    mounts = [("/", "ext4"), (str(tmp_path), "nfs4"), (str(tmp_path / "scratch"), "xfs")]
    parts = [SimpleNamespace(mountpoint=place, fstype=kind) for place, kind in mounts]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: parts)
    assert machine.network(tmp_path / "studies.db") == "nfs4"
    assert machine.network(tmp_path / "scratch" / "studies.db") == ""


def test_a_driver_that_torch_cannot_use_is_bad(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine, "_driver", lambda: "")
    assert only(machine.gpu()).state is State.ok
    monkeypatch.setattr(machine, "_driver", lambda: "driver 470.1, Card")
    assert only(machine.gpu()).text.startswith("driver 470.1, Card, but torch")


def test_data_root(tmp_path):
    assert only(images.data_root(tmp_path / "absent")).state is State.bad
    assert "no image below" in only(images.data_root(tmp_path)).text
    for name in ("a.png", "b.DCM", "notes.txt"):
        (tmp_path / name).write_bytes(b"0")
    assert only(images.data_root(tmp_path)).text.startswith("2 images below")
    assert only(images.data_root(tmp_path / "a.png")).state is State.ok


@pytest.fixture
def cache(tmp_path):
    import pandas as pd

    frame = pd.DataFrame({"image": [f"i{number}" for number in range(20)]})
    rng = np.random.default_rng(0)
    options = {"size": None, "lenient": False, "progress": lambda items, *_: items}
    decoded(tmp_path / "cache" / "toy-1", frame, lambda _: rng.integers(0, 99, (9, 9), dtype=np.uint8), **options)
    return tmp_path / "cache" / "toy-1"


def change_a_pixel(folder):
    pixels = np.load(folder / "images.npy", mmap_mode="r+")
    pixels[7, 0, 0, 0] += 1
    pixels.flush()


def cut(folder):
    with (folder / "images.npy").open("r+b") as stream:
        stream.truncate(300)


def empty(folder):
    (folder / "meta.json").write_text("")


@pytest.mark.parametrize("harm", [change_a_pixel, cut, empty])
def test_a_damaged_cache_is_found_and_removed(cache, harm):
    folder = cache.parents[1]
    assert only(images.caches(folder, False)).state is State.ok
    harm(cache)
    found = only(images.caches(folder, False))
    assert found.state is State.bad
    assert "'toy-1' is damaged" in found.text
    assert cache.exists()
    assert only(images.caches(folder, True)).state is State.ok
    assert not cache.exists()
    assert only(images.caches(folder, True)).text == "none yet"


def test_a_cache_that_is_being_made_stays(cache):
    empty(cache)
    with FileLock(f"{cache}.lock"):
        assert "another process holds it" in only(images.caches(cache.parents[1], True)).text
    assert cache.exists()


def old(folder, seconds=10_000):
    """Everything below a folder was last touched a while ago."""
    then = time.time() - seconds
    for path in sorted(folder.rglob("*"), reverse=True):
        os.utime(path, (then, then))


@pytest.mark.parametrize(
    "harm",
    [
        lambda data: data[:-5],
        lambda data: data[:-5] + b'\n{"time": 9, "event": "reopen"}\n',
        lambda data: data[:900] + b"\0" * 64 + data[964:],
        lambda data: data + b"\xff\xfe garbage\n",
    ],
    ids=["cut", "cut and gone on", "power cut", "garbage"],
)
def test_damaged_lines_are_counted_and_all_other_runs_seen(tmp_path, harm):
    small_study(Journal(tmp_path))
    old(tmp_path)
    assert only(runs.lines(Survey(tmp_path))).state is State.ok
    events = tmp_path / "journal" / "demo-1.t001" / "events.jsonl"
    events.write_bytes(harm(events.read_bytes()))
    old(tmp_path)
    survey = Survey(tmp_path)
    assert only(runs.lines(survey)).text == "1 of 5 runs have a cut or damaged line (demo-1.t001)"
    assert survey.runs.keys() == set(Journal(tmp_path).runs())


def test_a_run_whose_beginning_is_lost_is_bad(tmp_path):
    small_study(Journal(tmp_path))
    (tmp_path / "journal" / "demo-1" / "events.jsonl").write_bytes(b"\0" * 100)
    assert only(runs.lines(Survey(tmp_path))).state is State.bad


def test_the_survey_agrees_with_the_journal(tmp_path):
    journal = Journal(tmp_path)
    small_study(journal)
    begin(journal.run("demo-1.t000"), parent="demo-1", trial="0")
    journal.run("demo-1.t001").tags({"late": "after the end"})
    survey = Survey(tmp_path)
    for name, seen in survey.runs.items():
        run = journal.run(name)
        assert (seen.identity, seen.ended, seen.outcome) == (run.identity, run.outcome is not None, run.outcome or "")
    assert not survey.runs["demo-1.t000"].ended
    assert survey.root(survey.runs["demo-1.t001"]).run_id == "demo-1"


@pytest.fixture
def study(tmp_path):
    """A study with an open run and two open trials, known to the storage; nobody holds them."""
    uri = f"sqlite:///{tmp_path / 'studies.db'}"
    ledger = Ledger(uri, tmp_path)
    ledger.found("demo", {}, fresh=False)
    with create_engine(uri).begin() as connection:
        connection.execute(update(STUDIES).values(id="demo-1"))
    journal = Journal(tmp_path)
    begin(journal.run("demo-1"), "study", "demo")
    for slot in range(2):
        begin(journal.run(f"demo-1.t{slot:03d}"), parent="demo-1", trial=str(slot))
    return SimpleNamespace(folder=tmp_path, uri=uri, journal=journal)


def hold(study, key, owner):
    with create_engine(study.uri).begin() as connection:
        connection.execute(insert(LEASES).values(key=key, owner=str(owner), home="", attempt=0, beat=0))


@pytest.mark.parametrize(
    ("owner", "orphaned"), [(None, 3), (GONE, 3), (Owner.me(), 0), (replace(GONE, host="elsewhere"), 0)]
)
def test_runs_are_orphans_where_nobody_alive_holds_their_study(study, owner, orphaned):
    if owner:
        hold(study, "demo-1.t001", owner)
    found = only(runs.orphans(Survey(study.folder), study.uri, False))
    assert found.state is (State.warn if orphaned else State.ok)
    assert found.text.startswith(f"{orphaned} runs neither" if orphaned else "none; 3 runs")


def test_orphans_are_ended_as_interrupted(study):
    assert only(runs.orphans(Survey(study.folder), study.uri, True)).state is State.ok
    run = study.journal.run("demo-1.t000")
    assert (run.outcome, run.reason) == ("interrupted", "signal")
    assert only(runs.orphans(Survey(study.folder), study.uri, True)).text == "none; 0 runs are being worked on"


def test_runs_of_another_storage_are_not_ended(study, tmp_path_factory):
    other = f"sqlite:///{tmp_path_factory.mktemp('other') / 'studies.db'}"
    Ledger(other, study.folder)
    old(study.folder / "journal")
    elsewhere, none = runs.orphans(Survey(study.folder), other, True)
    assert "3 open runs belong to studies that" in elsewhere.text
    assert none.text.startswith("none")
    assert study.journal.run("demo-1").outcome is None


def test_a_comparison_that_stands_still_is_an_orphan(tmp_path):
    begin(Journal(tmp_path).run("compare"), "comparison", "compare")
    assert only(runs.orphans(Survey(tmp_path), None, True)).text == "none; 1 runs are being worked on"
    old(tmp_path)
    assert "1 ended as interrupted (compare)" in only(runs.orphans(Survey(tmp_path), None, True)).text


def test_leftovers_go_only_when_they_are_old_and_nobody_works(study):
    parts = [
        study.folder / "cache" / "toy-1.part" / "images.npy",
        study.folder / "studies" / "demo.part",
        study.folder / "journal" / "demo-1.t000" / "folds" / "f0" / "fit.json.part",
        study.folder / "journal" / "demo-1.t000" / "artifacts" / ".roc.png.ab12cd_9",
    ]
    kept = [study.folder / "journal" / "demo-1.t000" / "artifacts" / "roc.part.png"]
    for path in [*parts, *kept]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    assert only(runs.leftovers(Survey(study.folder), True)).text == "no half-written file"
    old(study.folder)
    assert only(runs.leftovers(Survey(study.folder), False)).text.startswith("4 half-written files (")
    assert all(path.exists() for path in parts)
    assert only(runs.leftovers(Survey(study.folder), True)).text == "4 half-written files removed"
    assert [path.exists() for path in [*parts, *kept]] == [False] * 4 + [True]


SAID = {
    "DOE^JANE": "a name",
    "Müller^Anna^^Dr": "a name",
    "born 1961-04-23": "a date",
    "23.4.1961": "a date",
    "scan_19610423_left": "a date",
    "PID 0012345678": "a number",
    "scan_0012345678_left": "a number",
    "MRN0012345678": "a number",
    "1.2.840.113619.2.55.3.604345678": "a DICOM UID",
    "/home/jane.doe/patches": "a home folder",
    "C:\\Users\\Jane\\patches": "a home folder",
}


PLACES = ("tag", "parameter", "source", "artifact", "study")


@pytest.mark.parametrize(
    ("text", "place"), [(text, place) for text in SAID for place in PLACES if "/" not in text or place != "artifact"]
)
def test_identifiers_are_found_masked_wherever_they_stand(tmp_path, text, place):
    run = begin(Journal(tmp_path).run("r"), study=text if place == "study" else "demo", **{"note": "plain"})
    match place:
        case "tag":
            run.tags({"remark": text})
        case "parameter":
            run.params({"remark": text})
        case "source":
            run.dataset("folder", "abc", text)
        case "artifact":
            run.write(f"{text}.txt", b"")
    found = only(identifiers.identifiers(Survey(tmp_path)))
    assert found.state is State.warn
    assert f"1 run may hold {SAID[text]}: " in found.text
    assert text not in str(found)
    for word in ("JANE", "Anna", "1961", "345678", "jane.doe", "Jane"):
        assert word not in str(found)


def test_what_the_program_writes_itself_is_no_identifier(tmp_path):
    journal = Journal(tmp_path)
    small_study(journal)
    run = journal.run("demo-1.t000")
    run.tags(
        {
            "seed.f0": "2893475987",
            "folds": "12345678",
            "version.torch": "2.15.0",
            "git.dirty": "false",
            "best": "a12345678",
        }
    )
    run.params({"learning_rate": "0.00012345678", "dropout": 0.1234567890123, "name": "x^2", "epochs": 1000})
    run.dataset("folder", "1234567890abcdef", "/data/patches")
    assert only(identifiers.identifiers(Survey(tmp_path))).state is State.ok


class Fake(http.server.BaseHTTPRequestHandler):
    version, password = "3.17.2", ""

    def do_GET(self):
        open_to_all = self.path == "/version" or not self.password
        status = 200 if open_to_all or self.headers.get("Authorization") == self.password else 401
        body = self.version.encode() if self.path == "/version" else b"{}"
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    servers = []

    def start(host="127.0.0.1", **attributes):
        handler = type("Handler", (Fake,), attributes)
        servers.append(http.server.ThreadingHTTPServer((host, 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


SECRET = "Basic YWRtaW46c2VjcmV0"  # admin:secret


def test_a_server_on_loopback_needs_no_password(serve):
    found = only(stores.tracking(serve()))
    assert found.state is State.ok
    assert "on this machine only" in found.text


def test_a_server_others_reach_needs_one(serve, monkeypatch):
    addresses = {"eth0": [SimpleNamespace(family=2, address="127.0.0.2")]}
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: addresses)
    real = stores.ipaddress.ip_address
    monkeypatch.setattr(
        stores.ipaddress,
        "ip_address",
        lambda text: SimpleNamespace(is_loopback=False) if text == "127.0.0.2" else real(text),
    )
    assert only(stores.tracking(serve())).state is State.ok, "it is bound to 127.0.0.1"
    found = only(stores.tracking(serve("0.0.0.0")))
    assert found.state is State.bad
    assert "answers everybody who reaches 127.0.0.2:" in found.text


def test_credentials_are_tried(serve, monkeypatch):
    uri = serve(password=SECRET)
    for name in ("USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    assert "refuses these credentials (401)" in only(stores.tracking(uri)).text
    found = only(stores.tracking(uri.replace("//", "//admin:secret@")))
    assert found.state is State.ok
    assert "secret" not in str(found)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    assert "asks for a password" in only(stores.tracking(uri)).text


@pytest.mark.parametrize(
    ("version", "text"), [("3.16.9", "is MLflow 3.16.9, older than 3.17"), ("hello", "its version")]
)
def test_an_old_server_or_another_one_is_bad(serve, version, text):
    found = only(stores.tracking(serve(version=version)))
    assert found.state is State.bad
    assert text in found.text


def test_a_server_that_is_down_is_bad():
    assert "does not answer" in only(stores.tracking("http://127.0.0.1:9")).text


def test_a_damaged_storage_is_bad(study, monkeypatch):
    assert only(stores.storage(study.uri)).state is State.ok
    file = study.folder / "studies.db"
    monkeypatch.setattr(stores, "network", lambda _: "nfs4")
    assert only(stores.storage(study.uri)).state is State.warn
    data = bytearray(file.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    file.write_bytes(bytes(data))
    assert only(stores.storage(study.uri)).state is State.bad
    file.write_bytes(b"no database at all, though long enough for a header" * 9)
    assert "cannot be read" in only(stores.storage(study.uri)).text
    file.unlink()
    assert only(stores.storage(study.uri)).state is State.ok
    assert not file.exists()


def test_trials_of_a_dead_owner_are_found(study):
    search = optuna.create_study(storage=study.uri, study_name="demo-1")
    search.ask()
    search.ask()
    hold(study, "demo-1.t000", Owner.me())
    hold(study, "demo-1.t001", GONE)
    found = only(stores.trials(study.uri))
    assert found.state is State.warn
    assert "(demo-1.t001)" in found.text
    search.tell(1, 0.5)
    assert only(stores.trials(study.uri)).text == "1 running, all with a living owner"


def test_what_is_not_delivered_is_said_and_delivered(mlruns):  # noqa: F811
    small_study(Journal(mlruns))
    uri = default_uri(mlruns)
    assert only(delivery.undelivered(Survey(mlruns), uri, False)).text.startswith("5 runs are not, or not wholly")
    assert only(delivery.undelivered(Survey(mlruns), uri, True)).text.startswith("5 runs delivered")
    assert only(delivery.undelivered(Survey(mlruns), uri, False)).state is State.ok


def test_runs_that_ended_do_not_show_as_running(mlruns):  # noqa: F811
    journal, uri = Journal(mlruns), default_uri(mlruns)
    small_study(journal)
    Publisher(journal, uri, mlruns).publish_all()
    store = Store(uri, mlruns)
    experiment, _ = store.experiment("synthetic")
    run = store.client.search_runs([experiment], "tags.journal = 'demo-1.t001'")[0]
    assert only(delivery.running(Survey(mlruns), uri, False)).state is State.ok
    store.client.update_run(run.info.run_id, status="RUNNING")
    store.client.create_run(experiment)
    assert only(delivery.running(Survey(mlruns), uri, False)).text.endswith("show as running (demo-1.t001)")
    assert only(delivery.running(Survey(mlruns), uri, True)).state is State.ok
    assert store.client.get_run(run.info.run_id).info.status == "FINISHED"
    assert "1 of other machines or programs" in only(delivery.running(Survey(mlruns), uri, False)).text


def garbage_journal(folder):
    for name, data in {"a": b"", "b": b"\xff" * 99, "c": b'{"time": 1, "event": "begin", "identity": 3}\n' * 2}.items():
        (folder / "journal" / name).mkdir(parents=True)
        (folder / "journal" / name / "events.jsonl").write_bytes(data)
    (folder / "journal" / "d").mkdir()
    (folder / "journal" / "e").write_text("a file")


def garbage_databases(folder):
    (folder / "studies.db").write_bytes(os.urandom(5000))
    (folder / "mlflow.db").write_bytes(b"")


def garbage_cache(folder):
    (folder / "cache" / "x-1").mkdir(parents=True)
    (folder / "cache" / "x-2").mkdir()
    (folder / "cache" / "x-2" / "meta.json").write_text(json.dumps([1]))


def other_tables(folder):
    with sqlite3.connect(folder / "studies.db") as database:
        database.execute("CREATE TABLE trials (x INTEGER)")
        database.execute("CREATE TABLE mammo_leases (x INTEGER)")


@pytest.mark.parametrize("harm", [garbage_journal, garbage_databases, garbage_cache, other_tables])
@pytest.mark.parametrize("repair", [False, True])
def test_nothing_raises_whatever_lies_there(tmp_path, harm, repair):
    harm(tmp_path)
    found = list(examine(Places(tmp_path, root=tmp_path / "absent"), repair=repair))
    assert {"versions", "disk", "gpu", "data", "journals", "orphans", "identifiers"} <= {each.what for each in found}
    assert any(each.state is State.bad for each in found)
    for each in found:
        assert len(str(each).splitlines()) == 1


@pytest.mark.parametrize(
    "places", [{"tracking_uri": "nonsense"}, {"storage": "nonsense://x"}, {"storage": "sqlite:///"}]
)
def test_bad_addresses_are_findings(tmp_path, places):
    found = [each for each in examine(Places(tmp_path, **places)) if each.state is State.bad]
    assert {each.what for each in found} <= {"tracking", "storage", "trials", "orphans"}
    assert found


@pytest.mark.parametrize(
    ("free", "product", "state", "words"),
    [(70, 8.0, State.ok, "70 GB of 80 GB free"), (5, 8.0, State.warn, "5.0 GB"), (70, 7.0, State.bad, "wrongly")],
)
def test_a_gpu_is_asked_to_compute(monkeypatch, free, product, state, words):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Card")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free * 10**9, 80 * 10**9))
    result = torch.full((8, 8), product)
    monkeypatch.setattr(torch, "ones", lambda *_, device: type("Probe", (), {"__matmul__": lambda *_: result})())
    found = only(machine.gpu())
    assert found.state is state
    assert words in found.text

    def broken(*_, device):
        raise RuntimeError(f"no kernel image is available for {device}\nmore")

    monkeypatch.setattr(torch, "ones", broken)
    assert only(machine.gpu()).text == "0 (Card) does not compute: no kernel image is available for cuda:0"
