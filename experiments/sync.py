"""Deliver what a tracking server lacks: `python -m experiments.sync [--mlruns DIR] [--tracking-uri URI]`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from experiments.cli import Verb, run, verb

app = verb()


@app.command(cls=Verb)
def sync(
    mlruns: Annotated[Path, typer.Option(help="The tracking folder whose runs are delivered.")] = Path("mlruns"),
    tracking_uri: Annotated[
        str | None, typer.Option(help="An MLflow server or database.", show_default="the folder's own database")
    ] = None,
) -> int:
    """Deliver all runs of a tracking folder that an MLflow server lacks, once; stop it and start it as you like."""
    import mammo_lightning.tracking.sync as syncing
    from mammo_lightning.tracking.store import check_uri, default_uri, public

    uri = check_uri(tracking_uri) if tracking_uri else default_uri(mlruns)
    if not (mlruns / "journal").is_dir():
        from mammo_lightning.errors import TrackingError

        raise TrackingError(f"no journal in '{mlruns}'; run `python -m experiments.tune` first, or pass --mlruns")
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # to stderr, so that what stands on stdout is the result
    with Progress(*columns, console=Console(file=sys.stderr), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("looking", total=None)
        done = syncing.sync(
            mlruns,
            uri,
            progress=lambda count, total: bar.update(task, description="runs", completed=count, total=total),
        )
    deleted = f", {done.deleted} deleted there" if done.deleted else ""
    print(f"{public(uri)}: {done.delivered} delivered, {done.present} there already{deleted}")
    for run_id, reason in done.failed.items():
        print(f"not delivered: {run_id}: {reason}", file=sys.stderr)
    return 1 if done.failed else 0


if __name__ == "__main__":
    run(app)
