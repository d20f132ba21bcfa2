"""The journal: what happened in each run, appended to a file on disk before anybody else hears of it.

`<mlruns>/journal/<run id>/events.jsonl` holds one JSON object a line. A process may be killed in the middle of a
line, and a power cut may leave anything: readers skip and count what is no event, and the next writer ends a torn line
before it appends its own. Times never go backwards within a run, nor from a run to those under it, whatever the clock
does.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mammo_lightning.errors import TrackingError
from mammo_lightning.tracking import lines
from mammo_lightning.tracking.files import (
    check_name,
    copy_tree,
    file_digest,
    link_whole,
    remove,
    tree_digest,
    write_whole,
    writing,
)
from mammo_lightning.tracking.index import Index
from mammo_lightning.tracking.state import Event, State, parse, place
from mammo_lightning.types import Kind, Outcome, digest

EVENTS = "events.jsonl"
#: folder beside the journal: runs to be read here, never written to or published
BORROWED = "borrowed"


class Journal:
    """The journals of all runs of one tracking folder; `borrowed` are copies of what other machines published."""

    def __init__(self, mlruns: Path, *, borrowed: bool = False) -> None:
        self.folder = Path(mlruns).resolve() / (BORROWED if borrowed else "journal")
        self._index = Index(self.folder, self._order)

    def run(self, run_id: str) -> RunJournal:
        """The journal of one run, begun or not."""
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", run_id):
            raise TrackingError(f"run id {run_id!r} is no folder name; use letters, digits, '-', '_' and '.'")
        return RunJournal(self.folder / run_id)

    def runs(self) -> list[str]:
        """Ids of all runs that have begun, in order of their beginning."""
        return self._index.names()

    def _order(self, run_id: str) -> int | None:
        begun = RunJournal(self.folder / run_id).begun()
        return int(begun["order"]) if begun else None


class RunJournal:
    """One run: its identity, and everything it said, in order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.artifacts = folder / "artifacts"
        self.events = folder / EVENTS
        self._offset = self._unreadable = 0
        self._state = State()

    @property
    def run_id(self) -> str:
        """The name by which the run is known everywhere."""
        return self.folder.name

    @property
    def identity(self) -> dict[str, Any]:
        """Kind, name, study, parent and experiment; empty before `begin`."""
        self._catch_up()
        return dict(self._state.identity)

    @property
    def outcome(self) -> Outcome | None:
        """How the run ended; None while it runs (or was killed)."""
        self._catch_up()
        return self._state.outcome

    @property
    def reason(self) -> str:
        """Why it ended so."""
        self._catch_up()
        return self._state.reason

    def begin(
        self, *, kind: Kind | str, name: str, study: str, parent: str | None, experiment: str, tags: Mapping[str, str]
    ) -> None:
        """Say who the run is. Said again it changes nothing, but for reopening a run that had ended."""
        identity = {"kind": str(kind), "name": name, "study": study, "parent": parent, "experiment": experiment}
        self._catch_up()
        if not self._state.identity:
            words = {str(key): str(value) for key, value in tags.items()}
            order = time.time_ns()
            if parent and (above := RunJournal(self.folder.parent / parent).begun()):
                order, self._state.time = max(order, above["order"] + 1), above["time"]
            self._append("begin", flush=True, identity=identity, tags=words, order=order)
            return
        if self._state.identity != identity:
            known = self._state.identity
            raise TrackingError(f"run '{self.run_id}' was begun as {known}, not as {identity}; use another id")
        if self._state.outcome is not None:
            self._append("reopen", flush=True)
        self.tags(tags)

    def end(self, outcome: Outcome | str, reason: str = "") -> None:
        """Say how it ended."""
        self._catch_up()
        self._append("end", flush=True, outcome=str(Outcome(outcome)), reason=reason)

    def params(self, values: Mapping[str, object]) -> None:
        """Settings: said once, they do not change."""
        self._catch_up()
        new = {key: str(value) for key, value in values.items() if self._state.params.get(key) != str(value)}
        if new:
            self._append("params", values=new)

    def tags(self, values: Mapping[str, object]) -> None:
        """Words to search by; the last one said counts."""
        self._catch_up()
        new = {key: str(value) for key, value in values.items() if self._state.tags.get(key) != str(value)}
        if new:
            self._append("tags", values=new)

    def note(self, text: str) -> None:
        """What the run's page says on top: the conclusion first."""
        self.tags({"mlflow.note.content": text})

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Numbers at one step."""
        self._catch_up()
        new = {key: float(value) for key, value in values.items() if self._state.is_new_point(key, step, float(value))}
        if new:
            self._append("metrics", values=new, step=step)

    def series(self, key: str, values: Sequence[float]) -> None:
        """A curve: its values at steps 0, 1, 2 ..."""
        self._catch_up()
        pairs = [[step, float(value)] for step, value in enumerate(values)]
        new = [[step, value] for step, value in pairs if self._state.is_new_point(key, int(step), value)]
        if new:
            self._append("series", key=key, points=new)

    def write(self, name: str, data: bytes | str) -> Path:
        """Write an artifact file."""
        content = data.encode() if isinstance(data, str) else data
        path = self.artifacts / check_name(name)
        with writing(self.folder):
            write_whole(path, content)
        self._say_once("artifact", name=check_name(name), digest=digest(content))
        return path

    def artifact(self, path: Path, name: str) -> Path:
        """Keep a file as an artifact: by a second name for it, so nobody may write into it afterwards; or a copy."""
        if not path.is_file():
            raise TrackingError(f"no file '{path}' to keep as artifact {name!r} of run '{self.run_id}'; write it first")
        kept = self.artifacts / check_name(name)
        with writing(self.folder):
            link_whole(path, kept)
        self._say_once("artifact", name=check_name(name), digest=file_digest(kept))
        return kept

    def drop(self, prefix: str) -> None:
        """Free what lies below a prefix (or is called so), here and in MLflow; said again it changes nothing.

        Artifacts are meant by their name; images and models by their path in the run's folder, which begins with
        `images/` and `models/`. So `drop("models")` frees the members' weights among the artifacts and every servable
        model of the run, and `drop("models/t003")` one of them. What is written again later is kept again.
        """
        name = check_name(prefix)
        self._catch_up()
        said = self._state.below(name)
        if said:  # first said, then done: who was killed in between calls it again
            self._append("drop", flush=True, name=name)
        own = [place(event) for event in said if event["event"] != "artifact"]
        if name.split("/")[0] in ("images", "models"):
            own.append(name)
        for path in (self.artifacts / name, *(self.folder / each for each in own)):
            remove(path)

    def image(self, key: str, png: bytes, step: int = 0) -> None:
        """A picture of a series that the UI lays out as a wall across runs."""
        if not png.startswith(b"\x89PNG"):
            raise TrackingError(f"image {key!r} of run '{self.run_id}' is no PNG; pass the bytes of a PNG file")
        name = f"images/{digest(key)}-{step}.png"
        with writing(self.folder):
            write_whole(self.folder / name, png)
        self._say_once("image", key=key, step=step, file=name, digest=digest(png))

    def dataset(
        self, name: str, digest: str, source: str, *, split: str = "", profile: Mapping[str, Any] | None = None
    ) -> None:
        """The data the run learned from; `split` names the frozen folds, `profile` holds counts."""
        self._say_once("dataset", name=name, digest=digest, source=source, split=split, profile=dict(profile or {}))

    def model(self, folder: Path, name: str, metrics: Mapping[str, float]) -> None:
        """A ready MLflow model folder, and the metrics that are this model's own."""
        if not (folder / "MLmodel").is_file():
            raise TrackingError(f"no MLmodel in '{folder}'; expected a folder written by save_servable")
        kept = self.folder / "models" / check_name(name)
        if not folder.resolve().is_relative_to(self.folder):
            with writing(self.folder):
                copy_tree(folder, kept)
            folder = kept
        self._catch_up()
        points = {key: self._state.points.get((key, 0)) for key in metrics}
        now = max(time.time_ns() // 1_000_000, self._state.time)
        timed = {
            # the point the run already has is the model's too: with another time it would stand there twice
            key: [float(value), point[1] if point and point[0] == float(value) else now]
            for (key, value), point in zip(metrics.items(), points.values(), strict=True)
        }
        relative = folder.resolve().relative_to(self.folder).as_posix()
        self._say_once("model", name=name, folder=relative, digest=tree_digest(folder), metrics=timed)

    def read_metrics(self) -> dict[str, float]:
        """The last value of every metric (the one at the highest step)."""
        self._catch_up()
        last: dict[str, tuple[int, float]] = {}
        for (key, step), (value, _) in self._state.points.items():
            if key not in last or step >= last[key][0]:
                last[key] = (step, value)
        return {key: value for key, (_, value) in last.items()}

    def read_series(self, key: str) -> list[float]:
        """All values of one metric in order of their steps."""
        self._catch_up()
        return [value for (name, _), (value, _) in sorted(self._state.points.items()) if name == key]

    def read_params(self) -> dict[str, str]:
        """All settings."""
        self._catch_up()
        return dict(self._state.params)

    def read_tags(self) -> dict[str, str]:
        """All tags."""
        self._catch_up()
        return dict(self._state.tags)

    def unreadable(self) -> int:
        """How many lines are no event: torn by a kill, or damaged; one still being written counts too."""
        self._catch_up()
        return self._unreadable + (lines.size(self.events) > self._offset)

    def holds(self, event: Event) -> bool:
        """Whether what an event said of a file is what was said of it last, and it was not dropped."""
        self._catch_up()
        return self._state.holds(event)

    def begun(self) -> Event | None:
        """The first event, if the run has begun."""
        if not self.events.is_file():
            return None
        with self.events.open("rb") as stream:
            return next((event for line in stream if (event := parse(line)) and event["event"] == "begin"), None)

    def files(self) -> dict[str, str]:
        """The artifacts that were not dropped, and the digests they had when they were written."""
        self._catch_up()
        return {event["name"]: event["digest"] for event in self._state.files.values() if event["event"] == "artifact"}

    def since(self, offset: int) -> tuple[list[Event], int]:
        """Whole events written after a byte offset, and the offset behind them."""
        found, behind = lines.read(self.events, offset)
        return [event for line in found if (event := parse(line))], behind

    def _say_once(self, event: str, **content: Any) -> None:
        self._catch_up()
        if not self._state.holds({"event": event, **content}):
            self._append(event, **content)

    def _append(self, event: str, *, flush: bool = False, **content: Any) -> None:
        now = max(time.time_ns() // 1_000_000, self._state.time)
        line = json.dumps({"time": now, "event": event, **content}).encode() + b"\n"
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lines.append(self.events, line, flush=flush)

    def _catch_up(self) -> None:
        found, self._offset = lines.read(self.events, self._offset)
        for line in found:
            if (event := parse(line)) is not None:
                self._state.take(event)
            else:
                self._unreadable += 1
