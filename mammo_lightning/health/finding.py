"""One line of what was found, and how a check that cannot run becomes one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How bad it is: only `bad` makes the verb end with 1."""

    ok = "ok"
    warn = "warn"
    bad = "bad"


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was found, and the cure."""

    state: State
    what: str
    text: str
    cure: str = ""

    def __str__(self) -> str:
        line = f"{self.state:4}  {self.what}: {' '.join(self.text.split())}"
        return f"{line}. {self.cure}" if self.cure else line


def ok(what: str, text: str) -> Finding:
    """Nothing to do."""
    return Finding(State.ok, what, text)


def warn(what: str, text: str, cure: str = "") -> Finding:
    """Worth knowing; nothing is lost by it."""
    return Finding(State.warn, what, text, cure)


def bad(what: str, text: str, cure: str = "") -> Finding:
    """Something will fail, or has."""
    return Finding(State.bad, what, text, cure)


def guarded(what: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """The findings of a check; that it could not run is one itself."""
    try:
        yield from check()
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else ""
        yield bad(what, f"could not be checked ({type(error).__name__}: {first[:200]})".replace(": )", ")"))


def listed(names: Iterable[str], most: int = 3) -> str:
    """The first few names of many."""
    known = sorted(names)
    return ", ".join(known[:most]) + (f" and {len(known) - most} more" if len(known) > most else "")


def size(count: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
