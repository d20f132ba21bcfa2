"""The verb `evaluate`: what it prints and keeps of predictions made elsewhere, and how it ends."""

from pathlib import Path

import pytest
from fakes import predictions

from experiments import cli, evaluate
from mammo_lightning.runs import Runs
from mammo_lightning.tracking.publish import Publisher
from mammo_lightning.types import Kind


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Publishing is tested where it lives; here it only must be asked for."""
    uris: list[str] = []
    monkeypatch.setattr(Publisher, "__init__", lambda self, journal, uri, mlruns: setattr(self, "uri", uri))
    monkeypatch.setattr(Publisher, "close", lambda self, *_: uris.append(self.uri))
    return uris


@pytest.fixture
def call(monkeypatch, capfd, tmp_path, published):
    def run(*words: object) -> tuple[object, str, str]:
        where = [] if "--mlruns" in words else ["--mlruns", str(tmp_path / "m")]
        monkeypatch.setattr("sys.argv", ["evaluate", *map(str, words), *where])
        with pytest.raises(SystemExit, match=r"\d") as end:  # every code is looked at
            cli.run(evaluate.app)
        said = capfd.readouterr()
        return end.value.code, said.out, said.err

    return run


@pytest.fixture
def given(tmp_path: Path) -> Path:
    frame = predictions().frame
    frame[["image", "patient", "label", "fold", "p_negative", "p_positive"]].to_csv(tmp_path / "cad.csv", index=False)
    return tmp_path / "cad.csv"


def test_predictions_of_others_are_a_run_like_any_other(call, given, tmp_path, published):
    code, said, _ = call("--predictions", given, "--name", "vendor", "--dataset", "microcalc")
    assert code == 0
    assert "external vendor" in said
    assert "60+/120- · 60 patients" in said
    assert "warning: unverified: folds, training images; these predictions were made elsewhere" in said
    (name,) = Runs(tmp_path / "m").journal.runs()
    scored = Runs(tmp_path / "m").get(name)
    assert scored.kind is Kind.external
    assert scored.run.identity["experiment"] == "microcalc"
    assert scored.tags["domain"] == "mammography"
    assert len(scored.predictions()) == 180
    assert published


def test_bad_input_is_one_line(call, given, tmp_path):
    (tmp_path / "torn.csv").write_text("image,patient,label,score\na,b\n")
    cases = {
        (): "error: what is to be judged? Pass MODEL",
        ("run", "--predictions", given): f"error: MODEL 'run' and --predictions '{given}' are judged one by one",
        ("run",): "error: on which images? Pass --dataset",
        ("run", "--dataset", "synthetic", "--threshold", "0.2"): "error: --threshold is for --predictions",
        ("run", "--dataset", "synthetic", "--ranks"): "error: --ranks is for --predictions",
        ("run", "--dataset", "synthetic"): "error: no runs in",
        ("--predictions", tmp_path / "none.csv"): "error: table '",
        ("--predictions", tmp_path / "torn.csv"): "error: table '",
        ("--predictions", given, "--level", "woman"): "error: no level 'woman'; known: breast",
        ("--predictions", given, "--operating-point", "best"): "error: no rule 'best'",
        ("--predictions", given, "--threshold", "nan"): "error: --threshold nan is no finite number",
        ("--predictions", given, "--threshold", "inf", "--ranks"): "error: --threshold inf is no finite number",
        ("--predictions", given, "--threshold", "5"): "error: --threshold 5 is no probability, and the scores are",
        ("--predictions", given, "--threshold", "-0.1"): "error: --threshold -0.1 is no probability",
        (
            *("--predictions", given, "--threshold", "0.5"),
            "--operating-point",
            "youden",
        ): "error: --threshold 0.5 is",
        ("--predictions", given, "--positive", "x"): "error: --positive 'x' has no column",
        ("--predictions", given, "--name", "a/b"): "error: the command line: name = 'a/b'",
        ("--predictions", given, "--dataset", "none"): "error: no dataset 'none'",
    }
    for words, expected in cases.items():
        code, out, said = call(*words)
        assert (code, out, said.count("\n")) == (2, "", 1), (words, out, said)
        assert said.startswith(expected), (words, said)
    assert not list(tmp_path.glob("m/journal/external-*"))


@pytest.mark.parametrize(
    ("file", "name"),
    [("scores (1).csv", "scores-1"), ("[b].csv", "b"), (".é-x.y.csv", "x.y"), ("n" * 90 + ".csv", "n" * 48)],
)
def test_a_run_is_named_after_its_file_whatever_that_is_called(call, given, tmp_path, file, name):
    given.rename(tmp_path / file)
    code, said, err = call("--predictions", tmp_path / file)
    assert (code, err) == (0, "")
    assert f"external {name}" in said
    (run_id,) = Runs(tmp_path / "m").journal.runs()
    assert run_id.startswith(f"external-{name}-")
    assert f"run {run_id}: " in said
    (tmp_path / file).rename(tmp_path / "評価.csv")
    code, _, err = call("--predictions", tmp_path / "評価.csv")
    assert (code, err) == (2, "error: no run can be called as '評価.csv' is; pass --name, of letters and digits\n")


def test_brackets_are_printed_as_they_are(call, given, tmp_path):
    given.write_text(given.read_text().replace("p_negative,p_positive", "p_[red],p_[/b]"))
    mlruns = tmp_path / "m[red]" / "[" / "x]"
    code, said, err = call("--predictions", given, "--threshold", "0.5", "--mlruns", mlruns)
    assert (code, err) == (0, "")
    (run_id,) = Runs(mlruns).journal.runs()
    assert said.splitlines()[-1] == f"run {run_id}: {mlruns}/journal/{run_id}/artifacts"
