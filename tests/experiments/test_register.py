"""The verb `register`: what it prints, and how it ends."""

from pathlib import Path

import mlflow
import pytest
from registered import copied

from experiments import register
from experiments.cli import run
from mammo_lightning.tracking.store import default_uri


@pytest.fixture(scope="module")
def mlruns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(tmp_path_factory.mktemp("register") / "mlruns")


def test_a_study_is_registered_by_its_name_with_its_card(mlruns: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["first", "--name", "micro", "--alias", "challenger", "--mlruns", str(mlruns)]
    register.app(words, standalone_mode=False)
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("micro version 1: registered · run first-")
    assert out[1].startswith("microcalc patch: AUC ")
    assert out[2] == "micro@challenger is version 1"
    assert out[-1] == "page: http://127.0.0.1:5000/#/models/micro/versions/1"
    card = Path(out[3].removeprefix("card: ")).read_text()
    assert card.startswith("# micro version 1: first final-t000\n\nmicrocalc patch: AUC")
    client = mlflow.MlflowClient(default_uri(mlruns))
    version = client.get_model_version_by_alias("micro", "challenger")
    assert {"val_auc", "val_tpr", "val_fpr", "test_auc", "synthetic", "leaky", "journal", "owner"} <= set(version.tags)
    assert version.description.splitlines()[0] == out[1]
    assert f"runs/{version.run_id}/artifacts/model_card-micro-1.md" in version.description
    assert "model_card-micro-1.md" in [each.path for each in client.list_artifacts(version.run_id)]
    register.app(words, standalone_mode=False)
    again = capsys.readouterr().out.splitlines()
    assert again[0].startswith("micro version 1: was registered before, the same model")
    register.app(["strict", *words[1:]], standalone_mode=False)
    assert "micro@challenger is version 2, which was version 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing", "--name", "n"], "no run 'nothing' in"),
        (["first", "--name", "a/b"], "'a/b' is no model name"),
        (["first", "--name", "n", "--alias", "latest"], "'latest' is no alias"),
        (["first", "--name", "n", "--alias", "champion"], "is given by `python -m experiments.promote n`"),
        (["first", "--name", "n", "--margin", "2"], "--margin 2 is no share between 0 and 1"),
        (["first", "--name", "n", "--mlruns", "nowhere"], "no runs in 'nowhere'"),
        (["first", "--name", "n", "--tracking-uri", "ftp://x"], "names no server or database"),
        (["first"], "Missing option '--name'"),
    ],
)
def test_bad_input_is_one_line(
    mlruns: Path,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = words if "--mlruns" in words else [*words, "--mlruns", str(mlruns)]
    monkeypatch.setattr("sys.argv", ["register", *given])
    with pytest.raises(SystemExit, match="2"):
        run(register.app)
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
