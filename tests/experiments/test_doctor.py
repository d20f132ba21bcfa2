"""The verb: one line a finding, 1 if one is bad, and repairs that lose nothing."""

import sys

import pytest
from tracking.conftest import empty_database, mlruns  # noqa: F401 # fixtures
from tracking.story import begin, small_study

from experiments import cli
from experiments.doctor import app
from mammo_lightning.ledger import Ledger
from mammo_lightning.owner import Owner
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.tracking.publish import Publisher
from mammo_lightning.tracking.store import Store, default_uri


@pytest.fixture
def doctor(capsys, monkeypatch):
    def call(*words):
        monkeypatch.setattr(sys, "argv", ["doctor", *map(str, words)])
        with pytest.raises(SystemExit, match=r"\d") as end:
            cli.run(app)
        said = capsys.readouterr()
        assert said.err == ""
        lines = said.out.splitlines()
        assert all(line[:6] in ("ok    ", "warn  ", "bad   ") for line in lines)
        return end.value.code, {line[6:].partition(":")[0]: line for line in lines}

    return call


def test_a_new_folder_is_fine(tmp_path, doctor):
    code, found = doctor("--mlruns", tmp_path / "mlruns")
    assert code == 0
    assert all(line.startswith("ok ") for name, line in found.items() if name != "disk")
    assert not (tmp_path / "mlruns").exists(), "looking leaves nothing behind"


def test_something_bad_ends_with_one(tmp_path, doctor):
    code, found = doctor("--mlruns", tmp_path, "--root", tmp_path / "absent")
    assert code == 1
    assert found["data"] == f"bad   data: no such folder or file '{tmp_path / 'absent'}'. Pass --root"


def test_a_killed_study_is_mended(mlruns, doctor):  # noqa: F811
    """Its owner is dead: the run is ended, told to MLflow, and what was half-written goes."""
    ledger = Ledger(f"sqlite:///{mlruns / 'studies.db'}", mlruns)
    identity, _ = ledger.found("demo", {}, fresh=False)
    journal, uri = Journal(mlruns), default_uri(mlruns)
    run = begin(journal.run(identity), "study", "demo")
    Publisher(journal, uri, mlruns).publish_all()
    small_study(journal)
    store = Store(uri, mlruns)
    experiment, _ = store.experiment("synthetic")

    def state():
        return store.client.search_runs([experiment], f"tags.journal = '{identity}'")[0].info.status

    code, found = doctor("--mlruns", mlruns)
    assert code == 0
    assert found["orphans"].startswith("warn  orphans: 1 runs neither ended nor are worked on")
    assert found["delivery"].startswith("warn  delivery: 5 runs are not")
    assert state() == "RUNNING"
    assert run.outcome is None, "without --repair nothing changes"
    code, found = doctor("--mlruns", mlruns, "--repair")
    assert code == 0
    assert {line[:4] for line in found.values()} == {"ok  "}
    assert (run.outcome, run.reason) == ("interrupted", "signal")
    assert state() == "KILLED"
    _, found = doctor("--mlruns", mlruns)
    assert {line[:4] for line in found.values()} == {"ok  "}


def test_a_study_that_runs_is_not_touched(mlruns, doctor):  # noqa: F811
    ledger = Ledger(f"sqlite:///{mlruns / 'studies.db'}", mlruns)
    identity, _ = ledger.found("demo", {}, fresh=False)
    run = begin(Journal(mlruns).run(identity), "study", "demo")
    assert ledger.take(f"{identity}.lead")
    assert ledger.owner == str(Owner.me())
    _, found = doctor("--mlruns", mlruns, "--repair")
    assert found["orphans"] == "ok    orphans: none; 1 runs are being worked on"
    assert run.outcome is None
    ledger.close()
    _, found = doctor("--mlruns", mlruns, "--repair")
    assert "1 ended as interrupted" in found["orphans"]
