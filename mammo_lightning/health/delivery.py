"""What the tracking store has not heard yet, and what it takes to be running."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mammo_lightning.health.finding import Finding, listed, ok, warn
from mammo_lightning.health.stores import sqlite_file
from mammo_lightning.health.survey import Survey
from mammo_lightning.tracking.deliver import STATUS
from mammo_lightning.tracking.publish import Publisher
from mammo_lightning.tracking.store import Store, public, sync_command
from mammo_lightning.types import Outcome


def undelivered(survey: Survey, uri: str, repair: bool) -> Iterator[Finding]:
    """Runs that are not, or not wholly, in the store."""
    publisher = Publisher(survey.journal, uri, survey.mlruns)
    left = publisher.undelivered()
    if left and repair:
        publisher.publish_all()
        before, left = left, publisher.undelivered()
        yield ok("delivery", f"{len(before) - len(left)} runs delivered to {public(uri)}")
    if left:
        text = f"{len(left)} runs are not, or not wholly, at {public(uri)} ({listed(left)})"
        yield warn("delivery", text, f"A running study delivers them; else `{sync_command(publisher.store)}`")
    elif not repair:
        yield ok("delivery", "nothing is left to deliver")


def running(survey: Survey, uri: str, repair: bool) -> Iterator[Finding]:
    """Runs that the store takes to be running though their journal has ended."""
    if (file := sqlite_file(uri)) is not None and not file.exists():
        return
    client = Store(uri, survey.mlruns).client
    stale: dict[str, Any] = {}
    elsewhere = 0
    for run in _running(client):
        seen = survey.runs.get(run.data.tags.get("journal", ""))
        elsewhere += seen is None
        if seen is not None and seen.ended:
            stale[seen.run_id] = run
    if not stale:
        others = f", {elsewhere} of other machines or programs" if elsewhere else ""
        yield ok("mlflow", f"no run is taken to be running that has ended{others}")
    elif repair:
        for name, run in stale.items():
            client.set_terminated(run.info.run_id, STATUS[Outcome(survey.runs[name].outcome)])
        yield ok("mlflow", f"{len(stale)} runs that had ended no longer show as running ({listed(stale)})")
    else:
        text = f"{len(stale)} runs have ended but show as running ({listed(stale)})"
        yield warn("mlflow", text, "Pass --repair")


def _running(client: Any) -> Iterator[Any]:
    experiments = [each.experiment_id for each in client.search_experiments()]
    token = None
    while experiments:
        page = client.search_runs(experiments, "attributes.status = 'RUNNING'", max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
