"""Who does what, where several machines work on one study: names of studies, and leases that a dead owner loses.

The tables stand in the same database as Optuna's. No clock is compared between machines: a lease carries a counter
that its owner keeps raising, and whoever wants it watches the counter by its own clock.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Integer, MetaData, String, Table, Text, create_engine, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from mammo_lightning.errors import SettingsError, TrackingError
from mammo_lightning.owner import Owner
from mammo_lightning.tracking.store import public, told
from mammo_lightning.types import digest

BEAT_SECONDS = 10.0
GRACE_SECONDS = 60.0  # an owner elsewhere whose counter stood still so long is dead

_metadata = MetaData()
STUDIES = Table(
    "mammo_studies",
    _metadata,
    Column("name", String(64), primary_key=True),
    Column("id", String(80), nullable=False),
    Column("frozen", Text, nullable=False),
    Column("summaries", Text, nullable=False),
)
NOTES = Table(
    "mammo_notes",
    _metadata,
    Column("key", String(200), primary_key=True),
    Column("value", Text, nullable=False),
)
LEASES = Table(
    "mammo_leases",
    _metadata,
    Column("key", String(160), primary_key=True),
    Column("owner", String(200), nullable=False),  # empty: free
    Column("home", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("beat", Integer, nullable=False),
)


@dataclass(frozen=True)
class Lease:
    """A right to do one thing alone; `attempt` counts the folders it has been tried from before."""

    key: str
    attempt: int


class Ledger:
    """The leases and studies of one database, as seen by one process."""

    def __init__(self, storage: str, home: Path) -> None:
        self.owner = str(Owner.me())
        self.home = digest(Owner.me().host, Path(home).resolve())
        local = storage.startswith("sqlite")
        self._engine = create_engine(
            storage,
            isolation_level="AUTOCOMMIT",  # every step below is one statement that says what it expects to find
            pool_pre_ping=not local,
            connect_args={"timeout": 60} if local else {"connect_timeout": 10},
        )
        self._local = local
        self._watched: dict[str, tuple[str, int, float]] = {}
        self._stop = threading.Event()
        try:
            self._create()
        except SQLAlchemyError as error:
            first = told(str(error).splitlines()[0])
            raise TrackingError(
                f"study storage '{public(storage)}' cannot be opened: {first}. Pass another --storage or --mlruns"
            ) from None

    def _create(self) -> None:
        for last in (False, False, True):
            try:
                _metadata.create_all(self._engine)
                return
            except SQLAlchemyError:  # two processes may make the tables at once
                if last:
                    raise
                time.sleep(0.3)

    def start(self) -> None:
        """Keep raising the counters of what is held, until `close`."""
        threading.Thread(target=self._beat, name="ledger", daemon=True).start()

    def close(self) -> None:
        """Give back everything that is held."""
        self._stop.set()
        try:
            with self._engine.connect() as connection:
                connection.execute(update(LEASES).where(LEASES.c.owner == self.owner).values(owner=""))
        except SQLAlchemyError:
            pass  # others will see that the counters stand still
        self._engine.dispose()

    def found(self, name: str, frozen: Mapping[str, Any], *, fresh: bool) -> tuple[str, dict[str, Any]]:
        """The id of the study called `name` and what it was founded with; founded now if there is none, or `fresh`."""
        text = json.dumps(frozen, sort_keys=True, default=str)
        row = {"id": f"{name}-{secrets.token_hex(3)}", "frozen": text, "summaries": "{}"}
        with self._engine.connect() as connection:
            try:
                connection.execute(insert(STUDIES).values(name=name, **row))
            except IntegrityError:
                if fresh:
                    connection.execute(update(STUDIES).where(STUDIES.c.name == name).values(**row))
            known = connection.execute(select(STUDIES).where(STUDIES.c.name == name)).one()
        return str(known.id), json.loads(known.frozen)

    def known(self, name: str) -> tuple[str, dict[str, Any]] | None:
        """The id of a study and what it was founded with, if there is one."""
        with self._engine.connect() as connection:
            row = connection.execute(select(STUDIES).where(STUDIES.c.name == name)).one_or_none()
        return (str(row.id), json.loads(row.frozen)) if row else None

    def summary(self, name: str, trials: int) -> str | None:
        """What the study ended in at a number of trials, if it has."""
        with self._engine.connect() as connection:
            text = connection.execute(select(STUDIES.c.summaries).where(STUDIES.c.name == name)).scalar_one_or_none()
        kept: dict[str, str] = json.loads(text or "{}")
        return kept.get(str(trials))

    def concluded(self, name: str) -> int:
        """The highest number of trials at which the study has ended; 0 if it has not."""
        with self._engine.connect() as connection:
            text = connection.execute(select(STUDIES.c.summaries).where(STUDIES.c.name == name)).scalar_one_or_none()
        return max((int(trials) for trials in json.loads(text or "{}")), default=0)

    def conclude(self, name: str, identity: str, trials: int, summary: str) -> None:
        """Keep what the study ended in, unless another was founded under its name meanwhile."""
        same = (STUDIES.c.name == name, STUDIES.c.id == identity)
        with self._engine.connect() as connection:
            text = connection.execute(select(STUDIES.c.summaries).where(*same)).scalar_one_or_none()
            if text is None:
                raise TrackingError(f"study {name!r} was started anew elsewhere; pass --name for one of its own")
            kept = {**json.loads(text), str(trials): summary}
            connection.execute(update(STUDIES).where(*same).values(summaries=json.dumps(kept)))

    def note(self, key: str) -> str | None:
        """What was kept under `key`."""
        with self._engine.connect() as connection:
            return connection.execute(select(NOTES.c.value).where(NOTES.c.key == key)).scalar_one_or_none()

    def notes(self, start: str) -> list[str]:
        """Everything kept under keys that begin so."""
        with self._engine.connect() as connection:
            found = select(NOTES.c.value).where(NOTES.c.key.startswith(start, autoescape=True)).order_by(NOTES.c.key)
            return list(connection.execute(found).scalars())

    def keep(self, key: str, value: str) -> None:
        """Keep a value; what was kept under `key` before stays."""
        with self._engine.connect() as connection, suppress(IntegrityError):
            connection.execute(insert(NOTES).values(key=key, value=value))

    def take(self, key: str) -> Lease | None:
        """Hold `key`, unless a living process has it."""
        with self._engine.connect() as connection:
            row = connection.execute(select(LEASES).where(LEASES.c.key == key)).one_or_none()
            if row is None:
                new = {"owner": self.owner, "home": self.home, "attempt": 0, "beat": 0}
                try:
                    connection.execute(insert(LEASES).values(key=key, **new))
                except IntegrityError:
                    return None  # another process was quicker
                return Lease(key, 0)
            if row.owner == self.owner:
                return Lease(key, row.attempt)
            if row.owner and not self._is_dead(row):
                return None
            attempt = row.attempt + (row.home != self.home)
            same = (LEASES.c.key == key, LEASES.c.owner == row.owner, LEASES.c.beat == row.beat)
            mine = {"owner": self.owner, "home": self.home, "attempt": attempt, "beat": row.beat + 1}
            taken = connection.execute(update(LEASES).where(*same).values(**mine)).rowcount == 1
        return Lease(key, attempt) if taken else None

    def outlast(self, key: str, stopping: Callable[[], bool] = lambda: False) -> Lease | None:
        """Hold `key`, waiting until an owner elsewhere that is silent is known to be dead; None if it is not."""
        deadline = time.monotonic() + GRACE_SECONDS + BEAT_SECONDS
        beat = self.beat(key)
        while (lease := self.take(key)) is None and self.beat(key) == beat and time.monotonic() < deadline:
            if stopping():
                return None
            time.sleep(1.0)
        return lease

    def give(self, key: str) -> None:
        """Give back `key`."""
        mine = (LEASES.c.key == key, LEASES.c.owner == self.owner)
        with self._engine.connect() as connection:
            connection.execute(update(LEASES).where(*mine).values(owner=""))

    def holds(self, key: str) -> bool:
        """Whether `key` is still held here: a machine that slept may have lost it."""
        return self.holder(key) == self.owner

    def holder(self, key: str) -> str:
        """Who holds `key`; empty if nobody does."""
        with self._engine.connect() as connection:
            return connection.execute(select(LEASES.c.owner).where(LEASES.c.key == key)).scalar_one_or_none() or ""

    def beat(self, key: str) -> int:
        """The counter of `key`; it stands still where its holder is dead."""
        with self._engine.connect() as connection:
            return connection.execute(select(LEASES.c.beat).where(LEASES.c.key == key)).scalar_one_or_none() or 0

    def at_home(self, key: str) -> bool:
        """Whether `key` was last held from this folder, or never."""
        with self._engine.connect() as connection:
            home = connection.execute(select(LEASES.c.home).where(LEASES.c.key == key)).scalar_one_or_none()
        return home in (None, self.home)

    def held(self) -> dict[str, Owner]:
        """Everything that somebody holds."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(LEASES).where(LEASES.c.owner != "")).all()
        return {row.key: Owner.parse(row.owner) for row in rows}

    @contextmanager
    def alone(self, key: str, patience: float = 300.0) -> Iterator[None]:
        """Hold `key` for a moment, waiting for whoever has it."""
        deadline = time.monotonic() + patience
        while self.take(key) is None:
            if time.monotonic() > deadline:
                raise TrackingError(f"{key} was not free for {patience:g} s (held by {self.holder(key)}); try again")
            time.sleep(0.05)
        try:
            yield
        finally:
            self.give(key)

    def _is_dead(self, row: Any) -> bool:
        owner = Owner.parse(row.owner)
        if owner.near:
            return not owner.alive
        if self._local and owner.machine == Owner.me().machine:
            return True  # a file is used on one machine: it died with a former start of it
        known, now = self._watched.get(row.key), time.monotonic()
        if known is None or known[:2] != (row.owner, row.beat):
            self._watched[row.key] = (row.owner, row.beat, now)
            return False
        return now - known[2] > GRACE_SECONDS

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            try:
                with self._engine.connect() as connection:
                    mine = LEASES.c.owner == self.owner
                    connection.execute(update(LEASES).where(mine).values(beat=LEASES.c.beat + 1))
            except SQLAlchemyError:
                continue  # a database that is away for a moment: the next beat may reach it


def check_free(ledger: Ledger, key: str, name: str) -> None:
    """Refuse to begin anew what another machine is doing; of one that is silent it takes a minute to know."""
    holder = ledger.holder(key)
    if holder not in ("", ledger.owner) and ledger.outlast(key) is None:
        raise SettingsError(f"study {name!r} is being run on {Owner.parse(holder).host}; drop --fresh to join it")
