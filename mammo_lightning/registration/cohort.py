"""On whom a model was judged: images and patients by class, what an audit found in them, and subgroups."""

from __future__ import annotations

import csv
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mammo_lightning.datamodules.folds import DROPPED, RESERVE
from mammo_lightning.evaluation.statistics import within
from mammo_lightning.recipe import DataOptions
from mammo_lightning.registration.facts import Facts
from mammo_lightning.tracking.journal import RunJournal

FINDINGS = 6  # lines of an audit
#: options of every dataset that say which images are meant
OPENED = ("root", "size", "limit", "skip_unreadable")
LONG = 240  # characters of one of them
#: what says something is wrong at the head of a line of an audit
WARNED = ("shortcut", "leak", "duplicate", "label conflict", "unreadable", "straddle")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows as markdown; nothing where there is none."""
    body = ["| " + " | ".join(map(plain, row)) + " |" for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *body]) if body else ""


def plain(cell: object) -> str:
    """A cell that stays in its place, and is shown as it is written."""
    return " ".join(str(cell).split()).replace("|", "/").replace("<", "&lt;")


def cohort(facts: Facts) -> str:
    """The images and patients behind each figure, those behind none, and what an audit of them found."""
    told, origin = facts.told, facts.dataset.origin if facts.dataset else None
    name = facts.tags.get("dataset", told.get("name", "unknown"))
    parts = [
        f"Dataset `{name}`" + "".join(f", {key} `{told[key]}`" for key in ("digest", "split") if told.get(key)) + "."
    ]
    if origin and origin.citation:
        parts[0] += f" {origin.citation} Licence: {origin.licence or 'not stated'}."
    rows = []
    for split in facts.splits:
        frame = facts.scored.predictions(split).frame
        for label, group in frame.groupby("label"):
            named = facts.classes[-1] if label else " / ".join(facts.classes[:-1])
            rows.append((facts.rows(split), named, len(group), group["patient"].nunique()))
        rows.append((facts.rows(split), "all", len(frame), frame["patient"].nunique()))
    parts.append(table(("rows", "class", "images", "patients"), rows))
    parts += _beside(facts)
    parts += _audit(facts)
    return "\n\n".join(filter(None, parts))


def _beside(facts: Facts) -> Iterator[str]:
    """Images that stand in no figure."""
    path = facts.scored.study.artifacts / "folds.csv" if facts.scored.study else None
    if path is None or not path.is_file():
        return
    with path.open(newline="") as stream:
        found = list(csv.DictReader(stream))
    counts = Counter(int(row["fold"]) for row in found)
    for fold, why in (
        (RESERVE, "kept in reserve for the threshold"),
        (DROPPED, "dropped: its patient is on both sides"),
    ):
        if counts[fold] and not (fold == RESERVE and facts.scored.judged_on == "reserve"):
            groups = len({row["group"] for row in found if int(row["fold"]) == fold})
            yield f"{counts[fold]} images of {groups} patients are in no figure ({why})."


def _audit(facts: Facts) -> Iterator[str]:
    name, digest = facts.tags.get("dataset", ""), facts.told.get("digest", "")
    folder = facts.run.folder.parent
    run = RunJournal(folder / f"audit-{name}-{digest}")
    path = run.artifacts / "audit.md"
    if not path.is_file():
        others = sorted(each.name.rpartition("-")[2] for each in folder.glob(f"audit-{name}-*"))
        seen = f" (there is one of other rows or pixels: {', '.join(others)})" if others else ""
        command = f": `{_command(facts, name)}`" if facts.dataset else ""
        yield f"No audit of these images is kept{seen}{command}."
        return
    lines = [line.removeprefix("- ") for line in path.read_text().splitlines() if line.startswith("- ")]
    warned = [_unnamed(line) for line in lines if line.partition(":")[0] in WARNED]
    yield f"Audit `{run.run_id}`: {len(warned)} warnings" + (", the first of them:" if len(warned) > FINDINGS else ".")
    yield "\n".join(f"- {line if len(line) <= LONG else line[:LONG] + ' ...'}" for line in warned[:FINDINGS])


def _command(facts: Facts, name: str) -> str:
    """What audits the same images; folders and files stand as capitals, for a card is passed on."""
    words, recipe = ["python -m experiments.audit", f"--dataset {name}"], facts.recipe
    options = [] if recipe is None else [(key, getattr(recipe, key)) for key in (*OPENED, *DataOptions.model_fields)]
    for key, value in options:
        flag = f"--{key.replace('_', '-')}"
        if isinstance(value, dict):
            words += [f"{flag} {each}={_told(each, own)}" for each, own in value.items()]
        elif isinstance(value, bool):
            words += [flag] if value else []
        elif value is not None:
            words.append(f"{flag} {_told(key, value)}")
    return " ".join(words)


def _told(key: str, value: object) -> str:
    place = isinstance(value, Path) or Path(str(value)).is_absolute()
    return key.upper() if place else shlex.quote(str(value))


def _unnamed(line: str) -> str:
    """A finding without the names of files and patients: a card is passed on."""
    kind, _, rest = line.partition(": ")
    return re.sub(r",? '[^']*' in '[^']*'", "", line) if kind == "shortcut" else f"{kind}: {rest.partition(': ')[0]}"


def subgroups(facts: Facts) -> str:
    """How well it does within each value of what else is known of an image."""
    rows, alone = [], []
    for split in facts.splits:
        at = facts.scored.predictions(split).at(facts.level)
        for column in facts.subgroups:
            for value, cell in within(at, column, replicates=1000).items() if column in at.frame else ():
                if cell.auc:
                    rows.append((column, value, facts.rows(split), cell.auc, cell.counts))
                else:
                    alone.append(f"{column} {value} ({facts.rows(split)}, {cell.counts})")
    parts = [table(("column", "value", "rows", "AUC", "counts"), rows)]
    if facts.varying:
        parts.append(f"Not by {', '.join(facts.varying)}: one {facts.level} may hold several values.")
    if alone:
        parts.append(f"No AUC, for they hold one class only: {'; '.join(alone)}.")
    return "\n\n".join(filter(None, parts))
