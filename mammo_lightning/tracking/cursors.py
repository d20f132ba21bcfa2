"""How much of each run a store has: one file a store, appended to while its lock is held."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from mammo_lightning.tracking import lines
from mammo_lightning.tracking.files import write_whole


@dataclass(frozen=True)
class Cursor:
    """How much of a run has been delivered, where, and to which incarnation of the store."""

    offset: int
    mlflow_id: str
    store: str
    experiment: str
    active: bool = True
    #: when a request may have been carried out without our hearing of it; 0 where all is known
    doubt: float = 0.0


class Cursors:
    """The cursors of all runs for one store. Losing the file costs time only: everything is looked up again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, Cursor] = {}
        self._offset = self._lines = self._inode = 0

    def refresh(self) -> dict[str, Cursor]:
        """All cursors by run, with what other processes have written meanwhile."""
        inode = self.path.stat().st_ino if self.path.exists() else 0
        if inode != self._inode or lines.size(self.path) < self._offset:  # written anew, or thrown away
            self._known, self._offset, self._lines, self._inode = {}, 0, 0, inode
        found, self._offset = lines.read(self.path, self._offset)
        for line in found:
            entry = lines.parse(line) or {}
            run = entry.pop("run", None)
            try:
                cursor = Cursor(**entry)
            except TypeError:  # damaged: the run is looked up again
                continue
            if isinstance(run, str) and isinstance(cursor.offset, int):
                self._known[run] = cursor
        self._lines += len(found)
        return self._known

    def get(self, run: str) -> Cursor | None:
        """A cursor as it stood when the file was read last: with the store's lock held nobody else writes."""
        return self._known.get(run)

    def keep(self, run: str, cursor: Cursor) -> None:
        """Write a cursor down; call it with the store's lock held."""
        lines.append(self.path, _line(run, cursor))
        self.refresh()
        if self._lines > 1000 + 4 * len(self._known):
            write_whole(self.path, b"".join(_line(*item) for item in self._known.items()))
            self.refresh()


def _line(run: str, cursor: Cursor) -> bytes:
    return json.dumps({"run": run, **asdict(cursor)}).encode() + b"\n"
