"""What the events of one run add up to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mammo_lightning.types import Outcome

Event = dict[str, Any]


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
    files: dict[tuple[str, str], str] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Add one event."""
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
                self._remember(event)
            case "artifact" | "image" | "dataset":
                self._remember(event)

    def is_new_point(self, key: str, step: int, value: float) -> bool:
        """Whether a metric has another value, or none, at this step."""
        known = self.points.get((key, step))
        return known is None or repr(known[0]) != repr(value)  # by repr, for NaN is not equal to itself

    def is_new_file(self, event: str, content: Mapping[str, Any]) -> bool:
        """Whether this content was not the last one said under its name."""
        return self.files.get(_address(event, content)) != _content(content)

    def _remember(self, event: Event) -> None:
        self.files[_address(event["event"], event)] = _content(event)


def parse(line: bytes) -> Event | None:
    """The event of one line; None for a torn one."""
    try:
        event = json.loads(line)
    except ValueError:  # also where a torn line ends in half a character
        return None
    return event if isinstance(event, dict) and "event" in event and "time" in event else None


def _address(event: str, content: Mapping[str, Any]) -> tuple[str, str]:
    return event, str(content.get("file", content.get("name")))


def _content(content: Mapping[str, Any]) -> str:
    fields = {key: value for key, value in content.items() if key not in {"time", "event"}}
    if "metrics" in fields:  # a model's: the times they carry do not make them others
        fields["metrics"] = {key: value for key, (value, _) in fields["metrics"].items()}
    return json.dumps(fields, sort_keys=True)
