import io
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from experiments.bench import bare, caching, combining, fitting, gpu, helping, measure, store_fill, stores, studies
from experiments.bench.__main__ import PARTS, app
from experiments.bench.work import make_work
from mammo_lightning.classifiers.hyper import Hyper
from mammo_lightning.errors import MammoError, SettingsError
from mammo_lightning.evaluation.combining import RULES
from mammo_lightning.evaluation.metrics import auc
from mammo_lightning.hardware import Hardware


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=130)


def printed(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_ratios_are_taken_round_by_round_and_printed_with_their_spread() -> None:
    assert measure.ratio([2.0, 6.0, 3.0], [1.0, 2.0, 3.0]).values == (2.0, 3.0, 1.0)
    assert str(measure.ratio([2.0, 6.0, 3.0], [1.0, 2.0, 3.0])) == "2.00 (1.00-3.00)"
    assert str(measure.Spread((1.234,), 1)) == "1.2"


def test_measurements_take_turns() -> None:
    order: list[str] = []
    found = measure.in_turns(2, a=lambda: order.append("a") or 1.0, b=lambda: order.append("b") or 2.0)
    assert order == ["a", "b", "a", "b"]
    assert found == {"a": [1.0, 1.0], "b": [2.0, 2.0]}


def test_a_machine_is_named_by_cores_and_memory_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    name, sign, memory = measure.machine().partition(", ")
    assert (name, sign) == ("1 core", ", ")
    assert memory.endswith(" GiB")


def test_a_part_that_breaks_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = subprocess.CompletedProcess([], 1, "", "Traceback\n  File\nValueError: of this kind\n")
    monkeypatch.setattr(subprocess, "run", lambda *given, **more: broken)
    with pytest.raises(MammoError, match=r"bench part 'bare' ended with exit code 1: ValueError: of this kind"):
        measure.child("bare")
    whole = subprocess.CompletedProcess([], 0, 'noise\n{"seconds": 2.5}\n', "")
    monkeypatch.setattr(subprocess, "run", lambda *given, **more: whole)
    assert measure.child("bare") == {"seconds": 2.5}


def test_names_of_parts_are_checked_and_exist() -> None:
    result = CliRunner().invoke(app, ["speed"])
    assert isinstance(result.exception, SettingsError)
    assert "no part 'speed'; known: " in str(result.exception)
    folder = Path(measure.__file__).parent
    assert all((folder / f"{module}.py").is_file() for module in PARTS.values())


def test_the_bare_loop_learns_what_ours_learns(tmp_path: Path) -> None:
    work = make_work(24, tmp_path, folds=2)
    train, score = work.rows(0)
    images = work.images
    images[:] = 0.1 * np.random.default_rng(0).random(images.shape, np.float32)
    images[work.labels > 0.5, :, 20:30, 20:30] += 0.5  # nobody can miss it
    settings = {**work.settings, "init": 4, "epochs": 6, "batch_size": 8, "norm_momentum": 0.1}
    for precision, last in (("32-true", False), ("bf16-mixed", True)):
        hardware = Hardware(precision=precision, channels_last=last)
        scores = bare.fit(work, 0, settings, seed=0, hardware=hardware, settle=True)
        assert len(scores) == len(score)
        assert auc(work.labels[score].astype(int), scores) > 0.9
    assert not set(train) & set(score)


def test_fits_are_compared_on_this_machine(tmp_path: Path, console: Console) -> None:
    work = make_work(24, tmp_path, folds=2)
    small = {**work.settings, "init": 2, "batch_size": 16}
    fitting._overhead(console, type(work)(work.task, small), tmp_path, epochs=1, rounds=2)
    text = printed(console)
    assert "32-true · 1" in text
    assert "at most 1.10" in text


def test_a_study_is_reckoned_from_few_fits_of_the_slow_peers(monkeypatch: pytest.MonkeyPatch, console: Console) -> None:
    asked: list[tuple[str, dict]] = []

    def child(module: str, **given: object) -> dict:
        asked.append((module, given))
        epochs = given["epochs"]
        if module == "usual":
            return {"seconds": [[each * 0.5] * given["fits"] for each in epochs]}
        if module == "bare":
            return {"seconds": [[each * 1.0] * given["trials"] for each in epochs]}
        return {"seconds": [each * 1.0 for each in epochs]}

    monkeypatch.setattr(studies, "child", child)
    studies.measure(console, quick=False)
    text = printed(console)
    assert "a study of 6 trials x 5 folds, 20 epochs" in text
    rows = {line.split("  ")[0].strip(): line for line in text.split("2 epochs")[0].splitlines()}
    assert "120.0" in rows["bare"]
    assert "6.00" in rows["bare"]
    assert "at least 1.6" in rows["bare"]
    assert "300.0" in rows["usual"]
    assert "at least 2.0" in rows["usual + autolog"]
    assert [module for module, _ in asked] == ["bare", "ours", "bare", "usual", "usual"]


def test_every_verb_is_helped_and_what_it_imports_is_seen(monkeypatch: pytest.MonkeyPatch, console: Console) -> None:
    assert {"tune", "audit", "ui", "bench"} <= set(helping.verbs())
    heavy = "import time:  1 |  2 |   torch.nn\nimport time:   1 |   2 | torch\nimport time: 1 | 2 |   mlflow\n"
    monkeypatch.setattr(helping, "_run", lambda *given: subprocess.CompletedProcess([], 0, "", heavy))
    helping.measure(console, quick=True)
    assert "mlflow, torch" in printed(console)


@pytest.mark.parametrize("verb", helping.verbs())
def test_help_names_its_options_and_imports_nothing_heavy(verb: str) -> None:
    done = helping._run(verb, "-X", "importtime")
    assert helping.HEAVY.findall(done.stderr) == []
    assert done.stdout.startswith(f"Usage: python -m experiments.{verb} ")
    assert "\nOptions:\n" in done.stdout


def test_the_cache_part_opens_what_it_wrote(tmp_path: Path) -> None:
    caching._write(tmp_path / "images", 24, 48)
    first, second = (caching._open(tmp_path / "images", tmp_path / "mlruns") for _ in range(2))
    assert first > 0
    assert second > 0
    assert len(list((tmp_path / "mlruns" / "cache").glob("*/images.npy"))) == 1


def test_a_store_is_filled_and_published_whole(tmp_path: Path) -> None:
    names = store_fill.fill(tmp_path, 6, trials=2, published=False)
    assert len(names) == 6
    points = 0
    for line in (tmp_path / "journal" / names[1] / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        points += len(event.get("points", ())) + (len(event["values"]) if event["event"] == "metrics" else 0)
    assert points == stores.POINTS


def test_folds_as_one_batched_network_learn_as_one_after_another(console: Console) -> None:
    torch.manual_seed(0)
    settings = {**Hyper.defaults, "init": 2, "dropout": 0.0}
    networks = [Hyper(shape=(1, 16, 16), settings=settings).network for _ in range(3)]
    for network in networks:
        network.get_submodule("drop").p = 0.0
    images, labels = torch.rand(3, 8, 1, 16, 16), torch.rand(3, 8).round()
    together, alone = gpu.batched(networks), gpu.one_after_another(networks)
    for _ in range(3):
        torch.testing.assert_close(together(images, labels), alone(images, labels), rtol=1e-3, atol=1e-4)
    gpu.measure(console, quick=True)
    assert "gpu" in printed(console)


def test_candidates_are_judged_and_every_rule_is_tried(console: Console) -> None:
    combining.measure(console, quick=True)
    told = printed(console)
    assert "ensembles of 8 runs of 400 images" in told
    assert all(f"{rule}, 5 members, cross-fitted" in told for rule in RULES)
