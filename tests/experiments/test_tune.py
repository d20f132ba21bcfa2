"""The command line: bad input is one line, exit code 2, and nothing half-written."""

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from fakes import write_folder

from experiments import cli, tune
from experiments.__main__ import files as verb_files
from experiments.display import Display
from mammo_lightning.reports import Summary
from mammo_lightning.tracking.store import way_in

ROOT = Path(__file__).parents[2]
VERBS = list(verb_files())


def run(*words: str, module: str = "experiments.tune") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *words]
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=300, check=False)


@pytest.mark.parametrize("verb", VERBS)
def test_help_imports_nothing_heavy(verb: str) -> None:
    module = f"experiments.{verb}" + (".__main__" if verb_files()[verb].stem == "__main__" else "")
    code = f"""
import sys
sys.argv = ["x", "--help"]
try:
    from {module} import app; app()
except SystemExit as end:
    assert not end.code
heavy = {{"torch", "mlflow", "pandas", "numpy", "optuna", "sklearn", "cv2", "pytorch_lightning"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


ALONE = ("no folder", "no number")
BAD = {
    "missing root": (
        ["--dataset", "folder", "--root", "absent", "--patient-from", "(p)"],
        "no such file or folder 'absent'",
    ),
    "unknown dataset": (["--dataset", "nothing"], "no dataset 'nothing'; known: cbis_ddsm, folder, idc"),
    "unknown classifier": (["--classifier", "nothing"], "no classifier 'nothing'; known: hyper, linear, scratch"),
    "bad regex": (["--dataset", "folder", "--root", "{data}", "--patient-from", "("], "is not a regular expression"),
    "no group": (["--dataset", "folder", "--root", "{data}", "--patient-from", r"p\d+"], "has no group, and the first"),
    "no patient": (["--dataset", "folder", "--root", "{data}"], "--patient-from 'REGEX'"),
    "too many folds": (
        ["--dataset", "folder", "--root", "{data}", "--patient-from", r"(p\d+)", "--folds", "9"],
        "fewer than 9 folds",
    ),
    "unknown setting": (["--set", "wide=3"], "no setting 'wide'; known:"),
    "bad search": (["--search", "depth=1:"], "is not understood; write depth=1,3,5"),
    "not a pair": (["--search", "depth"], "'depth' is not name=value"),
    "bad objective": (["--objective", "accuracy"], "objective = 'accuracy'"),
    "bad rule": (["--operating-point", "best"], "spec0.80"),
    "bad trap": (["--trap", "wolf"], "wolf"),
    "foreign option": (
        ["--dataset", "microcalc", "--trap", "source"],
        "--trap is not an option of dataset 'microcalc'",
    ),
    "bad uri": (["--tracking-uri", "nonsense://x"], "nonsense"),
    "level": (
        ["--dataset", "folder", "--root", "{data}", "--patient-from", r"(p\d+)", "--level", "patient"],
        "--level patient",
    ),
    "absent recipe": (["absent.toml"], "no recipe 'absent.toml'"),
    "unknown key": (["{recipe}"], "no key 'epoch'"),
    "recipe and options": (["{recipe}", "--trials", "2"], "bad.toml': no key 'epoch'"),
    "no number": (["--trials", "abc"], "Invalid value for '--trials'"),
    "no option": (["--nope"], "No such option: --nope"),
    "no value": (["--trials"], "--trials"),
    "one word too many": (["{recipe}", "more"], "unexpected extra argument"),
    "no rate": (["--set", "learning_rate=0"], "learning_rate=0 is not possible; it must lie in (0, 100]"),
    "no folder": (["--tracking-uri", "sqlite:////nope/dir/x.db"], "no such folder '/nope/dir'"),
    "no database": (["--storage", "http://127.0.0.1:1"], "--storage 'http://127.0.0.1:1' names no database"),
    "database away": (["--storage", "postgresql://me:word@127.0.0.1:1/x"], "'postgresql://me@127.0.0.1:1/x' cannot be"),
    "no workers": (["--workers", "0"], "workers = 0"),
    "no engine": (["--engine", "spark"], "engine = 'spark'"),
    "no accelerator": (["--accelerator", "tpu"], "no accelerator 'tpu'; known:"),
    "no precision": (["--precision", "64"], "no precision '64'; known:"),
    "no such GPU": (["--accelerator", "cpu", "--devices", "0,3"], "--devices '0,3' is for GPUs"),
    "whole GPUs": (["--gpu-share", "2"], "gpu_share = 2"),
    "unwritable": (["--mlruns", "/proc/mlruns"], "cannot be written to"),
}


@pytest.fixture
def in_process(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., tuple[object, str]]]:
    """The verb without the seconds that a process of its own takes to import."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def verb(*words: str) -> tuple[object, str]:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("sys.argv", ["tune", *words])
            patched.chdir(ROOT)
            with pytest.raises(SystemExit, match="2") as end:
                cli.run(tune.app)
        return end.value.code, capfd.readouterr().err

    yield verb
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name: str, tmp_path: Path, in_process: Callable[..., tuple[object, str]]) -> None:
    words, expected = BAD[name]
    write_folder(tmp_path / "data", patients=8)
    (tmp_path / "bad.toml").write_text("epoch = 3\n")
    filled = [
        word.format(data=tmp_path / "data", recipe=tmp_path / "bad.toml") if "{" in word else word for word in words
    ]
    mlruns = tmp_path / "mlruns"
    filled += [] if "--mlruns" in filled else ["--mlruns", str(mlruns)]
    if name in ALONE:  # nothing that is imported has a say of its own, either
        done = run(*filled)
        code, said = done.returncode, done.stderr
    else:
        code, said = in_process(*filled)
    assert code == 2, said
    lines = [line for line in said.splitlines() if line]
    assert len(lines) == 1, said
    assert lines[0].startswith("error: ")
    assert expected in lines[0]
    assert not list(mlruns.glob("journal/*"))
    assert not list(mlruns.glob("studies/*.json"))
    assert not list(mlruns.glob("mlflow.db"))


@pytest.mark.parametrize(
    ("verb", "words"), [("ui", ["--port", "99999"]), ("ui", ["--nope"]), ("audit", ["--size", "x"])]
)
def test_a_wrong_option_is_one_line_for_every_verb(verb: str, words: list[str]) -> None:
    done = run(*words, module=f"experiments.{verb}")
    assert done.returncode == 2
    assert re.fullmatch(rf"error: .*{words[0]}.*\. Try --help\n", done.stderr), done.stderr


@pytest.mark.parametrize("how", [KeyboardInterrupt, typer.Abort])
def test_an_interrupt_is_said_and_ends_in_130(
    how: type[BaseException], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = typer.Typer(add_completion=False)

    @app.command()
    def interrupted() -> None:
        raise how

    monkeypatch.setattr("sys.argv", ["x"])
    with pytest.raises(SystemExit, match="130"):
        cli.run(app)
    assert capsys.readouterr().err == "interrupted; the same command continues\n"


@pytest.mark.parametrize(
    ("uri", "mlruns", "said"),
    [
        (None, "mlruns", "look at it: run `make ui` (or `python -m experiments.ui`), then open"),
        (None, "my runs", "look at it: run `python -m experiments.ui --mlruns 'my runs'`, then open"),
        ("http://127.0.0.1:5000", "mlruns", "look at it: open"),
        (
            "postgresql://me:secret@host/name",
            "mlruns",
            "look at it: run `mlflow server --backend-store-uri postgresql://me@host/name --host 127.0.0.1`, then open",
        ),
    ],
)
def test_the_end_says_how_to_open_the_store_that_was_written_to(
    uri: str | None, mlruns: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    link = "http://127.0.0.1:5000/#/experiments/1/runs?compareRunsMode=[CHART]"
    Display().conclude(Summary("s", "r", "youden", link=link), way_in(uri, Path(mlruns)))
    assert capsys.readouterr().out.splitlines()[-2:] == [said, link]


def test_the_console_script_has_the_same_verbs() -> None:
    done = run("--help", module="experiments")
    assert done.returncode == 0
    assert all(verb in done.stdout for verb in VERBS)
    done = run("nonsense", module="experiments")
    assert done.returncode == 2
    said, _, known = done.stderr.strip().partition("known: ")
    assert said == "error: no verb 'nonsense'; "
    assert set(VERBS) <= set(known.split(", "))
