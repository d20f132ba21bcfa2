"""From the journal to MLflow, in the background. Training never waits for it, and never fails with it."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from mammo_lightning.errors import TrackingError
from mammo_lightning.tracking.batch import log
from mammo_lightning.tracking.deliver import deliver, find_or_create, is_refused
from mammo_lightning.tracking.files import write_whole
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.tracking.store import Store, check_uri, default_uri, public
from mammo_lightning.tracking.views import LEADERBOARD, leaderboard_link, view_key, write_views
from mammo_lightning.types import Kind

__all__ = ["Publisher", "check_uri", "default_uri"]

PAUSE, LONGEST_PAUSE = 1.0, 30.0
PATIENCE = 3  # runs that fail in one pass before the store itself is taken to be down


@dataclass(frozen=True)
class Cursor:
    """How much of a run has been delivered, where, and to which incarnation of the store."""

    offset: int
    mlflow_id: str
    store: str
    active: bool = True


class Publisher:
    """Publishes the runs of a journal to one store, idempotently: a run is known there by its tag `journal`."""

    def __init__(self, journal: Journal, uri: str, mlruns: Path) -> None:
        self.journal = journal
        self.store = Store(uri, mlruns)
        self._cursors: dict[str, Cursor] = {}
        self._to_view: set[tuple[str, str, int]] = set()
        self._stop = threading.Event()
        self._deadline = 0.0
        self._thread: threading.Thread | None = None
        self._failure = ""

    def start(self) -> None:
        """Publish what is new about every second, from a thread that does not keep the process alive."""
        self._thread = threading.Thread(target=self._loop, name="publisher", daemon=True)
        self._thread.start()

    def close(self, timeout: float = 60) -> None:
        """Deliver the rest and stop; what could not be delivered is said, and stays in the journal."""
        self._deadline = time.monotonic() + timeout
        if self._thread is None:
            self.start()
        self._stop.set()
        assert self._thread is not None
        self._thread.join(timeout)
        if left := self._undelivered():
            why = self._failure or f"{timeout:g} s were not enough"
            log.warning(
                "%d runs are not, or not wholly, in MLflow at %s (%s); nothing is lost: they are in %s, and the "
                "next study that runs publishes them",
                *(left, public(self.store.uri), why, self.journal.folder),
            )

    def publish_all(self, timeout: float = 600) -> int:
        """Deliver everything that is new, now; returns the number of runs that had news."""
        try:
            return self._pass(timeout)
        except Timeout:
            raise TrackingError(f"another process is publishing to {public(self.store.uri)}; wait for it") from None
        except Exception as error:
            where = public(self.store.uri)
            raise TrackingError(f"cannot publish to {where}: {_line(error)}. Is the server running?") from error

    def link(self, target: str, key: str | None = None, port: int = 5000) -> str:
        """Where a browser finds the leaderboard of a study, named by its run, or by its experiment and a view's key."""
        identity = self.journal.run(target).identity if target in self.journal.runs() else {}
        experiment_id, _ = self.store.experiment(identity.get("experiment", target))
        base = self.store.uri if self.store.uri.startswith("http") else f"http://127.0.0.1:{port}"
        key = key or view_key(identity.get("study", target), LEADERBOARD)
        return leaderboard_link(base, experiment_id, key)

    def _loop(self) -> None:
        pause, again = PAUSE, True
        while again:
            again = not self._stop.is_set()  # one more pass after the stop: it delivers what came before it
            try:
                self._pass(0 if again else max(0.0, self._deadline - time.monotonic()))
                self._failure, pause = "", PAUSE
            except Timeout:
                self._failure = "another process was publishing"
            except Exception as error:  # a thread that dies would be silent
                if not self._failure:
                    where = public(self.store.uri)
                    log.warning("MLflow at %s cannot be reached, retrying meanwhile: %s", where, _line(error))
                self._failure, pause = _line(error), min(2 * pause, LONGEST_PAUSE)
            self._stop.wait(pause)

    def _pass(self, timeout: float) -> int:
        runs = [run_id for run_id in self.journal.runs() if self._has_news(run_id)]
        if not runs:
            return 0
        self.journal.folder.mkdir(parents=True, exist_ok=True)
        # two at once would create a run twice, for searching and creating is not one step
        with FileLock(self.journal.folder / f".{self.store.key}.lock", timeout=timeout):
            for run_id in runs:
                self._cursors.pop(run_id, None)  # another process may have delivered meanwhile
            return self._publish_each(runs)

    def _publish_each(self, runs: list[str]) -> int:
        published, failures = 0, []
        for run_id in runs:
            try:
                published += self._publish(run_id)
            except Exception as error:  # one run that fails must not hold up the others
                failures.append(error)
                if len(failures) >= PATIENCE:
                    break
        for experiment_id, study, founded in sorted(self._to_view):
            write_views(self.store.client, experiment_id, study, created=founded)
        self._to_view.clear()
        if failures:
            raise failures[0]
        return published

    def _publish(self, run_id: str) -> bool:
        run = self.journal.run(run_id)
        begun = run.begun()
        if begun is None:
            return False
        identity = begun["identity"]
        experiment_id, store = self.store.experiment(identity["experiment"])
        cursor = self._cursor(run_id)
        if cursor is None or cursor.store != store:
            cursor = self._address(run_id, experiment_id, store)
        events, offset = run.since(cursor.offset)
        if not events:
            return False
        if cursor.active:
            try:
                deliver(self.store.client, experiment_id, cursor.mlflow_id, run, events)
            except Exception as error:
                if not is_refused(error):
                    raise
                log.warning("MLflow refuses run %s, which stays in the journal only: %s", run_id, _line(error))
        self._keep(run_id, Cursor(offset, cursor.mlflow_id, store, cursor.active))
        if identity["kind"] in (Kind.study, Kind.trial) and any(event["event"] in ("begin", "end") for event in events):
            self._to_view.add((experiment_id, identity["study"], self._founded(run_id)))
        return True

    def _founded(self, run_id: str) -> int:
        """When the study at the top of a run began."""
        begun = self.journal.run(run_id).begun()
        assert begun is not None
        parent = begun["identity"]["parent"]
        return self._founded(parent) if parent and self.journal.run(parent).begun() else int(begun["time"])

    def _address(self, run_id: str, experiment_id: str, store: str) -> Cursor:
        run = self.journal.run(run_id)
        begun = run.begun()
        assert begun is not None
        parent = begun["identity"]["parent"]
        if parent and self.journal.run(parent).begun():
            self._publish(parent)
            above = self._cursor(parent)
            parent = above.mlflow_id if above else None
        mlflow_id, active = find_or_create(self.store.client, run, experiment_id, parent, begun)
        return Cursor(0, mlflow_id, store, active)

    def _has_news(self, run_id: str) -> bool:
        cursor = self._cursor(run_id)
        if cursor is None or self.journal.run(run_id).events.stat().st_size > cursor.offset:
            return True
        begun = self.journal.run(run_id).begun() if not self._known(cursor) else None
        return begun is not None and self.store.experiment(begun["identity"]["experiment"])[1] != cursor.store

    def _known(self, cursor: Cursor) -> bool:
        return cursor.store in {mark for _, mark in self.store.opened.values()}

    def _undelivered(self) -> int:
        cursors = {run_id: self._cursor(run_id) for run_id in self.journal.runs()}
        sizes = {run_id: self.journal.run(run_id).events.stat().st_size for run_id in cursors}
        return sum(cursor is None or cursor.offset < sizes[run_id] for run_id, cursor in cursors.items())

    def _cursor(self, run_id: str) -> Cursor | None:
        if run_id not in self._cursors:
            try:
                self._cursors[run_id] = Cursor(**json.loads(self._path(run_id).read_text()))
            except (OSError, ValueError, TypeError):
                return None
        return self._cursors[run_id]

    def _keep(self, run_id: str, cursor: Cursor) -> None:
        self._cursors[run_id] = cursor
        write_whole(self._path(run_id), json.dumps(asdict(cursor)).encode())

    def _path(self, run_id: str) -> Path:
        return self.journal.run(run_id).folder / f"published-{self.store.key}.json"


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
