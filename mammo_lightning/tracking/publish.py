"""From the journal to MLflow, in the background. Training never waits for it, and never fails with it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from filelock import Timeout

from mammo_lightning.errors import TrackingError
from mammo_lightning.progress import Progress
from mammo_lightning.tracking.batch import log
from mammo_lightning.tracking.courier import Courier, line
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.tracking.sharing import Early
from mammo_lightning.tracking.store import check_uri, default_uri, public, sync_command, without_user
from mammo_lightning.tracking.views import LEADERBOARD, leaderboard_link, view_key

__all__ = ["Publisher", "check_uri", "default_uri"]

PAUSE, LONGEST_PAUSE = 1.0, 30.0
ENOUGH = 60.0  # seconds of silence, for commands that add something once
SHORT = 3.0  # seconds of waiting that need no word
REST = 20  # a look through the store is followed by a rest of so many times its length
PATIENCE = 3  # runs that fail one after another before the store itself is taken to be down


class Publisher:
    """Publishes the runs of a journal to one store, from a thread: training never waits."""

    def __init__(self, journal: Journal, uri: str, mlruns: Path) -> None:
        self.journal = journal
        self.courier = Courier(journal, uri, mlruns)
        self.store = self.courier.store
        self._stop = threading.Event()
        self._looked = 0.0
        self._thread: threading.Thread | None = None
        self._failure, self._warned = "", False

    @property
    def hanging(self) -> bool:
        """Whether the thread still waits for an answer after `close`; it ends with the process."""
        return self._stop.is_set() and self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Publish what is new about every second, from a thread that does not keep the process alive."""
        self._thread = threading.Thread(target=self._loop, name="publisher", daemon=True)
        self._thread.start()

    def close(self, timeout: float = 10, progress: Progress | None = None) -> None:
        """Deliver the rest and stop; what is left then is said, and stays in the journal.

        Args:
            timeout: Seconds without any answer after which the server is not waited for. One that answers is, however
                slow it is.
            progress: Told of a longer wait; if it is asked to stop, so is this, `timeout` seconds later.
        """
        patience, progress, told = self.store.patience, progress or Progress(), time.monotonic() + SHORT
        patience.silence = timeout
        patience.heard()
        if self._thread is None:
            self.start()
        self._stop.set()
        assert self._thread is not None
        while self._thread.is_alive() and time.monotonic() < patience.deadline:
            self._thread.join(min(0.5, timeout))
            if progress.stopping:
                patience.silence = None
            if time.monotonic() > told:
                progress.say(f"publishing what is left to MLflow at {public(self.store.uri)}")
                told = float("inf")
        if left := len(self.undelivered()):
            why = "interrupted" if progress.stopping else f"no answer for {timeout:g} s"
            log.warning(
                "%d %s not, or not wholly, in MLflow at %s (%s); nothing is lost: `%s` delivers what is in %s",
                *(left, "run is" if left == 1 else "runs are", public(self.store.uri)),
                *(self._failure or why, sync_command(self.store), self.journal.folder),
            )

    def undelivered(self) -> list[str]:
        """Runs that said something that was not delivered; asks the disk only, never the server."""
        return self.courier.undelivered()

    def publish_all(self, timeout: float = 600) -> int:
        """Deliver everything that is new, now; returns the number of runs that had news."""
        try:
            return self._pass(timeout)
        except Timeout:
            raise TrackingError(f"another process is publishing to {public(self.store.uri)}; wait for it") from None
        except TrackingError:
            raise
        except Exception as error:
            where = public(self.store.uri)
            raise TrackingError(f"cannot publish to {where}: {line(error)}. Is the server running?") from error

    def link(self, target: str, key: str | None = None, port: int = 5000) -> str:
        """Where a browser finds the leaderboard of a study, named by its run, or by its experiment and a view's key."""
        identity = self.journal.run(target).identity if target in self.journal.runs() else {}
        name = identity.get("experiment", target)
        if name not in self.store.opened and (self._failure or self.hanging):  # asking would only wait again
            raise TrackingError(f"MLflow at {public(self.store.uri)} does not answer; `{sync_command(self.store)}`")
        experiment_id, _ = self.store.experiment(name)
        base = without_user(self.store.uri) if self.store.is_server else f"http://127.0.0.1:{port}"
        key = key or view_key(identity.get("study", target), LEADERBOARD)
        return leaderboard_link(base, experiment_id, key)

    def _loop(self) -> None:
        pause, again = PAUSE, True
        while again:
            again = not self._stop.is_set()  # one more pass after the stop: it delivers what came before it
            self.courier.impatient = not again
            began = time.monotonic()
            try:
                self._pass(0 if again else max(0.0, self.store.patience.deadline - time.monotonic()))
                self._failure, pause = "", PAUSE
            except Timeout:
                self._failure = "another process was publishing"
            except Exception as error:  # a thread that dies would be silent
                self._failure, pause = line(error), min(2 * pause, LONGEST_PAUSE)
                if not self._warned and not self._stop.is_set():
                    where = public(self.store.uri)
                    log.warning("MLflow at %s cannot be reached, retrying meanwhile: %s", where, self._failure)
                    self._warned = True
            self._stop.wait(max(pause, REST * (self._looked - began)))

    def _pass(self, timeout: float) -> int:
        self._looked = time.monotonic()
        runs = self.courier.news()
        self._looked = time.monotonic()
        if not runs and not self.courier.to_view:
            return 0
        with self.courier.locked(timeout):
            return self._publish_each(runs)

    def _publish_each(self, runs: list[str]) -> int:
        published, failure, failures = 0, None, 0
        for run_id in runs:
            if time.monotonic() > self.store.patience.deadline:
                break
            try:
                published += self.courier.publish(run_id)
                failures = 0
            except Early:
                continue
            except Exception as error:  # one run that fails must not hold up the others
                failure, failures = failure or error, failures + 1
                if failures >= PATIENCE:
                    break
        if failures < PATIENCE:
            self.courier.save_views()
        if failure:
            raise failure
        return published
