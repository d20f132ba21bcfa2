"""Which of a user's classes is the positive one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from mammo_lightning.errors import DataError, SettingsError, one_of


def two_classes(each: Iterable[str], positive: str | None, where: str, known: Sequence[str] = ()) -> tuple[str, str]:
    """The negative and the positive class: the last in order unless one is named, which may stand against the rest.

    Args:
        each: The class of each image.
        positive: The name that was passed.
        where: Where the images are listed, with what is expected there.
        known: The classes in order, where they are known.
    """
    counts = Counter(each)
    labels = list(known) or sorted(counts)
    if len(labels) < 2:
        raise DataError(f"one class {where}: {', '.join(labels)}; two are needed")
    chosen = positive or labels[-1]
    if chosen not in labels:
        raise SettingsError(f"--positive {chosen!r} is not a class; {one_of(labels)}")
    others = [label for label in labels if label != chosen]
    if len(others) > 1 and positive is None:
        told = ", ".join(f"{label} {counts[label]}" for label in labels)
        raise SettingsError(
            f"{len(labels)} classes {where}: {told}; correct what is misspelt, or pass --positive NAME to set one "
            "against the rest"
        )
    return others[0] if len(others) == 1 else "rest", chosen
