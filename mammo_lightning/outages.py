"""A database that is away for a moment, as while it is started again, does not end what took hours."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError, SQLAlchemyError

Thing = TypeVar("Thing")
#: what is raised where a database does not answer
DATABASE_ERRORS = (SQLAlchemyError, StorageInternalError)
PATIENCE_SECONDS, FIRST_PAUSE, LONGEST_PAUSE = 300.0, 0.5, 10.0


class Enduring:
    """Stands for a ledger or a search whose calls may be repeated: it repeats them while the database is away."""

    def __init__(self, thing: Any) -> None:
        self._thing = thing

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._thing, name)
        return (lambda *args, **more: _endured(found, *args, **more)) if callable(found) else found


def enduring(thing: Thing) -> Thing:
    """The same thing, patient."""
    return cast(Thing, Enduring(thing))


def _endured(function: Callable[..., Any], *args: Any, **more: Any) -> Any:
    deadline, pause = time.monotonic() + PATIENCE_SECONDS, FIRST_PAUSE
    while True:
        try:
            return function(*args, **more)
        except (OperationalError, StorageInternalError):
            if time.monotonic() + pause > deadline:
                raise
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
