"""The verb: a table and a sentence at the terminal, a page on disk, a run in the journal; bad input is one line."""

import sys

import pytest
from side_by_side import finished, table, unfolded

from experiments import compare
from experiments.cli import run
from mammo_lightning.comparison import kept
from mammo_lightning.comparison.compare import compare as compared
from mammo_lightning.evaluation.metrics import auc
from mammo_lightning.runs import Runs
from mammo_lightning.tracking import publish
from mammo_lightning.tracking.journal import Journal


@pytest.fixture
def mlruns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "mlruns"
    for name, skill in (("strong", 2.5), ("weak", 0.3)):
        rows = table(skill=skill)
        finished(folder, name, rows, test=unfolded(rows))
    finished(folder, "tissue", table(skill=1.0), domain="histology")
    return folder


def called(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["compare", *map(str, words)])
    with pytest.raises(SystemExit, match=r"\d") as ended:
        run(compare.app)
    return ended.value.code


def test_it_prints_writes_and_journals(mlruns, monkeypatch, capsys):
    delivered = []
    monkeypatch.setattr(publish.Publisher, "close", lambda self, *_: delivered.append(self.journal.runs()[-1]))
    words = ["strong", "--reference", "weak", "--mlruns", mlruns, "--published", "readers:0.1,0.8"]
    assert called(monkeypatch, *words) == 0
    out = capsys.readouterr().out
    assert "strong beats weak by +" in out
    assert "no pictures, names only: run 'strong-000000' is of no study" in out
    kept = [each for each in Journal(mlruns).runs() if each.startswith("comparison-")]
    assert kept == delivered
    journaled = Journal(mlruns).run(kept[0])
    assert journaled.identity["kind"] == "comparison"
    assert journaled.identity["experiment"] == "planted"
    assert journaled.outcome == "completed"
    tags = journaled.read_tags()
    assert tags["members"] == "strong-000000 weak-000000"
    assert tags["reference"] == "weak-000000"
    assert tags["mlflow.note.content"].startswith("strong beats weak by +")
    page = (mlruns.parent / "compare.html").read_text()
    assert (journaled.artifacts / "compare.html").read_text() == page
    assert "strong beats weak" in page
    assert (journaled.artifacts / "tests.csv").read_text().startswith("name,reference,figure,difference")
    assert called(monkeypatch, *words) == 0
    assert [each for each in Journal(mlruns).runs() if each.startswith("comparison-")] == kept


def test_test_figures_are_compared_without_a_read_or_a_gallery(mlruns, monkeypatch, capsys):
    monkeypatch.setattr(publish.Publisher, "close", lambda *_: None)
    assert called(monkeypatch, "strong", "weak", "--test", "--mlruns", mlruns, "--out", "t.html") == 0
    assert "The hardest images" not in (mlruns.parent / "t.html").read_text()
    assert not (mlruns / "test_reads.jsonl").exists()
    assert "test split" in (mlruns.parent / "t.html").read_text()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "Missing argument"),
        (["nobody"], "no run 'nobody'"),
        (["strong", "tissue"], "compare runs of one domain"),
        (["strong", "--reference", "nobody"], "--reference 'nobody'"),
        (["strong", "--level", "breast"], "was not judged at level breast"),
        (["strong", "--prevalence", "3"], "--prevalence 3 is no share"),
        (["strong", "--published", "x"], "--published 'x' is not name:FPR,TPR"),
        (["strong", "--out", "missing/x.html"], "--out 'missing/x.html' cannot be written to"),
    ],
)
def test_bad_input_is_one_line(mlruns, monkeypatch, capsys, words, line):
    monkeypatch.setattr(publish.Publisher, "close", lambda *_: None)
    assert called(monkeypatch, *words, "--mlruns", mlruns) == 2
    error = capsys.readouterr().err.strip()
    assert line in error
    assert error.count("\n") == 0
    assert not list((mlruns / "journal").glob("comparison-*")), "nothing is journaled"


def test_nothing_but_a_page_of_ours_is_written_over(mlruns, monkeypatch, capsys):
    monkeypatch.setattr(publish.Publisher, "close", lambda *_: None)
    precious = mlruns.parent / "recipe.toml"
    precious.write_text("name = 'mine'")
    assert called(monkeypatch, "strong", "--out", precious, "--mlruns", mlruns) == 2
    assert "is there and no page of a comparison" in capsys.readouterr().err
    assert precious.read_text() == "name = 'mine'"
    for _ in range(2):
        assert called(monkeypatch, "strong", "--out", "again.html", "--no-gallery", "--mlruns", mlruns) == 0


def test_a_run_that_breaks_off_while_it_is_written_has_failed(mlruns, monkeypatch):
    comparison = compared(Runs(mlruns).named(["strong"]))
    monkeypatch.setattr(type(comparison.table), "to_csv", lambda *_, **__: raise_("no page"))
    with pytest.raises(TypeError, match="no page"):
        kept.keep(comparison, "<html>", mlruns, publish.default_uri(mlruns))
    (name,) = [each for each in Journal(mlruns).runs() if each.startswith("comparison-")]
    assert Journal(mlruns).run(name).outcome == "failed"


def raise_(words):
    raise TypeError(words)


def test_rows_of_reserved_patients_are_told_from_others_and_stand_in_no_folds(mlruns, monkeypatch, capsys):
    monkeypatch.setattr(publish.Publisher, "close", lambda *_: None)
    some = table(skill=1.0).where(table(skill=1.0).labels >= 0)
    rows = some.where([number < 40 for number in range(len(some))])
    finished(mlruns, "experts", rows, kind="ensemble", judged_on="reserve")
    assert called(monkeypatch, "experts", "strong", "--no-gallery", "--mlruns", mlruns) == 0
    out = capsys.readouterr().out
    assert "Judged on different rows: out of fold, reserved patients." in out
    pooled = auc(rows.labels, rows.scores)
    assert f"{pooled:.2f} (" in out


def test_runs_are_found_by_the_start_of_their_id(mlruns):
    assert [each.run_id for each in Runs(mlruns).named(["stro", "weak"])] == ["strong-000000", "weak-000000"]
