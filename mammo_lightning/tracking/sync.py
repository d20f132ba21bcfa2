"""Everything a store lacks, delivered: compared with what it has, not only with what was noted on delivery."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import Timeout

from mammo_lightning.errors import TrackingError
from mammo_lightning.tracking.batch import Batch
from mammo_lightning.tracking.courier import Courier, line
from mammo_lightning.tracking.deliver import STATUS, kept_of
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.tracking.publish import PATIENCE
from mammo_lightning.tracking.store import public
from mammo_lightning.tracking.views import LEADERBOARD, TAG, view_key

PAGE = 1000


@dataclass
class Synced:
    """What came of it: runs that were there, runs delivered, runs somebody deleted there, and what failed."""

    present: int = 0
    delivered: int = 0
    deleted: int = 0
    failed: dict[str, str] = field(default_factory=dict)


def sync(
    mlruns: Path, uri: str, *, progress: Callable[[int, int], None] = lambda done, total: None, patience: float = 60
) -> Synced:
    """Deliver what the store at `uri` lacks of the runs of a tracking folder; repeat it as often as you like.

    Args:
        mlruns: The tracking folder.
        uri: A server or database.
        progress: Told how many runs have been dealt with, of how many.
        patience: Seconds to wait for another process that is publishing.
    """
    journal = Journal(mlruns)
    runs = journal.runs()
    if not runs:
        raise TrackingError(f"no runs in '{journal.folder}'; run `python -m experiments.tune` first, or pass --mlruns")
    courier, done = Courier(journal, uri, mlruns), Synced()
    courier.alone = True
    try:
        with courier.locked(patience):
            _deliver(courier, runs, done, progress)
    except Timeout:
        raise TrackingError(f"another process is publishing to {public(courier.store.uri)}; wait for it") from None
    except (TrackingError, KeyboardInterrupt):
        raise
    except Exception as error:
        where, count = public(courier.store.uri), done.delivered
        so_far = f" after {count} {'run' if count == 1 else 'runs'}" if count else ""
        raise TrackingError(
            f"cannot publish to {where}{so_far}: {line(error)}. Is the server running? The same command goes on"
        ) from error
    return done


def _deliver(courier: Courier, runs: list[str], done: Synced, progress: Callable[[int, int], None]) -> None:
    there = _there(courier, runs)
    failures = 0
    for number, run_id in enumerate(runs):
        found = there.get(run_id, [])
        # a run is told first of the one above it, so what is there of that one is known
        if found and kept_of(found).info.lifecycle_stage == "deleted" and _ghosts(found) == 0:
            done.deleted += 1
        elif found and _is_whole(courier, run_id, found):
            done.present += 1
        else:
            try:
                courier.publish(run_id, anew=True)
                done.delivered, failures = done.delivered + 1, 0
            except Exception as error:
                done.failed[run_id], failures = line(error), failures + 1
                if failures >= PATIENCE:
                    raise
        progress(number + 1, len(runs))
    _missing_views(courier, runs)
    courier.save_views()


def _there(courier: Courier, runs: list[str]) -> dict[str, list[Any]]:
    """What the store has of our runs, by journal id, deleted ones too."""
    from mlflow.entities import ViewType

    names = {begun["identity"]["experiment"] for run_id in runs if (begun := courier.journal.run(run_id).begun())}
    ours = set(runs)
    found: dict[str, list[Any]] = defaultdict(list)
    for name in sorted(names):
        experiment_id, _ = courier.store.experiment(name)
        token = None
        while True:
            page = courier.store.client.search_runs(
                [experiment_id], "", run_view_type=ViewType.ALL, max_results=PAGE, page_token=token
            )
            for run in page:
                if (run_id := run.data.tags.get("journal")) in ours:
                    found[run_id].append(run)
            token = page.token
            if not token:
                break
    return found


def _ghosts(found: list[Any]) -> int:
    kept = kept_of(found)
    return sum(run is not kept and run.info.lifecycle_stage == "active" for run in found)


def _is_whole(courier: Courier, run_id: str, found: list[Any]) -> bool:
    """Whether a run was delivered to its end, is one, and has its parent, words, settings, metrics and state."""
    run, kept = courier.journal.run(run_id), kept_of(found)
    cursor = courier.cursors.get(run_id)
    events, offset = run.since(0)
    if cursor is None or cursor.mlflow_id != kept.info.run_id or cursor.offset != offset or _ghosts(found):
        return False
    told = Batch()
    for event in events:
        told.take(event)
    parent = run.identity["parent"]
    above = courier.cursors.get(parent) if parent else None
    return bool(
        kept.info.status == (STATUS[run.outcome] if run.outcome else "RUNNING")
        and (above is None or kept.data.tags.get("mlflow.parentRunId") == above.mlflow_id)
        and told.tags.keys() <= kept.data.tags.keys()
        and told.params.keys() <= kept.data.params.keys()
        and {key for key, *_ in told.metrics} <= kept.data.metrics.keys()
    )


def _missing_views(courier: Courier, runs: list[str]) -> None:
    """Studies whose views were lost between the delivery of their last run and the end of a process."""
    tags: dict[str, Any] = {}
    for run_id in runs:
        begun = courier.journal.run(run_id).begun()
        if begun is None or begun["identity"]["kind"] != "study" or begun["identity"]["parent"]:
            continue
        experiment_id, _ = courier.store.experiment(begun["identity"]["experiment"])
        if experiment_id not in tags:
            tags[experiment_id] = courier.store.client.get_experiment(experiment_id).tags
        if TAG + view_key(begun["identity"]["study"], LEADERBOARD) not in tags[experiment_id]:
            courier.to_view.add((experiment_id, begun["identity"]["study"], int(begun["time"])))
