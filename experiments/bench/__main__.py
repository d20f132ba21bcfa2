"""Measure what is wasted: `python -m experiments.bench [fit|study|cache|... ] [--quick]`."""

from __future__ import annotations

import importlib
import sys
from typing import Annotated

import typer

from experiments.cli import Verb, run, verb

PLAIN_WIDTH = 130  # where there is no terminal to ask
app = verb()
PARTS = {"fit": "fitting", "study": "studies", "cache": "caching", "store": "stores", "help": "helping", "gpu": "gpu"}
PARTS |= {"index": "indexing", "ellipse": "ellipse", "ensemble": "combining"}


@app.command(cls=Verb)
def bench(
    parts: Annotated[
        list[str] | None,
        typer.Argument(help="fit, study, cache, index, ellipse, ensemble, store, help, gpu; all if none."),
    ] = None,
    quick: Annotated[bool, typer.Option(help="Seconds instead of minutes: shows that it runs, not how fast.")] = False,
) -> None:
    """Print ratios, with their spread, of what we take to what a bare loop or the usual way takes."""
    from rich.console import Console

    from experiments.bench.measure import machine
    from mammo_lightning.errors import SettingsError, one_of

    for part in parts or []:
        if part not in PARTS:
            raise SettingsError(f"no part {part!r}; {one_of(list(PARTS))}")
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    console.print(f"machine: {machine()}", "· quick: sizes too small to mean anything" if quick else "")
    for part in parts or PARTS:
        importlib.import_module(f"experiments.bench.{PARTS[part]}").measure(console, quick)


if __name__ == "__main__":
    run(app)
