"""What another machine published is read here as it is read there, and is never taken for ours."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fakes import predictions
from mlflow import MlflowClient
from tracked import scores_of, study, trial

from experiments import cli, ensemble
from mammo_lightning.errors import TrackingError
from mammo_lightning.progress import Progress
from mammo_lightning.runs import Runs, known_runs
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.tracking.publish import Publisher
from mammo_lightning.tracking.store import check_uri
from mammo_lightning.types import Kind, Outcome

BASE = predictions(patients=45, folds=5)
TABLES = [scores_of(BASE, noise=1.0, seed=seed) for seed in range(3)]


class Heard(Progress):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def loop(self, items: Iterable[Any], what: str, total: int) -> Iterable[Any]:
        self.lines.append(what)
        return items


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store that several machines publish to."""
    return check_uri(f"sqlite:///{tmp_path_factory.mktemp('shared') / 'mlflow.db'}")


@pytest.fixture
def there(tmp_path: Path, uri: str) -> Path:
    """The folder of another machine, which has published."""
    mlruns = tmp_path / "there"
    study(mlruns, _name(tmp_path), TABLES)
    published(mlruns, uri)
    return mlruns


def _name(tmp_path: Path) -> str:
    return tmp_path.name.replace("_", "-")


def published(mlruns: Path, uri: str) -> None:
    Publisher(Journal(mlruns), uri, mlruns).close(60)


def test_a_study_of_another_machine_is_known_as_it_is_there(tmp_path: Path, there: Path, uri: str) -> None:
    name, heard = _name(tmp_path), Heard()
    runs = known_runs(tmp_path / "here", uri, [name], heard)
    assert [line.partition(" from")[0] for line in heard.lines] == ["fetching 4 runs"]
    own, lent = Runs(there).of_study(name), runs.of_study(name)
    assert [each.run_id for each in lent] == [each.run_id for each in own]
    for mine, theirs in zip(own, lent, strict=True):
        pd.testing.assert_frame_equal(mine.predictions().frame, theirs.predictions().frame)
        assert (mine.metrics, mine.tags, mine.recipe) == (theirs.metrics, theirs.tags, theirs.recipe)
        assert theirs.borrowed
        assert not mine.borrowed
    assert runs.get(f"{name}/t001").run_id == own[1].run_id
    assert Journal(tmp_path / "here").runs() == [], "what is borrowed is not ours, and is not published again"
    again = Heard()
    known_runs(tmp_path / "here", uri, [f"{name}/t002"], again)
    assert again.lines == ["fetching 1 run from " + uri], "the study alone may have been told more of"


def test_an_ensemble_of_borrowed_members_links_them(
    tmp_path: Path, there: Path, uri: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    name, here = _name(tmp_path), tmp_path / "here"
    words = [name, "--members", "2", "--no-model", "--mlruns", str(here), "--tracking-uri", uri]
    monkeypatch.setattr("sys.argv", ["ensemble", *words])
    with pytest.raises(SystemExit, match="0"):
        cli.run(ensemble.app)
    assert "e2 mean minus best member" in capfd.readouterr().out
    (made,) = Journal(here).runs()
    client = MlflowClient(uri)
    (found,) = client.search_runs(
        [client.get_experiment_by_name("synthetic").experiment_id], f"tags.journal = '{made}'"
    )
    assert found.data.tags["mlflow.note.content"].count("](#/experiments/") == 2
    above = client.get_run(found.data.tags["mlflow.parentRunId"])
    assert above.data.tags["journal"] == f"{name}-000000"


def test_of_a_run_that_was_broken_off_here_the_one_that_ended_elsewhere_counts(
    tmp_path: Path, there: Path, uri: str
) -> None:
    name, here = _name(tmp_path), tmp_path / "here"
    above = study(here, name, [TABLES[0]])
    broken = trial(Journal(here), above, 1, TABLES[1])
    broken.end(Outcome.interrupted, "signal")
    runs = known_runs(here, uri, [name], Progress())
    assert [(each.run_id.rpartition(".")[2], each.borrowed) for each in runs.of_study(name)] == [
        ("t000", False), ("t001", True), ("t002", True)
    ]  # fmt: skip
    assert runs.study(name).folder.parent.name == "journal"


def test_a_run_that_is_told_more_of_is_fetched_again(tmp_path: Path, there: Path, uri: str) -> None:
    name, here, journal = _name(tmp_path), tmp_path / "here", Journal(there)
    known_runs(here, uri, [name], Progress())
    final = journal.run(f"{name}-000000.final-t001")
    tags = journal.run(f"{name}-000000").read_tags()
    final.begin(kind=Kind.final, name="final", study=name, parent=f"{name}-000000", experiment="synthetic", tags=tags)
    final.write("predictions.parquet", TABLES[1].frame.to_parquet(index=False))
    final.end(Outcome.completed)
    published(there, uri)
    assert "test_auc" not in known_runs(here, uri, [name], Progress()).named([name])[0].metrics
    final.metrics({"test_auc": 0.75})
    published(there, uri)
    assert known_runs(here, uri, [name], Progress()).named([name])[0].metrics["test_auc"] == 0.75


def test_files_that_are_not_what_a_run_wrote_are_left_out_by_name(tmp_path: Path, there: Path, uri: str) -> None:
    name, here = _name(tmp_path), tmp_path / "here"
    client = MlflowClient(uri)
    place = client.get_experiment_by_name("synthetic").experiment_id
    (found,) = client.search_runs([place], f"tags.journal = '{name}-000000.t001'")
    kept = Path(found.info.artifact_uri.removeprefix("file://")) / "predictions.parquet"
    honest = kept.read_bytes()
    kept.write_bytes(TABLES[2].frame.to_parquet(index=False))
    heard = Heard()
    runs = known_runs(here, uri, [name], heard)
    (line,) = [line for line in heard.lines if line.startswith("warning: ")]
    assert f"{name}-000000.t001 cannot be fetched and is left out" in line
    assert "predictions.parquet is not what the run wrote" in line
    assert len(runs.of_study(name)) == 2
    kept.write_bytes(honest)
    assert len(known_runs(here, uri, [name], Progress()).of_study(name)) == 3


def test_a_store_that_does_not_answer_leaves_what_is_here(tmp_path: Path, there: Path) -> None:
    heard = Heard()
    runs = known_runs(there, "http://127.0.0.1:9", [_name(tmp_path)], heard)
    assert len(runs.of_study(_name(tmp_path))) == 3
    (line,) = heard.lines
    assert line.startswith("warning: http://127.0.0.1:9 does not answer")


@pytest.mark.parametrize("word", ["no-such-study", "it's", "a%", "../x", ""])
def test_what_nobody_published_is_one_line(tmp_path: Path, there: Path, uri: str, word: str) -> None:
    with pytest.raises(TrackingError, match="no runs in .*--tracking-uri"):
        known_runs(tmp_path / "here", uri, [word], Progress())
