"""A PostgreSQL of our own, with as many databases as a test wants."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from experiments.bench.postgres import programs, server


def binaries() -> Path:
    found = programs()
    if found is None:
        pytest.skip("no PostgreSQL on this machine")
    return found


@contextmanager
def postgres() -> Iterator[Callable[[str], str]]:
    """Gives a function that makes a database and tells its address."""
    with server(binaries()) as address:

        def database(name: str) -> str:
            engine = create_engine(address, isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {name}"))
            engine.dispose()
            return address.removesuffix("postgres") + name

        yield database
