"""What can be wrong with what a user gave us: one line with value, rule and cure."""

from collections.abc import Iterable

LONGEST = 1200


class MammoError(Exception):
    """Bad input. The message is one line: the value, the rule it breaks, and the cure."""

    def __init__(self, message: str = "") -> None:
        # the value may be anything that stood in a broken file
        line = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in message)
        if len(line) > LONGEST:
            line = f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"
        super().__init__(line)


class DataError(MammoError):
    """A dataset that cannot be read as what it is said to be."""


class LeakError(MammoError):
    """Rows that would stand on both sides of a split."""


class SettingsError(MammoError):
    """A setting, recipe or search space that is not known or not possible."""


class TrackingError(MammoError):
    """A tracking folder, server or storage that cannot be used."""


def one_of(known: Iterable[str]) -> str:
    """Known names as they stand at the end of a message."""
    return "known: " + ", ".join(sorted(known))
