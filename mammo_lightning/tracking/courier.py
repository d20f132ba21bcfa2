"""Which runs a store lacks, and how one of them gets there. Who carries, and when, is the publisher's business."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from mammo_lightning.tracking import lines
from mammo_lightning.tracking.batch import log
from mammo_lightning.tracking.cursors import Cursor, Cursors
from mammo_lightning.tracking.deliver import deliver, find_or_create
from mammo_lightning.tracking.journal import EVENTS, Journal
from mammo_lightning.tracking.links import addressed
from mammo_lightning.tracking.patience import is_missing, is_refused
from mammo_lightning.tracking.sharing import find_above, is_superseded
from mammo_lightning.tracking.state import Event
from mammo_lightning.tracking.store import Store, told
from mammo_lightning.tracking.views import save_views
from mammo_lightning.types import Kind

#: seconds after which a request that timed out here has been carried out there, or never will be
SETTLE = 60.0


class Courier:
    """Carries runs of a journal to one store; a run is known there by its tag `journal`."""

    def __init__(self, journal: Journal, uri: str, mlruns: Path) -> None:
        self.journal = journal
        self.store = Store(uri, mlruns)
        self.cursors = Cursors(journal.folder / f"published-{self.store.key}.jsonl")
        #: look at doubtful runs again without waiting until all has settled
        self.impatient = False
        #: do not wait for other machines to publish the runs above ours
        self.alone = False
        #: experiment, study and time of the views to be saved
        self.to_view: set[tuple[str, str, int]] = set()
        self._doubtful: set[str] = set()
        self._torn: dict[str, int] = {}

    @contextmanager
    def locked(self, timeout: float) -> Iterator[None]:
        """Alone with the store, as far as this tracking folder goes: searching and creating is not one step."""
        self.journal.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.journal.folder / f".{self.store.key}.lock", timeout=timeout):
            self.cursors.refresh()
            yield

    def undelivered(self) -> list[str]:
        """Runs that said something that was not delivered; asks the disk only."""
        known = self.cursors.refresh()
        return [run_id for run_id in self.journal.runs() if self._has_more(run_id, known.get(run_id))]

    def news(self) -> list[str]:
        """Runs to be published: with something new, not settled, or told to a store that is no longer the same."""
        known = self.cursors.refresh()
        runs = self.journal.runs()
        found = {
            run_id
            for run_id in runs
            if self._has_more(run_id, cursor := known.get(run_id)) or (cursor and self._is_due(cursor))
        }
        if found or not self.store.is_server:  # a server that has all is not asked for nothing
            marks = {name: self.store.experiment(name)[1] for name in {each.experiment for each in known.values()}}
            found |= {run_id for run_id, cursor in known.items() if marks[cursor.experiment] != cursor.store}
        return [run_id for run_id in runs if run_id in found]

    def publish(self, run_id: str, *, anew: bool = False) -> bool:
        """Deliver what is new of one run; all of it where `anew`. Returns whether there was anything."""
        run = self.journal.run(run_id)
        begun = run.begun()
        if begun is None:
            return False
        name = begun["identity"]["experiment"]
        experiment_id, mark = self.store.experiment(name)
        kept = self.cursors.get(run_id)
        another = kept is not None and (kept.store != mark or kept.offset > lines.size(run.events))
        whole = anew or kept is None or another or self._is_due(kept)
        before = self.store.patience.doubts
        try:
            cursor, parent = kept, None
            if whole or cursor is None:
                parent = self._parent(begun)
                mlflow_id, active = find_or_create(self.store.client, run, experiment_id, parent, begun)
                cursor = Cursor(0, mlflow_id, mark, name, active)
            events, offset = run.since(cursor.offset)
            if not events:
                return False
            if not cursor.active:
                if kept and kept.active:
                    log.warning("run %s was deleted in MLflow, and stays in the journal only", run_id)
            elif self.store.is_shared and is_superseded(self.store.client, cursor.mlflow_id, run):
                cursor = replace(cursor, active=False)
            else:
                events = addressed(events, experiment_id, lambda named: self._published(named, experiment_id))
                deliver(self.store.client, experiment_id, cursor.mlflow_id, run, events, parent)
        except Exception as error:
            if self.store.patience.doubts > before:
                self._doubtful.add(run_id)
            if not (is_refused(error) or is_missing(error)):
                raise
            if not whole and cursor is not None and not self._is_there(cursor.mlflow_id):
                self.store.opened.pop(name, None)
                return self.publish(run_id, anew=True)  # deleted, lost with an older backup, or another one is kept
            if not is_refused(error) or cursor is None:
                raise
            log.warning("MLflow refuses run %s, which stays in the journal only: %s", run_id, line(error))
        doubt = self._doubt(run_id, kept, whole, before)
        self.cursors.keep(run_id, Cursor(offset, cursor.mlflow_id, mark, name, cursor.active, doubt))
        if whole or any(event["event"] in ("begin", "end") for event in events):
            self._view(experiment_id, begun)
        return True

    def save_views(self) -> None:
        """Write the views of the studies that have changed."""
        for view in sorted(self.to_view):
            experiment_id, study, founded = view
            try:
                save_views(self.store.client, experiment_id, study, created=founded)
            except Exception as error:
                if not (is_refused(error) or is_missing(error)):
                    raise
                log.warning("the saved views of study %r could not be written: %s", study, line(error))
            self.to_view.discard(view)

    def _has_more(self, run_id: str, cursor: Cursor | None) -> bool:
        size = lines.size(f"{self.journal.folder}/{run_id}/{EVENTS}")
        if cursor is None:
            return size > 0
        if size == cursor.offset or self._torn.get(run_id) == size:
            return False
        if size > cursor.offset and not self.journal.run(run_id).since(cursor.offset)[0]:
            self._torn[run_id] = size  # half a line, which is no news until it is whole
            return False
        return True

    def _is_due(self, cursor: Cursor) -> bool:
        return cursor.doubt > 0 and (self.impatient or abs(time.time() - cursor.doubt) > SETTLE)

    def _doubt(self, run_id: str, kept: Cursor | None, whole: bool, before: int) -> float:
        """When something last happened to a run that may not have been what it seemed."""
        if self.store.patience.doubts > before or run_id in self._doubtful:
            self._doubtful.discard(run_id)
            return time.time()
        former = kept.doubt if kept else 0.0
        return 0.0 if whole and abs(time.time() - former) > SETTLE else former

    def _is_there(self, mlflow_id: str) -> bool:
        try:
            return bool(self.store.client.get_run(mlflow_id).info.lifecycle_stage == "active")
        except Exception as error:
            if not is_missing(error):
                raise
            return False

    def _parent(self, begun: Event) -> str | None:
        """MLflow id of the run above, which is published first."""
        parent = begun["identity"]["parent"]
        if not parent:
            return None
        if self.journal.run(parent).begun() is None:
            experiment_id, _ = self.store.experiment(begun["identity"]["experiment"])
            return find_above(self.store.client, experiment_id, parent, patient=not self.alone)
        self.publish(parent)
        above = self.cursors.get(parent)
        return above.mlflow_id if above else None

    def _published(self, run_id: str, experiment_id: str) -> str | None:
        """The MLflow id of a run that has been published, from here or by another machine."""
        cursor = self.cursors.get(run_id)
        if cursor is None:
            return find_above(self.store.client, experiment_id, run_id, patient=False)
        return cursor.mlflow_id if cursor and cursor.active else None

    def _view(self, experiment_id: str, begun: Event) -> None:
        identity = begun["identity"]
        if identity["kind"] in (Kind.study, Kind.trial):
            self.to_view.add((experiment_id, identity["study"], self._founded(begun)))

    def _founded(self, begun: Event) -> int:
        """When the study at the top of a run began."""
        parent = begun["identity"]["parent"]
        above = self.journal.run(parent).begun() if parent else None
        return self._founded(above) if above else int(begun["time"])


def line(error: BaseException) -> str:
    """An error in one line."""
    text = told(" ".join(f"{type(error).__name__}: {error}".split()))
    return text if len(text) <= 200 else f"{text[:200]} ..."
