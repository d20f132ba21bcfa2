"""Make a registered version the champion: `python -m experiments.promote NAME [--to champion] [--from challenger]`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from experiments.cli import Verb, run, verb

app = verb()


@app.command(cls=Verb)
def promote(
    word: Annotated[str, typer.Argument(metavar="NAME[/VERSION]", help="The registered model, or one version of it.")],
    to: Annotated[str, typer.Option(help="The alias that moves.")] = "champion",
    source: Annotated[
        str | None, typer.Option("--from", help="The challenger's alias.", show_default="challenger")
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(help="How much worse it may be; fixed by the first.", show_default="as fixed, else 0.05"),
    ] = None,
    override: Annotated[str | None, typer.Option(help="Do it all the same; the reason is recorded.")] = None,
    mlruns: Annotated[Path, typer.Option(help="The tracking folder.")] = Path("mlruns"),
    tracking_uri: Annotated[
        str | None, typer.Option(help="An MLflow server or database.", show_default="the folder's own database")
    ] = None,
) -> int:
    """Compare challenger and champion on the test rows at their frozen thresholds, and move the alias if none is lost.

    Sensitivity and specificity must both be shown to be no worse, one-sided 97.5 %, up to the margin.
    """
    import mammo_lightning.registration.promote as promotion
    from experiments.display import Display
    from mammo_lightning.tracking.store import check_uri, default_uri

    uri = check_uri(tracking_uri) if tracking_uri else default_uri(mlruns)
    try:
        done = promotion.promote(
            word, to=to, source=source, margin=margin, override=override, mlruns=mlruns, uri=uri, progress=Display()
        )
    except promotion.Refused as refused:
        print(f"error: {refused.what}:", *refused.reasons, sep="\n  ", file=sys.stderr)
        return 2
    for line in done.lines:
        print(line)
    return 0


if __name__ == "__main__":
    run(app)
