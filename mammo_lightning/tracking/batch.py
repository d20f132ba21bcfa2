"""Events as what MLflow takes: whole batches of metrics, parameters and tags, in its character set."""

from __future__ import annotations

import getpass
import logging
import math
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mammo_lightning.tracking.state import Event
from mammo_lightning.types import Kind

log = logging.getLogger("mammo_lightning.tracking")

#: twenty colours that differ from their neighbours; a trial keeps the one of its slot
PALETTE = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf", "#bcbd22", "#393b79"),
    *("#e6550d", "#31a354", "#ad494a", "#7b4173", "#6baed6", "#fdae6b", "#74c476", "#ce6dbd", "#b5cf6b", "#5254a3"),
)
KIND_COLOURS = {Kind.reference: "#7f7f7f", Kind.final: "#000000", Kind.ensemble: "#b8860b", Kind.study: "#c7c7c7"}


@dataclass
class Batch:
    """Metrics (key, value, time, step), parameters and tags of a stretch of events."""

    metrics: list[tuple[str, float, int, int]] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)

    def take(self, event: Event) -> None:
        """Add an event; those that are files are not for a batch."""
        match event["event"]:
            case "begin":
                self.tags |= {clean(key): value for key, value in event["tags"].items()}
            case "params":
                for key, value in event["values"].items():
                    self.params.setdefault(clean(key), value)
            case "tags":
                self.tags |= {clean(key): value for key, value in event["values"].items()}
            case "metrics":
                for key, value in event["values"].items():
                    self._point(key, value, event["time"], event["step"])
            case "series":
                for step, value in event["points"]:
                    self._point(event["key"], value, event["time"], step)

    def _point(self, key: str, value: float, time_ms: int, step: int) -> None:
        if math.isfinite(value):
            self.metrics.append((clean(key), shown(value), time_ms, step))
        else:
            self.dropped.add(key)


def shown(value: float) -> float:
    """A value as it fits a cell: four decimals; three digits where that would leave nothing of it."""
    return round(value, 4) if abs(value) >= 0.001 else float(f"{value:.3g}")


def clean(key: str) -> str:
    """A key with nothing in it that MLflow refuses."""
    cleaned = re.sub(r"[^\w\-. :/]", "_", key, flags=re.ASCII)
    return re.sub(r"/{2,}", "/", cleaned).strip("/").replace("..", "_")[:250] or "_"


def chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Slices of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def image_stem(event: Event) -> str:
    """The name by which the UI knows an image, the same whenever it is sent; `log_image` makes one up each time."""
    unique = uuid.uuid5(uuid.NAMESPACE_OID, event["digest"])
    return f"{event['key'].replace('/', '~')}+step+{event['step']}+timestamp+{event['time']}+{unique}"


def first_tags(run_id: str, identity: dict[str, Any], tags: dict[str, str]) -> dict[str, str]:
    """The tags a run is created with: who it is, and how the UI names and paints it."""
    kind = Kind(identity["kind"])
    slot = re.search(r"\d+", tags.get("trial", "")) if kind is Kind.trial else None
    colour = PALETTE[int(slot.group()) % len(PALETTE)] if slot else KIND_COLOURS.get(kind, "#a0a0a0")
    return {
        "mlflow.runColor": colour,
        "mlflow.user": user(),
        "mlflow.source.name": "mammo_lightning",
        "mlflow.source.type": "LOCAL",
        **{clean(key): value for key, value in tags.items()},
        "mlflow.runName": identity["name"],
        "journal": run_id,
        "kind": str(kind),
        "study": identity["study"],
    }


def user() -> str:
    """Who gave the command."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without an entry
        return "unknown"
