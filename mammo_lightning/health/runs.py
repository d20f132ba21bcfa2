"""The journals: damaged lines, runs that nobody ends, files that a killed process left half-written."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from mammo_lightning.health import owners
from mammo_lightning.health.finding import Finding, bad, listed, ok, warn
from mammo_lightning.health.survey import Seen, Survey
from mammo_lightning.tracking.store import public
from mammo_lightning.types import Kind, Outcome

IN_A_STUDY = {Kind.study, Kind.reference, Kind.trial, Kind.final}
LONG_AGO = 3600.0  # no verb but tune keeps a run open that long without a word
SETTLED = 600.0
#: what is written through a neighbour and a rename, or through a scratch folder
_PART = re.compile(r".*\.part$|\..+\.[a-z0-9_]{8}$")


def lines(survey: Survey) -> Iterator[Finding]:
    """Lines that were cut by a kill, a full disk or a power cut."""
    torn = [run.run_id for run in survey.runs.values() if run.torn and not run.fresh]
    if survey.nameless:
        cure = "Restore it from a backup, or move the folder away"
        yield bad("journals", f"the beginning of {listed(survey.nameless)} cannot be read", cure)
    if torn:
        text = f"{len(torn)} of {len(survey.runs):,} runs have a cut or damaged line ({listed(torn)})"
        yield warn("journals", text, "All other lines count; the same command repeats what was cut")
    if not torn and not survey.nameless:
        yield ok("journals", f"{len(survey.runs):,} runs, every line whole")


def orphans(survey: Survey, storage: str | None, repair: bool) -> Iterator[Finding]:
    """Runs that neither ended nor are worked on by a living process.

    Args:
        survey: The runs.
        storage: Where leases are kept; None where there is no study yet.
        repair: Whether to end them as interrupted.
    """
    open_runs = [run for run in survey.runs.values() if not run.ended]
    held, known = {}, set[str]()
    if storage:
        with owners.reading(storage) as connection:
            held, known = owners.living(connection), owners.studies(connection)
    orphaned, elsewhere = [], []
    for run in open_runs:
        root = survey.root(run).run_id
        if owners.is_held(run.run_id, root, held):
            continue
        if run.identity["kind"] not in IN_A_STUDY:
            orphaned += [run.run_id] if time.time() - run.changed > LONG_AGO else []
        elif root in known:
            orphaned.append(run.run_id)
        elif not run.fresh:
            elsewhere.append(run.run_id)
    if elsewhere:
        text = f"{len(elsewhere)} open runs belong to studies that {public(storage or 'no storage here')} does not know"
        yield warn("orphans", f"{text} ({listed(elsewhere)})", "Pass their --storage")
    if not orphaned:
        yield ok("orphans", f"none; {len(open_runs) - len(elsewhere)} runs are being worked on")
    elif repair:
        for name in orphaned:
            survey.journal.run(name).end(Outcome.interrupted, "signal")
        yield ok("orphans", f"{len(orphaned)} ended as interrupted ({listed(orphaned)})")
    else:
        cure = "Start their command again, or pass --repair to end them as interrupted"
        yield warn("orphans", f"{len(orphaned)} runs neither ended nor are worked on ({listed(orphaned)})", cure)


def leftovers(survey: Survey, repair: bool) -> Iterator[Finding]:
    """Half-written files; without `repair`, finished runs are not searched for them."""
    folder = survey.journal.folder
    seen = [run for run in survey.runs.values() if repair or run.outcome != Outcome.completed]
    places = [folder / run.run_id for run in seen if not _is_at_work(survey, run)]
    places += [survey.mlruns / "cache", survey.mlruns / "studies"]
    found = [path for place in places for path in _parts(place)]
    if not found:
        yield ok("leftovers", "no half-written file")
    elif repair:
        for path in found:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        yield ok("leftovers", f"{len(found)} half-written files removed")
    else:
        names = listed(str(path.relative_to(survey.mlruns)) for path in found)
        yield warn("leftovers", f"{len(found)} half-written files ({names})", "Pass --repair to remove them")


def _is_at_work(survey: Survey, run: Seen) -> bool:
    return not run.ended and (run.fresh or survey.root(run).fresh)


def _parts(place: Path) -> Iterator[Path]:
    """Half-written files and folders that have not been touched for a while; nothing inside of such a folder."""
    for path in sorted(place.iterdir()) if place.is_dir() and not place.is_symlink() else ():
        if _PART.fullmatch(path.name):
            if time.time() - _newest(path) > SETTLED:
                yield path
        elif path.is_dir():
            yield from _parts(path)


def _newest(path: Path) -> float:
    try:
        return max(each.lstat().st_mtime for each in (path, *path.rglob("*")))
    except FileNotFoundError:  # its writer has just finished
        return time.time()
