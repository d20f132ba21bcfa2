"""Things that look as if they named a person, where everybody who opens the tracking pages can read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from mammo_lightning.health.finding import Finding, listed, ok, warn
from mammo_lightning.health.survey import Survey

PATTERNS = {
    "a name": re.compile(r"(?<![^\W_])[^\W\d_][\w'. -]*[^\W\d_]\^[^\W\d_][\w'^. -]*"),
    "a date": re.compile(
        r"(?<!\d)(?:(?:19|20)\d\d([-._/]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])"
        r"|(?:0?[1-9]|[12]\d|3[01])([-./])(?:0?[1-9]|1[0-2])\2(?:19|20)\d\d)(?!\d)"
    ),
    # not within a digest, a decimal or a version; a prefix such as MRN is part of it, one that may be hexadecimal not
    "a number": re.compile(
        r"(?<![A-Za-z0-9])(?<!\d\.)(?:(?=[A-Za-z]*[G-Zg-z])[A-Za-z]{1,4})?\d{8,}(?![A-Za-z0-9]|\.\d)"
    ),
    "a DICOM UID": re.compile(r"(?<![\w.])[0-2](?:\.\d+){5,}"),
    "a home folder": re.compile(r"(?:/home|/Users|[A-Za-z]:[\\/]Users)[\\/][^\\/\s\"']+"),
}
#: written by the program itself: seeds, digests, versions
OWN = re.compile(r"seed|digest|lock|folds|commit|version|python|package|split|mlflow\.(?!note)|attempt")


def identifiers(survey: Survey) -> Iterator[Finding]:
    """Tags, parameters, dataset sources and artifact names of all runs; what is found is shown masked."""
    found: dict[tuple[str, str], dict[str, int]] = {}
    for run in survey.runs.values():
        seen = {(where, kind, shown) for where, text in _said(run.words) for kind, shown in _suspicious(text)}
        for where, kind, shown in seen:
            counts = found.setdefault((kind, where), {})
            counts[shown] = counts.get(shown, 0) + 1
    if not found:
        yield ok("identifiers", f"none in tags, parameters, sources or names of {len(survey.runs):,} runs")
    for (kind, where), counts in sorted(found.items()):
        times = sum(counts.values())
        text = f"{where} of {times:,} {'run' if times == 1 else 'runs'} may hold {kind}: {listed(counts)}"
        if kind == "a home folder":
            cure = "Pass a path without a user's name, for instance below /data, or relative"
        else:
            cure = "If it is a person's, rename it and start the study anew; delete the runs for good with `mlflow gc`"
        yield warn("identifiers", text, cure)


def _said(words: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for event in words:
        match event["event"]:
            case "begin":
                identity = event["identity"]
                yield from (("name", str(identity[key])) for key in ("name", "study", "experiment"))
                yield from _values("tag", event["tags"])
            case "tags":
                yield from _values("tag", event["values"])
            case "params":
                yield from _values("parameter", event["values"])
            case "dataset":
                yield "dataset source", str(event["source"])
                yield "dataset name", str(event["name"])
            case "artifact" | "model":
                yield f"{event['event']} name", str(event["name"])


def _values(what: str, values: dict[str, str]) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if not OWN.search(key):
            yield f"{what} {key!r}", str(value)


@lru_cache(maxsize=100_000)  # ten thousand runs say much the same
def _suspicious(text: str) -> tuple[tuple[str, str], ...]:
    found = []
    for kind, pattern in PATTERNS.items():
        for match in pattern.finditer(text):
            found.append((kind, mask(match.group())))
        if kind == "a date":  # not a number as well
            text = pattern.sub(" ", text)
    return tuple(dict.fromkeys(found))


def mask(text: str) -> str:
    """Enough to find it again, not enough to know whose it is."""
    head = re.match(r"(?:/home/|/Users/|[A-Za-z]:[\\/]Users[\\/])?.", text)
    start = head.end() if head else 1
    return text[:start] + re.sub(r"\w", "*", text[start:])
