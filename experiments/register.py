"""Give a run's model a name: `python -m experiments.register RUN --name N [--alias challenger]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.cli import Verb, run, verb

app = verb()


@app.command(cls=Verb)
def register(
    word: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, STUDY/t003, or a study: its final.")],
    name: Annotated[str, typer.Option(help="Name of the registered model.")],
    alias: Annotated[str | None, typer.Option(help="What the version is to be called, such as challenger.")] = None,
    margin: Annotated[
        float | None, typer.Option(help="Fix how much worse a challenger of this name may be (else 0.05).")
    ] = None,
    mlruns: Annotated[Path, typer.Option(help="The tracking folder.")] = Path("mlruns"),
    tracking_uri: Annotated[
        str | None, typer.Option(help="An MLflow server or database.", show_default="the folder's own database")
    ] = None,
) -> None:
    """Make a version of a registered model from a run, with its card; said twice it is the same version."""
    from mammo_lightning.tracking.store import check_uri, default_uri
    from mammo_lightning.tracking.versions import check_names

    check_names(name, alias)  # before anything that takes seconds to import

    from mammo_lightning.registration.register import register_run

    uri = check_uri(tracking_uri) if tracking_uri else default_uri(mlruns)
    done = register_run(word, name, alias=alias, margin=margin, mlruns=mlruns, uri=uri)
    for line in done.lines:
        print(line)


if __name__ == "__main__":
    run(app)
