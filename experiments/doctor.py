"""Find what is wrong with a machine, its stores and its runs: `python -m experiments.doctor [--repair]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.cli import Verb, run, verb

app = verb()


@app.command(cls=Verb)
def doctor(
    mlruns: Annotated[Path, typer.Option(help="The tracking folder.")] = Path("mlruns"),
    tracking_uri: Annotated[
        str | None, typer.Option(help="The MLflow server or database, if it is not in mlruns.", show_default=False)
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="The study storage, if it is not in mlruns.", show_default=False)
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Where the images are.", show_default=False)] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended without losing anything.")] = False,
) -> None:
    """One line a finding: ok, warn or bad, and the cure. Ends with 1 if something is bad."""
    from mammo_lightning.health.checks import Places, examine

    worst = "ok"
    for finding in examine(Places(mlruns, tracking_uri, storage, root), repair=repair):
        print(finding, flush=True)
        worst = max(worst, str(finding.state), key=("ok", "warn", "bad").index)
    raise typer.Exit(int(worst == "bad"))


if __name__ == "__main__":
    run(app)
