"""All checks, in the order in which one explains the next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mammo_lightning.errors import TrackingError
from mammo_lightning.health import delivery, identifiers, images, machine, runs, stores
from mammo_lightning.health.finding import Finding, State, bad, guarded
from mammo_lightning.health.survey import Survey
from mammo_lightning.tracking.store import check_uri, default_uri


@dataclass(frozen=True)
class Places:
    """Where to look.

    Args:
        mlruns: The tracking folder.
        tracking_uri: The tracking store; None for the database in `mlruns`.
        storage: The study storage; None for the database in `mlruns`.
        root: The images; None where they are not to be looked at.
    """

    mlruns: Path
    tracking_uri: str | None = None
    storage: str | None = None
    root: Path | None = None


def examine(places: Places, *, repair: bool = False) -> Iterator[Finding]:
    """Every finding; `repair` does what cannot lose anything: damaged caches, leftovers, orphans, deliveries."""
    mlruns = places.mlruns.resolve()
    survey = Survey(mlruns)
    storage = places.storage or f"sqlite:///{mlruns / 'studies.db'}"
    yield from guarded("versions", machine.versions)
    yield from guarded("mlruns", partial(machine.disk, mlruns))
    yield from guarded("gpu", machine.gpu)
    if places.root is not None:
        yield from guarded("data", partial(images.data_root, places.root))
    yield from guarded("image cache", partial(images.caches, mlruns, repair))
    yield from guarded("storage", partial(stores.storage, storage))
    yield from guarded("trials", partial(stores.trials, storage))
    yield from guarded("journals", partial(runs.lines, survey))
    there = (file := stores.sqlite_file(storage)) is None or file.exists()
    yield from guarded("orphans", partial(runs.orphans, survey, storage if there else None, repair))
    yield from guarded("leftovers", partial(runs.leftovers, survey, repair))
    yield from _tracking(places.tracking_uri, survey, repair)
    yield from guarded("identifiers", partial(identifiers.identifiers, survey))


def _tracking(given: str | None, survey: Survey, repair: bool) -> Iterator[Finding]:
    try:
        uri = check_uri(given) if given else default_uri(survey.mlruns)
    except TrackingError as error:
        yield bad("tracking", str(error))
        return
    reached = survey.mlruns.is_dir()
    for finding in guarded("tracking", partial(stores.tracking, uri)):
        reached &= finding.state is not State.bad
        yield finding
    if reached:  # what does not answer would be asked for a minute
        yield from guarded("delivery", partial(delivery.undelivered, survey, uri, repair))
        yield from guarded("mlflow", partial(delivery.running, survey, uri, repair))
