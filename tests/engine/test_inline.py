"""Fits in this process: how each end is told."""

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mammo_lightning.engine import base
from mammo_lightning.engine.base import Job
from mammo_lightning.engine.inline import Inline
from mammo_lightning.errors import DataError
from mammo_lightning.watch import Diverged


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(SimpleNamespace(), 0, {"epochs": 3}, 5, tmp_path / "a")


def make(monkeypatch: pytest.MonkeyPatch, error: BaseException | None = None, epochs: int = 3) -> list[dict[str, Any]]:
    """A fit that shows its epochs, and ends in an error or does not."""
    asked: list[dict[str, Any]] = []

    def fit(task: object, *, on_epoch: Any, **how: Any) -> None:
        asked.append(how)
        for epoch in range(epochs):
            on_epoch(epoch, {"inner_auc": epoch / 10})
        if error is not None:
            raise error

    monkeypatch.setattr(base, "fit", fit)
    return asked


def test_one_job_at_a_time_with_all_that_was_asked(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, shown, engine = make(monkeypatch), [], Inline()
    assert engine.room == engine.ahead == engine.workers == 1
    assert engine.wait(lambda *_: True) == []
    engine.submit(job)
    assert engine.room == engine.ahead == 0
    assert engine.jobs() == [job]
    ended = engine.wait(lambda *told: bool(shown.append(told)) or True)
    assert [(each.job, each.failure) for each in ended] == [(job, None)]
    assert shown == [(job, epoch, {"inner_auc": epoch / 10}) for epoch in range(3)]
    assert asked == [{"fold": 0, "settings": {"epochs": 3}, "seed": 5, "folder": job.folder}]
    assert engine.room == 1
    assert engine.jobs() == []


def test_no_means_no(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    make(monkeypatch)
    shown, engine = [], Inline()
    engine.submit(job)
    [ended] = engine.wait(lambda each, epoch, row: shown.append(epoch) or epoch < 1)
    assert ended.failure.reason == "cancelled"
    assert shown == [0, 1]
    engine.submit(job)
    engine.stop()
    assert engine.wait(lambda *_: True) == []


@pytest.mark.parametrize(
    ("error", "reason", "is_bug"),
    [
        (MemoryError(), "oom", False),
        (Diverged("the training loss is nan"), "nan", False),
        (DataError("no such image"), "error", False),
        (KeyError("depth"), "exception: KeyError: 'depth'", True),
    ],
)
def test_what_went_wrong(
    job: Job, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str, is_bug: bool
) -> None:
    make(monkeypatch, error)
    engine = Inline()
    engine.submit(job)
    [ended] = engine.wait(lambda *_: True)
    assert (ended.failure.reason, ended.failure.is_bug) == (reason, is_bug)
    assert ended.failure.error is (error if reason == "error" else None)
    assert engine.room == 1


def test_a_full_disk_is_told_as_such(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    make(monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    engine = Inline()
    engine.submit(job)
    (result,) = engine.wait(lambda *_: True)
    assert result.failure is not None
    assert result.failure.reason == "disk"
    assert "No space left" in result.failure.detail


def test_the_user_is_heard_by_the_study(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    make(monkeypatch, KeyboardInterrupt())
    engine = Inline()
    engine.submit(job)
    with pytest.raises(KeyboardInterrupt, match="^$"):
        engine.wait(lambda *_: True)
    assert engine.room == 1
