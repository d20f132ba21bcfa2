"""The verb `promote`: what it prints, and how it ends."""

from pathlib import Path

import pytest
from registered import copied

from experiments import promote, register
from experiments.cli import run


@pytest.fixture(scope="module")
def mlruns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(tmp_path_factory.mktemp("promote") / "mlruns")


def ended(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["promote", *words])
    with pytest.raises(SystemExit, match=r"\d") as end:
        run(promote.app)
    return int(str(end.value.code))


def test_promoted_refused_and_overridden(
    mlruns: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ("--mlruns", str(mlruns))
    for number, word in enumerate(("first", "strict"), 1):
        register.app([word, "--name", "micro", "--alias", "challenger", *where], standalone_mode=False)
        capsys.readouterr()
        code = ended(monkeypatch, "micro", "--to", "champion", *where)
        said = capsys.readouterr()
        assert code == (0, 2)[number - 1]
    assert said.out == ""
    lines = said.err.splitlines()
    assert lines[0] == "error: micro version 2 does not become champion:"
    assert lines[1] == "  non-inferiority to micro version 1 is not shown (margin 0.05)"
    assert lines[2].startswith("  sensitivity -0.")
    assert lines[3].startswith("  specificity +0.")
    assert len(lines) == 4
    assert ended(monkeypatch, "micro", "--override", "fewer alarms are wanted", *where) == 0
    out = capsys.readouterr().out
    assert "override: fewer alarms are wanted" in out
    assert "micro version 2 becomes champion (not shown); version 1 is previous-champion" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nobody"], "no registered model 'nobody' in "),
        (["nobody", "--mlruns", "nowhere"], "no runs in 'nowhere'"),
        (["n", "--to", "v1"], "'v1' is no alias"),
        (["n", "--margin", "0"], "--margin 0 is no share"),
        ([], "Missing argument"),
    ],
)
def test_bad_input_is_one_line(
    mlruns: Path,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert ended(monkeypatch, *(words if "--mlruns" in words else [*words, "--mlruns", str(mlruns)])) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
