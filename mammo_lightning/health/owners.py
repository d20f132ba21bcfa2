"""Who works on what, as the study storage knows it; it is read, never written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mammo_lightning.ledger import LEASES, STUDIES
from mammo_lightning.owner import Owner


@contextmanager
def reading(storage: str) -> Iterator[Any]:
    """A connection to the storage."""
    from sqlalchemy import create_engine

    local = storage.startswith("sqlite")
    engine = create_engine(storage, connect_args={"timeout": 5} if local else {"connect_timeout": 5})
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def tables(connection: Any) -> set[str]:
    """Names of the tables that are there."""
    from sqlalchemy import inspect

    return set(inspect(connection).get_table_names())


def living(connection: Any) -> dict[str, Owner]:
    """What is held, by an owner that lives as far as can be seen from here (one elsewhere is taken to live)."""
    from sqlalchemy import select

    if LEASES.name not in tables(connection):
        return {}
    rows = connection.execute(select(LEASES).where(LEASES.c.owner != "")).all()
    owners = {row.key: Owner.parse(row.owner) for row in rows}
    return {key: owner for key, owner in owners.items() if not owner.near or owner.alive}


def is_held(run_id: str, root: str, held: dict[str, Owner]) -> bool:
    """Whether somebody works on a run, or on the study it belongs to."""
    return any(run_id in key or root in key for key in held)


def studies(connection: Any) -> set[str]:
    """Journal ids of the studies that the storage knows."""
    from sqlalchemy import text

    found = tables(connection)
    names: set[str] = set()
    if STUDIES.name in found:
        names |= {str(name) for (name,) in connection.execute(text(f"SELECT id FROM {STUDIES.name}"))}
    if "studies" in found:  # a study begun afresh under its name is still there
        names |= {str(name) for (name,) in connection.execute(text("SELECT study_name FROM studies"))}
    return names


def running(connection: Any) -> list[tuple[str, int]]:
    """Study and number of every trial that the search takes to be running."""
    from sqlalchemy import text

    if "trials" not in tables(connection):
        return []
    query = (
        "SELECT study_name, number FROM trials JOIN studies ON trials.study_id = studies.study_id "
        "WHERE state = 'RUNNING' ORDER BY study_name, number"
    )
    return [(str(study), int(number)) for study, number in connection.execute(text(query))]
