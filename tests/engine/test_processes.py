"""Fits in real processes: what they give, and that nothing that happens to a process loses one."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from fakes import dataset

from mammo_lightning.classifiers.hyper import Hyper
from mammo_lightning.datamodules.folds import make_splits
from mammo_lightning.engine.base import Engine, Failure, Job
from mammo_lightning.engine.inline import Inline
from mammo_lightning.engine.processes import LOSSES, Processes
from mammo_lightning.engine.shipping import shipped
from mammo_lightning.errors import SettingsError
from mammo_lightning.hardware import Hardware
from mammo_lightning.registry import CLASSIFIERS
from mammo_lightning.space import make_space
from mammo_lightning.training import Task, load_fit

SMALL = {"init": 4, "depth": 1, "epochs": 3, "batch_size": 16}
ONE = Hardware(threads=1)
FILES = ("predictions.parquet", "curve.csv", "model.safetensors", "config.json")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    data = dataset("folder", tmp_path_factory.mktemp("task"), patients=18)
    return Task(data, make_splits(data, folds=3, test=0.3), "hyper", ONE)


@pytest.fixture(scope="module")
def pool() -> Iterator[Processes]:
    """Two processes, whatever the tests do to them."""
    made = Processes([ONE, ONE])
    yield made
    made.close()


def settings(**changed: Any) -> dict[str, Any]:
    return {**make_space(Hyper, chosen=SMALL).fixed, **changed}


def go_on(job: Job, epoch: int, row: dict[str, float]) -> bool:
    return True


def finish(
    engine: Engine, *jobs: Job, on_epoch: Callable[[Job, int, dict[str, float]], bool] = go_on
) -> dict[str, Failure | None]:
    """How each job ended, by the name of its folder."""
    deadline, ended, left = time.monotonic() + 300, {}, list(jobs)
    while len(ended) < len(jobs):
        while left and (engine.room or engine.ahead > 0):
            engine.submit(left.pop(0))
        ended |= {result.job.folder.name: result.failure for result in engine.wait(on_epoch)}
        assert time.monotonic() < deadline, "a job was lost"
    assert not engine.jobs()
    return ended


def workers() -> list[int]:
    return [process.pid for process in multiprocessing.active_children() if process.name == "fits"]


def kill_all() -> None:
    for pid in workers():
        os.kill(pid, signal.SIGKILL)


def test_what_processes_give_is_what_one_process_gives(pool: Processes, task: Task, tmp_path: Path) -> None:
    jobs = [
        [Job(task, fold, settings(), 10 + fold, tmp_path / where / f"f{fold}") for fold in range(3)]
        for where in ("near", "far")
    ]
    assert finish(Inline(), *jobs[0]) == finish(pool, *jobs[1]) == {"f0": None, "f1": None, "f2": None}
    for one, two in zip(*jobs, strict=True):
        for name in FILES:
            assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes(), (one.folder.name, name)


def test_a_killed_process_is_replaced_and_its_fit_made_again(pool: Processes, task: Task, tmp_path: Path) -> None:
    epochs: list[int] = []
    before = set(workers())

    def on_epoch(job: Job, epoch: int, row: dict[str, float]) -> bool:
        epochs.append(epoch)
        if len(epochs) == 2:
            kill_all()
        return True

    job = Job(task, 0, settings(epochs=10), 5, tmp_path / "a", asks=True)
    assert finish(pool, job, on_epoch=on_epoch) == {"a": None}
    assert epochs == [0, 1, *range(10)]
    assert len(workers()) == 2
    assert not before & set(workers())
    whole = Job(task, 0, settings(epochs=10), 5, tmp_path / "b")
    finish(pool, whole)
    pd.testing.assert_frame_equal(load_fit(job.folder).predictions.frame, load_fit(whole.folder).predictions.frame)


def test_a_fit_that_kills_its_process_every_time_ends(pool: Processes, task: Task, tmp_path: Path) -> None:
    begun: list[int] = []

    def on_epoch(job: Job, epoch: int, row: dict[str, float]) -> bool:
        if job.folder.name == "bad":
            begun.append(epoch)
            kill_all()
        return True

    bad = Job(task, 0, settings(), 5, tmp_path / "bad", asks=True)
    assert finish(pool, bad, on_epoch=on_epoch)["bad"].reason == "signal: SIGKILL, 5 times"
    assert begun == [0] * LOSSES
    assert finish(pool, Job(task, 0, settings(), 5, tmp_path / "good")) == {"good": None}


class Unreadable:
    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


def test_an_order_that_cannot_be_read_does_not_hang(pool: Processes, task: Task, tmp_path: Path) -> None:
    job = Job(task, 0, settings(thing=Unreadable()), 5, tmp_path / "a")
    assert finish(pool, job)["a"].reason == "signal: exit code 1, 5 times"


def test_signals_to_all_processes_at_once_are_the_parents_affair(pool: Processes, task: Task, tmp_path: Path) -> None:
    epochs: list[int] = []

    def on_epoch(job: Job, epoch: int, row: dict[str, float]) -> bool:
        epochs.append(epoch)
        if epoch == 1:
            for pid in [*workers(), forkserver._forkserver._forkserver_pid]:
                os.kill(pid, signal.SIGINT)
                os.kill(pid, signal.SIGTERM)
        return True

    before = workers()
    assert finish(pool, Job(task, 0, settings(epochs=40), 5, tmp_path / "a"), on_epoch=on_epoch) == {"a": None}
    assert epochs == list(range(40))
    assert workers() == before


def test_cancelled_before_and_during_and_once_more(pool: Processes, task: Task, tmp_path: Path) -> None:
    long = [Job(task, 0, settings(epochs=5000), 5, tmp_path / f"{number}") for number in range(4)]
    shown: set[str] = set()

    def on_epoch(job: Job, epoch: int, row: dict[str, float]) -> bool:
        shown.add(job.folder.name)
        pool.cancel(long[3])
        return epoch < 1

    for _ in range(2):
        ended = finish(pool, *long, on_epoch=on_epoch)
        assert {failure.reason for failure in ended.values()} == {"cancelled"}
        assert not any((job.folder / "fit.json").exists() for job in long)
    assert shown == {"0", "1", "2"}, "the last was cancelled before it began"


def test_epochs_are_asked_about_one_by_one(pool: Processes, task: Task, tmp_path: Path) -> None:
    epochs: list[int] = []

    def on_epoch(job: Job, epoch: int, row: dict[str, float]) -> bool:
        epochs.append(epoch)
        assert row["train_loss"] > 0
        return epoch < 2

    job = Job(task, 0, settings(epochs=5000), 5, tmp_path / "a", asks=True)
    assert finish(pool, job, on_epoch=on_epoch)["a"].reason == "cancelled"
    assert epochs == [0, 1, 2], "not one more"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"init": 400_000}, "oom"),
        ({"learning_rate": 1e30, "optimizer": "sgd", "schedule": "constant", "epochs": 6}, "nan"),
        ({"batch_size": "many"}, "exception: TypeError: "),
    ],
)
def test_failures_are_told_apart_and_the_pool_goes_on(
    pool: Processes, task: Task, tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    before = workers()
    bad, good = (Job(task, 0, settings(**each), 5, tmp_path / name) for each, name in ((changed, "bad"), ({}, "good")))
    ended = finish(pool, bad, good)
    assert ended["good"] is None
    assert ended["bad"].reason.startswith(reason)
    assert ended["bad"].is_bug == ("Traceback" in ended["bad"].detail) == reason.startswith("exception")
    assert workers() == before


def test_bad_input_found_late_comes_back_as_it_was_said(pool: Processes, task: Task, tmp_path: Path) -> None:
    lost = Task(task.data, task.splits, "nowhere", ONE)
    failure = finish(pool, Job(lost, 0, settings(), 5, tmp_path / "a"))["a"]
    assert failure.reason == "error"
    assert isinstance(failure.error, SettingsError)
    assert "no classifier 'nowhere'" in str(failure.error)


def test_a_disk_that_refuses_is_no_bug(pool: Processes, task: Task, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    failure = finish(pool, Job(task, 0, settings(), 5, tmp_path / "file" / "a"))["a"]
    assert failure.reason == "disk"
    assert "Not a directory" in failure.detail


def test_more_tasks_than_a_process_holds_take_turns(pool: Processes, task: Task, tmp_path: Path) -> None:
    tasks = [Task(task.data, make_splits(task.data, folds=folds, test=0.3), "linear", ONE) for folds in (2, 3, 4)]
    chosen = make_space(CLASSIFIERS.get("linear"), chosen={}).fixed
    far = [Job(tasks[n % 3], n // 3, chosen, n, tmp_path / "far" / f"{n}") for n in range(6)]
    near = [Job(each.task, each.fold, chosen, each.seed, tmp_path / "near" / each.folder.name) for each in far]
    assert set(finish(pool, *far).values()) == set(finish(Inline(), *near).values()) == {None}
    for one, two in zip(far, near, strict=True):
        pd.testing.assert_frame_equal(load_fit(one.folder).predictions.frame, load_fit(two.folder).predictions.frame)


def be_parent(task: Task, chosen: dict[str, Any], folder: Path, out: Connection) -> None:
    """A process with a pool of its own."""
    pool = Processes([ONE, ONE])

    def on_epoch(job: Job, epoch: int, row: dict[str, float]) -> bool:
        if epoch == 0:
            out.send([child.pid for child in psutil.Process().children(recursive=True)])
        return True

    pool.submit(Job(task, 0, chosen, 5, folder))
    while pool.jobs():
        pool.wait(on_epoch)


def test_processes_end_with_a_parent_that_is_killed(pool: Processes, task: Task, tmp_path: Path) -> None:
    heard, out = multiprocessing.Pipe(duplex=False)
    order = (shipped(task), settings(epochs=100_000), tmp_path / "a", out)
    parent = multiprocessing.get_context("forkserver").Process(target=be_parent, args=order)
    parent.start()
    try:
        assert heard.poll(300), "it never began"
        family = heard.recv()
    finally:
        parent.kill()
        parent.join()
    assert len(family) >= 3, "the process they are forked from, one that computes, and one that is idle"
    deadline = time.monotonic() + 60
    while any(psutil.pid_exists(pid) for pid in family):
        assert time.monotonic() < deadline, "a process outlived its parent"
        time.sleep(0.1)
