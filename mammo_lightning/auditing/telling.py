"""What an audit found, as a person reads it: tables without columns for machines, and a page of markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pandas as pd

from mammo_lightning.auditing.look import Look
from mammo_lightning.datamodules.shortcuts import RULE
from mammo_lightning.evaluation.resampling import Estimate


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table with value and interval in one column, and without columns for machines."""
    if "auc" not in table:
        return table
    told = [str(Estimate(*row)) for row in table[["auc", "lo", "hi"]].itertuples(index=False)]
    named = table.drop(columns=["auc", "lo", "hi", "predictor", "shortcut"], errors="ignore")
    named.insert(list(named.columns).index("what") + 1 if "what" in named else 1, "AUC (95 % CI)", told)
    return named


def captions(name: str, left_out: int = 0) -> Iterator[str]:
    """What stands below a table of an audit, `left_out` rows of which are not shown."""
    if name == "shortcuts":
        yield RULE
    if left_out > 0:
        yield f"and {left_out} more rows in {name}.csv"


def markdown(look: Look) -> str:
    """Everything an audit found but its pictures."""
    parts = [
        f"# Audit of {look.title}",
        "\n".join(f"- {one_line(line)}" for line in look.lines) or "Nothing found that is wrong.",
    ]
    for name, table in look.tables.items():
        shown = readable(table)
        head = [_row(shown.columns), _row("---" for _ in shown.columns)]
        body = "\n".join([*head, *(_row(row) for row in shown.itertuples(index=False))])
        parts.append("\n\n".join([f"## {name.capitalize()}", body, *captions(name)]))
    return "\n\n".join(parts) + "\n"


def one_line(value: object) -> str:
    """A value as one line of markdown; names of files and classes may hold anything."""
    return " ".join(str(value).split()).replace("<", "&lt;")


def _row(values: Iterable[object]) -> str:
    return f"| {' | '.join(one_line(value).replace('|', '/') for value in values)} |"
