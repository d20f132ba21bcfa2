"""A csv of scores that grows, is always whole, and is gone on with; beside it, what it was made by and of."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mammo_lightning.errors import DataError
from mammo_lightning.tracking.files import write_whole

#: at least so many seconds between two writes, and so many times as long as a write takes
PAUSE, REST = 10.0, 20.0
State = tuple[int, int]


class ScoreFile:
    """`path,p_<class>,p_<class>` in order of path, and `<name>.json` beside it.

    The csv is written before what stands beside it, so that a row counts as known only where the state of its file
    (size and time of change) was noted after its score.
    """

    def __init__(self, path: Path, *, model: Mapping[str, str], source: str, classes: tuple[str, str]) -> None:
        self.path, self.beside = path, path.with_name(f"{path.name}.json")
        self.model, self.source, self.classes = dict(model), source, classes
        self.head = ["path", *(f"p_{name}" for name in classes)]
        self.scores: dict[str, float] = {}
        self.states: dict[str, State] = {}
        self.unreadable: dict[str, str] = {}
        self._written, self._took = time.monotonic(), 0.0
        self._take_up()

    def keep(self, states: Mapping[str, State]) -> None:
        """Forget rows of files that are gone or have changed since."""
        same = {name for name, state in states.items() if name in self.scores and self.states.get(name) == state}
        self.scores = {name: score for name, score in self.scores.items() if name in same}
        self.states = {name: self.states[name] for name in self.scores}

    def add(self, names: Iterable[str], states: Iterable[State], scores: Iterable[float]) -> None:
        """More rows; written now and then."""
        for name, state, score in zip(names, states, scores, strict=True):
            self.scores[name], self.states[name] = float(score), state
        if time.monotonic() - self._written > max(PAUSE, REST * self._took):
            self.write()

    def write(self, *, complete: bool = False) -> None:
        """Write all rows there are."""
        begun = time.monotonic()
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.head)
        writer.writerows((name, repr(1.0 - self.scores[name]), repr(self.scores[name])) for name in sorted(self.scores))
        about: dict[str, Any] = {"model": self.model, "source": self.source, "complete": complete}
        about |= {"unreadable": self.unreadable, "files": {name: self.states[name] for name in sorted(self.states)}}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, text.getvalue().encode())
            write_whole(self.beside, json.dumps(about, indent=0).encode())
        except OSError as error:
            raise DataError(
                f"--out '{self.path}' cannot be written to ({error.strerror or error}); free some space, or pass "
                "another file. What was written before is whole"
            ) from None
        self._written = time.monotonic()
        self._took = self._written - begun

    def _take_up(self) -> None:
        if os.path.isdir(self.path):  # noqa: PTH112 - Path.is_dir raises below a file
            raise DataError(f"--out '{self.path}' is a folder; pass the name of a csv file")
        if not os.path.lexists(self.path):
            return
        try:
            about = json.loads(self.beside.read_bytes())
            model, source = dict(about["model"]), str(about["source"])
            states = {str(name): (int(size), int(changed)) for name, (size, changed) in about["files"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise DataError(
                f"'{self.path}' stands there, and nothing beside it says that it was written by this command; pass "
                "another --out, or remove it"
            ) from None
        if model.get("digest") != self.model["digest"] or source != self.source:
            what = f"of model {model.get('name')!r}" if source == self.source else f"of '{source}'"
            raise DataError(f"'{self.path}' holds scores {what}; pass another --out, or remove it")
        known = self._rows()
        self.states = {name: state for name, state in states.items() if name in known}
        self.scores = {name: known[name] for name in self.states}

    def _rows(self) -> dict[str, float]:
        """What the csv says; a line that was tampered with is scored again."""
        known: dict[str, float] = {}
        try:
            with self.path.open(newline="", encoding="utf-8") as stream:
                reader = csv.reader(stream)
                if next(reader, None) != self.head:
                    return {}
                for row in reader:
                    if len(row) == len(self.head) and 0.0 <= (score := _number(row[-1])) <= 1.0:
                        known[row[0]] = score
        except (OSError, ValueError, csv.Error):
            return {}
        return known


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
