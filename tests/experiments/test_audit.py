"""The verb `audit`: what it prints and keeps, and how it ends."""

import io
import signal
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from fakes import dataset, write_folder, write_microcalc
from rich.console import Console

from experiments import audit
from experiments.cli import run
from mammo_lightning.auditing.look import Look
from mammo_lightning.datamodules.folds import TEST, freeze, make_splits
from mammo_lightning.evaluation.resampling import Estimate
from mammo_lightning.evaluation.steps import Step
from mammo_lightning.runs import Runs
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.tracking.publish import Publisher
from mammo_lightning.types import Kind, Outcome
from mammo_lightning.waterfall.run import conclusion


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Publishing is tested where it lives; here it only must be asked for."""
    published: list[str] = []
    monkeypatch.setattr(Publisher, "__init__", lambda self, journal, uri, mlruns: setattr(self, "uri", uri))
    monkeypatch.setattr(Publisher, "close", lambda self, *_: published.append(self.uri))
    return published


def look(*words: object, mlruns: Path) -> None:
    audit.app([*map(str, words), "--mlruns", str(mlruns)], standalone_mode=False)


def test_a_trap_is_named_printed_and_kept(
    tmp_path: Path, closed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    look("--trap", "source", "--patients", 80, mlruns=tmp_path)
    printed = capsys.readouterr().out
    assert any(line.startswith("shortcut: token 1 of the file name (column source)") for line in printed.splitlines())
    assert "lesion" not in [line.split()[0] for line in printed.splitlines() if line.startswith("column")]
    journal = Journal(tmp_path.resolve())
    (run_id,) = journal.runs()
    kept_run = journal.run(run_id)
    assert kept_run.identity["kind"] == "audit"
    assert kept_run.outcome is Outcome.completed
    metrics = kept_run.read_metrics()
    assert metrics["shortcut/name_1"] > 0.9
    assert 0.3 < metrics["control/permuted_labels"] < 0.7
    assert metrics["count/patients"] == 80
    kept = {path.relative_to(kept_run.artifacts).as_posix() for path in kept_run.artifacts.rglob("*.*")}
    assert kept == {
        "audit.md", "counts.csv", "formats.csv", "shortcuts.csv", "controls.csv", "contact/0-normal.png",
        "contact/1-lesion.png", "augmentations.png",
    }  # fmt: skip
    assert pd.read_csv(kept_run.artifacts / "shortcuts.csv")["predictor"].iloc[0] == "name_1"
    assert "shortcut: token 1" in (kept_run.artifacts / "audit.md").read_text()
    assert closed, "the run was not published"


def test_leaks_end_in_code_0_and_the_same_run(
    tmp_path: Path, closed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        look("--trap", "patient", "--patients", 40, mlruns=tmp_path)
    assert "leak: 2 patients stand in both official splits: p0003 (2 train, 2 test)" in capsys.readouterr().out
    assert len(Journal(tmp_path.resolve()).runs()) == 1


def test_sizes_that_differ_and_unreadable_files_do_not_stop_it(
    tmp_path: Path, closed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    options = write_folder(tmp_path / "data", patients=16)
    for path in sorted((tmp_path / "data" / "malignant").glob("*.png")):
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path), -1), (48, 48)))
    (tmp_path / "data" / "benign" / "p000_0.png").write_bytes(b"")
    (tmp_path / "data" / "benign" / "p002_0.png").write_bytes(b"x")
    look("--dataset", "folder", "--root", options["root"], "--patient-from", options["patient_from"], mlruns=tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("unreadable: ") for line in lines) == 2
    assert any(line.startswith("shortcut: image width alone reaches AUC 1.00") for line in lines)


def test_two_patients_are_enough_for_the_structure(
    tmp_path: Path, closed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    options = write_microcalc(tmp_path / "data", patients=2)
    look("--dataset", "microcalc", "--root", options["root"], mlruns=tmp_path)
    printed = capsys.readouterr().out
    assert "note: no shortcut table and no controls: the scarcer class has 1 of the patients" in printed


def test_patients_that_a_study_froze_as_its_test_split_stay_unread(
    tmp_path: Path, closed: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dataset("folder", tmp_path, patients=40)
    splits = make_splits(data, folds=3, test=0.2)
    freeze(data, splits, 0.2)
    tested = set(data.frame["image"][splits.fold == TEST])
    assert tested
    shown: list[str] = []
    tried: dict[str, list[str]] = {}

    def sheets(frame: pd.DataFrame, images: object, **how: object) -> dict[str, bytes]:
        shown.extend(frame["image"])
        return {}

    def watched(name: str, result: list[object]) -> Callable[..., list[object]]:
        def watch(frame: pd.DataFrame, images: object, folds: np.ndarray, **how: object) -> list[object]:
            tried[name] = frame["image"][folds >= 0].tolist()
            return result

        return watch

    monkeypatch.setattr("mammo_lightning.datamodules.contact.contact_sheets", sheets)
    monkeypatch.setattr("mammo_lightning.datamodules.shortcuts.shortcuts", watched("shortcuts", []))
    monkeypatch.setattr("mammo_lightning.controls.controls", watched("controls", []))
    options = {"root": tmp_path / "data", "patient-from": r"(p\d+)_"}
    look("--dataset", "folder", *(word for key, value in options.items() for word in (f"--{key}", value)),
         mlruns=tmp_path / "mlruns")  # fmt: skip
    left = set(data.frame["image"]) - tested
    assert set(shown) == set(tried["shortcuts"]) == set(tried["controls"]) == left
    assert (
        f"note: {len({name[-9:-6] for name in tested})} patients of the test split are counted"
        in capsys.readouterr().out
    )


def test_names_in_brackets_are_printed_and_kept_as_they_are(
    tmp_path: Path, closed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    options = write_folder(tmp_path / "data", patients=16)
    (tmp_path / "data" / "benign").rename(tmp_path / "data" / "[bold]a:warning:[x]")
    (tmp_path / "data" / "malignant").rename(tmp_path / "data" / "b <i>|c")
    mlruns = tmp_path / "[red]runs"
    look("--dataset", "folder", "--root", options["root"], "--patient-from", options["patient_from"], mlruns=mlruns)
    printed = capsys.readouterr().out
    assert sum("│ [bold]a:warning:[x] │" in line for line in printed.splitlines()) == 1, "the counts"
    assert sum("┃ [bold]a:warning:[x] ┃" in line for line in printed.splitlines()) == 1, "the heads of the formats"
    assert f"contact sheets: {mlruns.resolve()}" in printed
    (folder,) = (mlruns / "journal").iterdir()
    written = (folder / "artifacts" / "audit.md").read_text()
    assert "| b &lt;i>/c | 24 |" in written


def test_no_console_takes_a_name_for_markup(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=130, record=True)
    found = Look(dataset("synthetic", tmp_path, patients=20), "[/a]")
    found.tables["shortcuts"] = pd.DataFrame([["[/b]", "[red]", True]], columns=["[/c]", "kind", "shortcut"])
    found.lines = ["leak: [/d]"]
    audit._show(found, console)
    audit._show_steps("[/e]", [Step("image", "[/f]", taken="[/g]", note="x")], ["[/h]"], console)
    printed = console.export_text()
    for name in "abcdefgh":
        assert f"[/{name}]" in printed
    assert "[red]" in printed


def test_ended_by_a_signal_while_it_is_kept_the_run_says_so(
    tmp_path: Path, closed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mammo_lightning.auditing.keep.markdown", lambda look: signal.raise_signal(signal.SIGTERM))
    monkeypatch.setattr("mammo_lightning.auditing.look._try", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["audit", "--patients", "20", "--mlruns", str(tmp_path)])
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with pytest.raises(SystemExit, match="130"):
            run(audit.app)
    finally:
        signal.signal(signal.SIGTERM, before)
    journal = Journal(tmp_path.resolve())
    (run_id,) = journal.runs()
    assert journal.run(run_id).outcome is Outcome.interrupted
    assert not closed


def test_a_waterfall_is_shown_kept_and_published(
    tmp_path: Path, closed: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [
        Step("image", "split by image", Estimate(0.95, 0.9, 0.98), "9+/9- · 6 patients"),
        Step("patient", "split by patient", Estimate(0.8, 0.7, 0.87), "9+/9- · 6 patients",
             Estimate(-0.15, -0.2, -0.1), "patients seen before"),
        Step("external", "external", note="not evaluated"),
    ]  # fmt: skip
    run_of = Journal(tmp_path).run("waterfall-s.t001")
    asked: list[tuple[object, ...]] = []

    def keep(found: Runs, word: str, root: Path | None, progress: object) -> tuple[object, ...]:
        asked.append((found.mlruns, word, root))
        run_of.begin(kind=Kind.audit, name="waterfall s t001", study="", parent=None, experiment="x", tags={})
        return run_of, steps, [conclusion(steps)]

    (tmp_path / "journal").mkdir()
    monkeypatch.setattr("mammo_lightning.waterfall.run.keep_waterfall", keep)
    look("s/t001", "--waterfall", "--root", "images", mlruns=tmp_path)
    assert asked == [(tmp_path, "s/t001", Path("images"))]
    printed = capsys.readouterr().out
    assert "-0.150 (-0.200 to -0.100)  patients seen before" in printed
    assert "of the AUC of 0.95 (0.90-0.98) that a split by image shows, 0.150 (0.100 to 0.200) is patients" in printed
    assert f"figure: {run_of.artifacts / 'waterfall.png'}" in printed
    assert closed, "the run was not published"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dataset", "folder", "--root", "absent", "--patient-from", "(p)"], "no such file or folder 'absent'"),
        (["--trap", "wolf"], "no trap 'wolf'; known: duplicate, label-noise, patient, source"),
        (["--waterfall"], "--waterfall of which run? Pass its id, STUDY/t001, or the name of a study"),
        (["s", "--waterfall", "--dataset", "idc"], "--dataset means nothing with --waterfall"),
        (["s", "--waterfall", "--fold-seed", "3"], "--fold-seed means nothing with --waterfall"),
        (["s", "--waterfall"], "no runs in "),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["audit", *words, "--mlruns", str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        run(audit.app)
    told = capsys.readouterr()
    assert said in told.err
    assert len(told.err.strip().splitlines()) == 1
    assert not Journal(tmp_path).runs()
