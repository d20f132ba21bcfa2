"""Which study this is: the same command continues it, a changed one is refused with the difference."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mammo_lightning.errors import SettingsError, TrackingError
from mammo_lightning.ledger import Ledger, check_free

#: what the digests of a study are of
WORDS = {"splits": "the folds (--folds, --fold-seed, --test ...), by digest", "data": "the images, by digest"}


@contextmanager
def claimed(mlruns: Path, name: str) -> Iterator[None]:
    """Hold a study, so that two processes do not run it at once."""
    folder = mlruns / "studies"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{name}.lock", timeout=0)
    try:
        with lock:
            yield
    except Timeout:
        raise TrackingError(f"study {name!r} is being run by another process; wait for it, or pass --name") from None


def identify(
    ledger: Ledger,
    name: str,
    frozen: Mapping[str, Any],
    *,
    fresh: bool,
    beside: Mapping[str, Any] | None = None,
    elsewhere: bool = False,
) -> tuple[str, dict[str, Any]]:
    """The journal id of the study called `name`: new, or the one begun with the same frozen settings.

    What stands `beside` is kept as the founder had it and not compared; it is returned with the id. `elsewhere` says
    that the journal knows a study of this name, so that a ledger that does not is another one.
    """
    known = ledger.known(name)
    if fresh and known:
        check_free(ledger, lead_key(known[0]), name)
    if not fresh and not known and elsewhere:
        raise SettingsError(
            f"study {name!r} was begun in this tracking folder with another --storage; pass that one to continue it, "
            "--fresh to start it anew in this one, or --name for another study"
        )
    identity, found = ledger.found(name, {"frozen": frozen, "beside": beside or {}}, fresh=fresh)
    begun, wanted = found["frozen"], json.loads(json.dumps(frozen, sort_keys=True, default=str))
    if begun != wanted:
        shown = "; ".join(f"{key}: was {was}, now {now}" for key, was, now in _apart(begun, wanted))
        raise SettingsError(
            f"study {name!r} was begun with other settings ({shown}); pass the former ones to continue it, "
            "--fresh to start it anew, or --name for another study"
        )
    return identity, found["beside"]


def _apart(begun: Mapping[str, Any], wanted: Mapping[str, Any], of: str = "") -> Iterator[tuple[str, str, str]]:
    """What differs, by name: single entries of settings, not all of them."""
    for key in sorted({*wanted, *begun}):
        was, now = begun.get(key), wanted.get(key)
        if isinstance(was, dict) and isinstance(now, dict):
            yield from _apart(was, now, f"{key} ")
        elif was != now:
            yield WORDS.get(key, f"{of}{key}"), repr(was), repr(now)


def lead_key(run_id: str) -> str:
    """What is held by whoever makes all of a study but its trials: the reference, and the final."""
    return f"{run_id}.lead"
