"""Leases and studies in a database that several processes, on several machines, write at once."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from postgres import postgres
from sqlalchemy import create_engine, select, update

from mammo_lightning import ledger as module
from mammo_lightning.errors import SettingsError, TrackingError
from mammo_lightning.ledger import LEASES, Ledger, check_free
from mammo_lightning.owner import Owner

FORK = multiprocessing.get_context("fork")  # nothing of torch is in use here


@pytest.fixture(scope="module")
def server() -> Iterator[Callable[[str], str]]:
    with postgres() as database:
        yield database


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.proof)])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'studies.db'}"
    made: str = request.getfixturevalue("server")(f"ledger_{os.urandom(4).hex()}")
    return made


def elsewhere(storage: str, home: Path, host: str = "elsewhere") -> Ledger:
    """What a process of another machine sees."""
    other = Ledger(storage, home)
    other.owner, other.home = str(Owner(host, 4711, "99")), f"{host}-home"[:16]
    return other


def together(count: int, work: Callable[[int, Callable[[], Any]], Any]) -> list[Any]:
    """What several processes return that start at once, and may meet on the way."""
    barrier = FORK.Barrier(count, timeout=60)
    pipes = [FORK.Pipe(duplex=False) for _ in range(count)]

    def run(number: int, out: Connection) -> None:
        try:
            barrier.wait()
            out.send(work(number, barrier.wait))
        except BaseException as error:
            out.send(error)
        barrier.wait()  # what a process holds is free once it has ended
        os._exit(0)

    processes = [FORK.Process(target=run, args=(number, out)) for number, (_, out) in enumerate(pipes)]
    for process in processes:
        process.start()
    try:
        found = []
        for into, _ in pipes:
            assert into.poll(120), "a process says nothing"
            found.append(into.recv())
        for each in found:
            if isinstance(each, BaseException):
                raise each
        return found
    finally:
        for process in processes:
            process.join(60)
            process.kill()


def test_no_lease_is_held_twice(storage: str, tmp_path: Path) -> None:
    def work(number: int, meet: Callable[[], Any]) -> list[str]:
        mine, taken = Ledger(storage, tmp_path), []
        for slot in range(30):
            meet()  # so that both reach for the same at once
            if mine.take(f"t{slot:03d}") is not None:
                taken.append(f"t{slot:03d}")
        assert all(mine.holds(key) for key in taken)
        return taken

    one, two = together(2, work)
    assert sorted(one + two) == [f"t{slot:03d}" for slot in range(30)]


def test_leases_that_come_and_go_are_held_by_one_at_a_time(storage: str, tmp_path: Path) -> None:
    def work(number: int, meet: Callable[[], Any]) -> int:
        mine, held = Ledger(storage, tmp_path), 0
        for turn in range(40):
            key = f"k{turn % 3}"
            if mine.take(key) is not None:
                (tmp_path / key).touch(exist_ok=False)  # a second holder would find it
                held += 1
                time.sleep(0.001)
                (tmp_path / key).unlink()
                mine.give(key)
        return held

    assert min(together(3, work)) > 0


def test_alone_excludes(storage: str, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")

    def work(number: int, meet: Callable[[], Any]) -> None:
        mine = Ledger(storage, tmp_path)
        for _ in range(8):
            with mine.alone("schema"):
                read = int(counter.read_text())
                time.sleep(0.002)
                counter.write_text(str(read + 1))

    together(3, work)
    assert counter.read_text() == "24"
    held = elsewhere(storage, tmp_path)
    with (
        held.alone("schema"),
        pytest.raises(TrackingError, match=r"schema was not free for 0.1 s \(held by elsewhere\|4711\|99\); try again"),
        Ledger(storage, tmp_path).alone("schema", patience=0.1),
    ):
        pytest.fail("two are alone")
    with pytest.raises(KeyError, match="on the way"), held.alone("schema"):
        raise KeyError("on the way")
    assert held.holder("schema") == ""


def test_a_study_is_founded_once_and_by_the_first(storage: str, tmp_path: Path) -> None:
    def work(number: int, meet: Callable[[], Any]) -> tuple[str, dict[str, Any]]:
        return Ledger(storage, tmp_path).found("s", {"seed": number}, fresh=False)  # which makes the tables, too

    found = together(4, work)
    assert len({str(each) for each in found}) == 1, "one id, and what it was founded with"
    mine = Ledger(storage, tmp_path)
    assert mine.known("s") == found[0]
    assert mine.known("t") is None
    mine.conclude("s", found[0][0], 10, "ten")
    mine.conclude("s", found[0][0], 20, "twenty")
    assert mine.concluded("s") == 20
    assert [mine.summary("s", trials) for trials in (10, 20, 30)] == ["ten", "twenty", None]
    anew, frozen = mine.found("s", {"seed": 9}, fresh=True)
    assert anew != found[0][0]
    assert anew.startswith("s-")
    assert frozen == {"seed": 9}
    assert mine.summary("s", 10) is None
    with pytest.raises(TrackingError, match="was started anew elsewhere"):
        mine.conclude("s", found[0][0], 10, "of the former one")


def holding(storage: str, home: Path) -> Any:
    """A process that has taken `k`, and keeps it."""
    into, out = FORK.Pipe(duplex=False)

    def hold() -> None:
        out.send(Ledger(storage, home).take("k"))
        time.sleep(600)

    process = FORK.Process(target=hold)
    process.start()
    assert into.poll(60)
    assert into.recv() is not None
    return process


def test_a_dead_process_of_this_machine_is_known_at_once_buried_or_not(storage: str, tmp_path: Path) -> None:
    process = holding(storage, tmp_path)
    mine = Ledger(storage, tmp_path)
    try:
        assert mine.take("k") is None
        assert not mine.holds("k")
        assert mine.held()["k"].pid == process.pid
        os.kill(process.pid, signal.SIGSTOP)
        assert mine.take("k") is None, "it may go on"
    finally:
        os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and still a zombie
    assert mine.take("k") == module.Lease("k", 0), "from the same folder it is the same attempt"
    process.join()
    assert mine.holds("k")


def beat(storage: str) -> None:
    """Whoever holds something shows that it is alive."""
    with create_engine(storage, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(update(LEASES).values(beat=LEASES.c.beat + 1))


def test_a_process_elsewhere_is_dead_when_its_counter_stands_still(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now, sleep=time.sleep))
    far, near = elsewhere(storage, tmp_path), Ledger(storage, tmp_path)
    assert far.take("k") is not None

    for _ in range(5):  # watched for far longer than the grace, alive all the while
        assert near.take("k") is None
        clock.now += module.GRACE_SECONDS
        beat(storage)
    assert near.take("k") is None
    clock.now += module.GRACE_SECONDS - 1
    assert near.take("k") is None
    clock.now += 2
    assert near.take("k") == module.Lease("k", 1), "another folder: it begins anew"
    assert not far.holds("k"), "whoever slept finds out"
    far.give("k")
    assert near.holds("k"), "and gives nothing back that is not its own"


def test_between_a_look_and_a_reach_nothing_may_have_happened(storage: str, tmp_path: Path) -> None:
    dead, quick = (elsewhere(storage, tmp_path, host) for host in ("dead", "quick"))
    slow = Ledger(storage, tmp_path)
    assert dead.take("k") is not None
    quick._is_dead = lambda row: True
    slow._is_dead = lambda row: quick.take("k") is not None
    assert slow.take("k") is None, "another was quicker"
    assert quick.holds("k")
    slow._is_dead = lambda row: beat(storage) is None
    assert slow.take("k") is None, "it was only slow"
    assert quick.holds("k")


def test_what_is_held_is_kept_alive_and_given_back_at_the_end(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.01)
    far, near = elsewhere(storage, tmp_path), Ledger(storage, tmp_path)
    assert far.take("k") is not None
    assert near.take("mine") is not None

    def beats() -> dict[str, int]:
        with create_engine(storage).connect() as connection:
            return {row.key: row.beat for row in connection.execute(select(LEASES))}

    before = beats()
    far.start()
    deadline = time.monotonic() + 60
    while beats()["k"] < before["k"] + 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert beats()["mine"] == before["mine"], "only its own"
    far.close()
    assert set(near.held()) == {"mine"}
    assert near.take("k") is not None, "at once"


def test_attempts_count_changes_of_home(storage: str, tmp_path: Path) -> None:
    one, two = (elsewhere(storage, tmp_path, host) for host in ("one", "two"))
    attempts = []
    for each in (one, one, two, two, one):
        assert each.at_home("k") == (not attempts or attempts[-1][0] is each)
        attempts.append((each, each.take("k").attempt))
        assert each.take("k").attempt == attempts[-1][1], "it has it already"
        each.give("k")
    assert [attempt for _, attempt in attempts] == [0, 0, 1, 1, 2]
    assert one.holder("k") == one.holder("never") == ""


def test_homes_are_folders_of_machines(storage: str, tmp_path: Path) -> None:
    first, same, other = (
        Ledger(storage, home).home for home in (tmp_path, tmp_path / "." / "a" / "..", tmp_path / "a")
    )
    assert first == same != other


def test_what_another_machine_does_is_not_begun_anew(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.2)
    near, other = Ledger(storage, tmp_path), elsewhere(storage, tmp_path, "lab7")
    check_free(near, "s.lead", "s")
    assert other.take("s.lead") is not None
    other.start()
    with pytest.raises(SettingsError, match="study 's' is being run on lab7; drop --fresh to join it"):
        check_free(near, "s.lead", "s")
    other._stop.set()  # it dies with the lease in hand
    monkeypatch.setattr(module, "GRACE_SECONDS", 1.5)
    check_free(near, "s.lead", "s")


def test_a_storage_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=r"study storage 'postgresql://.*' cannot be opened: .*Pass ano") as refused:
        Ledger("postgresql://anna:secret@127.0.0.1:1/optuna", tmp_path)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)
    with pytest.raises(TrackingError, match=r"cannot be opened: .*unable to open database file"):
        Ledger(f"sqlite:///{tmp_path}/absent/s.db", tmp_path)


def test_on_one_machine_an_owner_of_before_its_last_start_is_dead_at_once(tmp_path: Path) -> None:
    mine = Ledger(f"sqlite:///{tmp_path / 's.db'}", tmp_path)
    now = Owner.me()
    name, _, space = now.host.split("/", 2)
    before = Owner(f"{name}/00000000/{space}", now.pid, now.started)
    with mine._engine.connect() as connection:
        connection.execute(LEASES.insert().values(key="k", owner=str(before), home="h", attempt=0, beat=3))
    assert mine.take("k") is not None
