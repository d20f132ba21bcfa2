"""An MLflow client that repeats what may be repeated, and knows when something may have happened unheard.

A request whose reply was lost may have been carried out, or may be carried out later. So MLflow's own blind repeating
is switched off: what changes nothing when done twice is repeated here, and what would make a second thing of its kind
is looked for first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Found = TypeVar("Found")
TRIES, PAUSE = 4, 0.1
#: would make another one each time
ONCE = {"create_run", "create_logged_model", "log_outputs"}
READING = ("get_", "search_", "list_")
#: MLflow's words for an answer that will not change
FINAL = {
    *("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "UNAUTHENTICATED", "ENDPOINT_NOT_FOUND", "INVALID_STATE"),
}
#: HTTP states of an artifact store by which it refuses the same thing every time
REFUSED = {400, 404, 405, 411, 413, 414, 415, 422, 431, 501}


def is_refused(error: Exception) -> bool:
    """Whether MLflow would refuse the same thing again, however often it is sent."""
    return getattr(error, "error_code", None) in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST") or _state(error) in REFUSED


class Gone(Exception):
    """A file that a run said it has is not on the disk any more, or is not what it was said to be."""


def is_missing(error: Exception) -> bool:
    """Whether MLflow knows nothing of what was addressed."""
    return getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST"


@dataclass
class Patience:
    """What the calls to one store share."""

    #: changes that failed and may yet have been carried out
    doubts: int = 0
    #: after this moment (of the monotonic clock) nothing is repeated
    deadline: float = float("inf")
    #: each answer puts the deadline off until so many seconds after it
    silence: float | None = None

    def heard(self) -> None:
        """There was an answer."""
        if self.silence is not None:
            self.deadline = time.monotonic() + self.silence


class Patient:
    """Stands for a client: each call is made a few times, unless its answer is final or there is no time left."""

    def __init__(self, client: Any, patience: Patience) -> None:
        self._client = client
        self.patience = patience

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found):
            return found
        return lambda *args, **more: self._call(name, found, *args, **more)

    def _call(self, name: str, function: Callable[..., Any], /, *args: Any, **more: Any) -> Any:
        tries = 1 if name in ONCE else TRIES
        for left in reversed(range(tries)):
            try:
                answer = _whole(name, function(*args, **more))
                self.patience.heard()
                return answer
            except Exception as error:
                if is_final(error):
                    raise
                self.patience.doubts += not name.startswith(READING)
                if not left or time.monotonic() > self.patience.deadline:
                    raise
                time.sleep(PAUSE * 2 ** (tries - left))
        raise AssertionError("unreachable")


def find_or_make(find: Callable[[], Found], make: Callable[[], object]) -> Found:
    """What `find` finds, made first where it finds nothing; asked again after making, for others may make it too."""
    for left in reversed(range(TRIES)):
        if found := find():
            return found
        try:
            make()
        except Exception as error:
            if is_final(error) or not left:
                raise
    if found := find():
        return found
    raise ConnectionError("what was made cannot be found")


def is_final(error: Exception) -> bool:
    """Whether it makes no sense to try the same again at once."""
    from mlflow.exceptions import MlflowException

    if not isinstance(error, MlflowException | OSError | ValueError) or isinstance(error, FileNotFoundError):
        return True
    state = _state(error)
    refused = state is not None and 400 <= state < 500 and state not in (408, 429)
    return refused or getattr(error, "error_code", None) in FINAL


def _state(error: Exception) -> int | None:
    """The HTTP state of an answer, where the error is one."""
    found = getattr(getattr(error, "response", None), "status_code", None)
    return found if isinstance(found, int) else None


def _whole(name: str, answer: Any) -> Any:
    """Refuse an answer that was cut to nothing: MLflow takes it for one without content."""
    empty = False
    if name in ("get_run", "create_run"):
        empty = not answer.info.run_id
    elif name in ("get_logged_model", "create_logged_model"):
        empty = not answer.model_id
    elif name in ("get_experiment", "get_experiment_by_name"):
        empty = answer is not None and not answer.experiment_id
    if empty:
        raise ConnectionError(f"the answer to {name} was empty")
    return answer
