"""Processes told apart from their likes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import psutil
import pytest

from mammo_lightning import owner
from mammo_lightning.owner import Owner


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def of(process: subprocess.Popen[bytes]) -> Owner:
    return replace(Owner.me(), pid=process.pid, started=owner._started(process.pid))


def test_this_process_is_near_and_alive_and_survives_being_written_down() -> None:
    me = Owner.me()
    assert me.pid == os.getpid()
    assert me.near
    assert me.alive
    assert Owner.parse(str(me)) == me == Owner.me()


def test_a_host_may_be_called_anything() -> None:
    odd = Owner("a|b c/1|", 7, "12")
    assert Owner.parse(str(odd)) == odd
    assert not odd.near


def test_the_dead_are_dead_even_before_they_are_buried(child: subprocess.Popen[bytes]) -> None:
    seen = of(child)
    assert seen.alive
    child.kill()
    deadline = time.monotonic() + 30
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not seen.alive, "nobody has waited for it yet, and it computes nothing any more"
    child.wait()
    assert not seen.alive


def test_one_that_is_stopped_is_not_dead(child: subprocess.Popen[bytes]) -> None:
    seen = of(child)
    child.send_signal(signal.SIGSTOP)
    try:
        assert seen.alive
    finally:
        child.send_signal(signal.SIGCONT)


def test_another_process_with_the_number_of_a_dead_one_is_another() -> None:
    assert not replace(Owner.me(), started="1").alive


def test_another_boot_or_another_container_is_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    me = Owner.me()
    name = me.host.split("/")[0]
    assert not replace(me, host=f"{name}/00000000/pid:[1]").near
    monkeypatch.setattr(owner.socket, "gethostname", lambda: "elsewhere")
    assert not me.near


def test_without_proc_processes_are_still_told_apart(
    monkeypatch: pytest.MonkeyPatch, child: subprocess.Popen[bytes]
) -> None:
    nowhere = owner.Path
    monkeypatch.setattr(owner, "Path", lambda text: nowhere("/absent") / text.lstrip("/"))
    me, other = Owner.me(), of(child)
    assert me.near
    assert me.alive
    assert me.started not in ("", None)
    assert other.alive
    child.kill()
    child.wait()
    assert not other.alive
