"""The verb: what it prints, and with which code it ends."""

import socket
from collections.abc import Callable

import pytest

from experiments import cli
from experiments import sync as verb
from mammo_lightning.tracking.journal import Journal


@pytest.fixture
def sync(monkeypatch, capfd) -> Callable[..., tuple[object, str, str]]:
    def run(*words: object) -> tuple[object, str, str]:
        monkeypatch.setattr("sys.argv", ["sync", *map(str, words)])
        with pytest.raises(SystemExit, match=r"\d") as end:  # every code is looked at
            cli.run(verb.app)
        said = capfd.readouterr()
        return end.value.code, said.out, said.err

    return run


@pytest.fixture
def mlruns(tmp_path):
    journal = Journal(tmp_path)
    for name in ("a", "b"):
        run = journal.run(name)
        run.begin(kind="trial", name=name, study="s", parent=None, experiment="synthetic", tags={})
        run.end("completed")
    return tmp_path


def test_it_says_how_many_runs_went_where(sync, mlruns):
    where = f"sqlite:///{mlruns / 'mlflow.db'}"
    assert sync("--mlruns", mlruns) == (0, f"{where}: 2 delivered, 0 there already\n", "")
    assert sync("--mlruns", mlruns, "--tracking-uri", where)[1] == f"{where}: 0 delivered, 2 there already\n"


def test_bad_input_is_one_line(sync, mlruns, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for words, expected in {
        ("--mlruns", str(tmp_path / "none")): "error: no journal in",
        ("--mlruns", str(mlruns), "--tracking-uri", "nonsense://x"): "error: tracking URI 'nonsense://x' names no",
        ("--mlruns", str(mlruns), "--tracking-uri", f"http://127.0.0.1:{port}"): "error: cannot publish to http://",
    }.items():
        code, out, said = sync(*words)
        assert (code, out, said.count("\n")) == (2, "", 1)
        assert said.startswith(expected)


def test_what_could_not_be_delivered_is_said(sync, mlruns, monkeypatch):
    from mammo_lightning.tracking.courier import Courier

    monkeypatch.setattr(Courier, "publish", fail)
    code, out, said = sync("--mlruns", mlruns)
    assert (code, said) == (1, "not delivered: a: OSError: away\nnot delivered: b: OSError: away\n")
    assert out.endswith("0 delivered, 0 there already\n")


def fail(*args, **more):
    raise OSError("away")
