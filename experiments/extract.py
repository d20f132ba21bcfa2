"""Cut a dataset's patches once and keep them: `python -m experiments.extract --dataset D --root R --out DIR`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.cli import Verb, run, verb
from experiments.data_options import checked_recipe, option, with_data

app = verb()


@app.command(cls=Verb)
@with_data
def extract(
    out: Annotated[Path, typer.Option(help="An empty folder for patches and images.csv.")],
    recipe: Annotated[Path | None, typer.Argument(help="A recipe whose dataset is meant; options override it.")] = None,
    mlruns: Annotated[Path | None, option("Where decoded images are kept (default: mlruns).")] = None,
    *,
    data: dict[str, Any],
) -> None:
    """Write a dataset's patches and a table of them, which `--dataset table` reads back identically."""
    checked = checked_recipe(recipe, mlruns=mlruns, **data)

    from experiments.display import Display
    from mammo_lightning.extraction import extract as write
    from mammo_lightning.opening import open_dataset, writable

    checked = checked.model_copy(update={"mlruns": writable(checked.mlruns)})
    with Display() as progress:
        opened = open_dataset(checked, progress)
        written = write(opened, out, progress)
        for reason, count in opened.notices.items():
            progress.console.print(f"note: {count:,} {reason}", soft_wrap=True)
        for _, why in opened.unreadable:
            progress.console.print(f"unreadable: {why}", soft_wrap=True)
        frame, (negative, positive) = opened.frame, opened.classes
        found = int(frame["label"].sum())
        progress.console.print(
            f"{len(frame):,} images ({found:,} {positive}, {len(frame) - found:,} {negative}) of "
            f"{frame['patient'].nunique():,} patients; to use them:\n"
            f"python -m experiments.tune --dataset table --table {shlex.quote(str(written))}",
            soft_wrap=True,
        )


if __name__ == "__main__":
    run(app)
