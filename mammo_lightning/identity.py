"""Which study this is: the same command continues it, a changed one is refused with the difference."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mammo_lightning.errors import SettingsError, TrackingError


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


def identify(mlruns: Path, name: str, frozen: Mapping[str, Any], *, fresh: bool) -> str:
    """The journal id of the study called `name`: new, or the one begun with the same frozen settings."""
    path = mlruns / "studies" / f"{name}.json"
    wanted = json.loads(json.dumps(frozen, sort_keys=True, default=str))
    if path.exists() and not fresh:
        known = json.loads(path.read_text())
        if known["frozen"] != wanted:
            changed = [
                key for key in sorted({*wanted, *known["frozen"]}) if wanted.get(key) != known["frozen"].get(key)
            ]
            shown = "; ".join(f"{key}: was {known['frozen'].get(key)!r}, now {wanted.get(key)!r}" for key in changed)
            raise SettingsError(
                f"study {name!r} was begun with other settings ({shown}); pass the former ones to continue it, "
                "--fresh to start it anew, or --name for another study"
            )
        return str(known["id"])
    identity = f"{name}-{secrets.token_hex(3)}"
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"id": identity, "frozen": wanted}, indent=2))
    part.replace(path)
    return identity
