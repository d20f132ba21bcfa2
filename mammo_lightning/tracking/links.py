"""Links between runs in notes: a note names a run by its journal id, and the page gets the address it has there."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from mammo_lightning.tracking.state import Event

NOTE = "mlflow.note.content"
_LINK = re.compile(r"\[([^\]]*)\]\(run:([A-Za-z0-9_.-]+)\)")


def link(text: str, run_id: str) -> str:
    """Markdown that `addressed` turns into a link to a run."""
    return f"[{text}](run:{run_id})"


def addressed(events: Sequence[Event], experiment_id: str, mlflow_id: Callable[[str], str | None]) -> list[Event]:
    """The events, with the links of their notes as the UI opens them; to a run that is not published, plain words."""

    def address(found: re.Match[str]) -> str:
        known = mlflow_id(found[2])
        return f"[{found[1]}](#/experiments/{experiment_id}/runs/{known})" if known else found[1]

    return [
        {**event, "values": {**event["values"], NOTE: _LINK.sub(address, event["values"][NOTE])}}
        if event["event"] == "tags" and NOTE in event["values"]
        else event
        for event in events
    ]
