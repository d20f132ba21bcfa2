"""What the events of one run add up to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mammo_lightning.tracking import lines
from mammo_lightning.tracking.files import below
from mammo_lightning.types import Outcome

Event = dict[str, Any]
#: what an event must say to be understood; a line without it is damaged
FIELDS = {
    "begin": {"identity", "tags", "order"},
    "end": {"outcome", "reason"},
    "params": {"values"},
    "tags": {"values"},
    "metrics": {"values", "step"},
    "series": {"key", "points"},
    "artifact": {"name", "digest"},
    "image": {"key", "step", "file", "digest"},
    "dataset": {"name", "digest", "source", "split", "profile"},
    "model": {"name", "folder", "digest", "metrics"},
    "drop": {"name"},
}
#: events that stand for something on disk, and where they say its place
PLACES = {"artifact": "name", "image": "file", "model": "folder"}


@dataclass
class State:
    """A run as it stands after the events taken so far."""

    identity: dict[str, Any] = field(default_factory=dict)
    outcome: Outcome | None = None
    reason: str = ""
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    #: value and time by metric and step
    points: dict[tuple[str, int], tuple[float, int]] = field(default_factory=dict)
    #: the last content said under an event and its name
    files: dict[tuple[str, str], Event] = field(default_factory=dict)
    #: when the last event happened
    time: int = 0

    def take(self, event: Event) -> None:
        """Add one event."""
        self.time = max(self.time, event["time"])
        match event["event"]:
            case "begin" if not self.identity:
                self.identity = event["identity"]
                self.tags |= event["tags"]
            case "reopen":
                self.outcome, self.reason = None, ""
            case "end":
                self.outcome, self.reason = Outcome(event["outcome"]), event["reason"]
            case "params":
                self.params |= event["values"]
            case "tags":
                self.tags |= event["values"]
            case "metrics":
                self.points |= {(key, event["step"]): (value, event["time"]) for key, value in event["values"].items()}
            case "series":
                self.points |= {(event["key"], step): (value, event["time"]) for step, value in event["points"]}
            case "model":
                self.points |= {(key, 0): (value, time_ms) for key, (value, time_ms) in event["metrics"].items()}
                self.files[address(event)] = event
            case "artifact" | "image" | "dataset":
                self.files[address(event)] = event
            case "drop":
                for key in [key for key, kept in self.files.items() if lies_below(event["name"], kept)]:
                    del self.files[key]

    def is_new_point(self, key: str, step: int, value: float) -> bool:
        """Whether a metric has another value, or none, at this step."""
        known = self.points.get((key, step))
        return known is None or repr(known[0]) != repr(value)  # by repr, for NaN is not equal to itself

    def holds(self, event: Mapping[str, Any]) -> bool:
        """Whether this content was the last one said under its name, and is kept still."""
        known = self.files.get(address(event))
        return known is not None and _content(known) == _content(event)

    def below(self, prefix: str) -> list[Event]:
        """What stands for something at or below a prefix."""
        return [event for event in self.files.values() if lies_below(prefix, event)]


def parse(line: bytes) -> Event | None:
    """The event of one line; None for a torn or damaged one."""
    event = lines.parse(line)
    if event is None or not isinstance(event.get("time"), int) or not isinstance(event.get("event"), str):
        return None
    return event if FIELDS.get(event["event"], set()) <= event.keys() else None


def address(event: Mapping[str, Any]) -> tuple[str, str]:
    """An event's kind, and the name under which it replaces what was said before."""
    return event["event"], str(event.get("file", event.get("name")))


def place(event: Mapping[str, Any]) -> str:
    """Where the thing an event stands for is kept: an artifact by its name, an image or model by its path."""
    return str(event[PLACES[event["event"]]])


def lies_below(prefix: str, event: Mapping[str, Any]) -> bool:
    """Whether an event stands for something at or below a prefix."""
    return event["event"] in PLACES and below(prefix, place(event))


def _content(event: Mapping[str, Any]) -> str:
    fields = {key: value for key, value in event.items() if key not in {"time", "event"}}
    if "metrics" in fields:  # a model's: the times they carry do not make them others
        fields["metrics"] = {key: value for key, (value, _) in fields["metrics"].items()}
    return json.dumps(fields, sort_keys=True)
