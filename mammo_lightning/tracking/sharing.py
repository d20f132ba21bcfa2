"""Runs of one study written of by several machines, each with a journal of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mammo_lightning.tracking.batch import Batch
from mammo_lightning.tracking.journal import RunJournal

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: tag of a run: how many folders it was tried from before; whoever tried it last is believed
ATTEMPT = "attempt"


class Early(Exception):
    """The run above is another machine's, which has not published it yet."""


def find_above(client: MlflowClient, experiment_id: str, parent: str, *, patient: bool) -> str | None:
    """MLflow id of a run that another machine began; where it is not there, wait for it only if `patient`."""
    for found in client.search_runs([experiment_id], f"tags.journal = '{parent}'", max_results=1):
        return str(found.info.run_id)
    if patient:
        raise Early(parent)
    return None


def attempt(run: RunJournal) -> int:
    """The attempt this journal tells of."""
    return _number(run.read_tags())


def is_superseded(client: MlflowClient, mlflow_id: str, run: RunJournal) -> bool:
    """Whether another machine has gone on with the run since: what is said here counts no more."""
    return _number(client.get_run(mlflow_id).data.tags) > attempt(run)


def leave_out_known(client: MlflowClient, mlflow_id: str, batch: Batch) -> None:
    """Drop points that a machine before this one delivered: the same trial has the same figures, at other times."""
    steps: dict[str, set[int]] = {}
    for key in {point[0] for point in batch.metrics}:
        steps[key] = {point.step for point in client.get_metric_history(mlflow_id, key)}
    batch.metrics = [point for point in batch.metrics if point[3] not in steps[point[0]]]


def _number(tags: dict[str, str]) -> int:
    text = tags.get(ATTEMPT, "")
    return int(text) if text.isdecimal() else 0
