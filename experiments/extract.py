"""Cut a dataset's patches once and keep them: `python -m experiments.extract --dataset D --root R --out DIR`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments import data_options as options
from experiments.cli import Verb, run, verb
from experiments.data_options import option

app = verb()


@app.command(cls=Verb)
def extract(
    out: Annotated[Path, typer.Option(help="An empty folder for patches and images.csv.")],
    recipe: Annotated[Path | None, typer.Argument(help="A recipe whose dataset is meant; options override it.")] = None,
    dataset: options.Dataset = None,
    root: options.Root = None,
    size: options.Size = None,
    limit: options.Limit = None,
    skip_unreadable: options.SkipUnreadable = None,
    task: options.Task = None,
    crop: options.Crop = None,
    field_mm: options.FieldMm = None,
    pairs: options.Pairs = None,
    without_callback: options.WithoutCallback = None,
    borders: options.Borders = None,
    patient_from: options.PatientFrom = None,
    table: options.Table = None,
    positive: options.Positive = None,
    sampling: options.Sampling = None,
    patients: options.Patients = None,
    trap: options.Trap = None,
    mlruns: Annotated[Path | None, option("Where decoded images are kept (default: mlruns).")] = None,
) -> None:
    """Write a dataset's patches and a table of them, which `--dataset table` reads back identically."""
    given = {key: value for key, value in locals().items() if value is not None and key not in ("recipe", "out")}
    from mammo_lightning.recipe import make_recipe, read_recipe

    keys = read_recipe(recipe, Path(__file__).parent / "recipes") if recipe else {}
    checked = make_recipe({**keys, **given})

    from experiments.display import Display
    from mammo_lightning.extraction import extract as write
    from mammo_lightning.opening import open_dataset, writable

    checked = checked.model_copy(update={"mlruns": writable(checked.mlruns)})
    with Display() as progress:
        data = open_dataset(checked, progress)
        written = write(data, out, progress)
        for reason, count in data.notices.items():
            progress.console.print(f"note: {count:,} {reason}", soft_wrap=True)
        for _, why in data.unreadable:
            progress.console.print(f"unreadable: {why}", soft_wrap=True)
        positive_rows = int(data.frame["label"].sum())
        progress.console.print(
            f"{len(data.frame):,} images ({positive_rows:,} {data.classes[1]}, {len(data.frame) - positive_rows:,} "
            f"{data.classes[0]}) of {data.frame['patient'].nunique():,} patients: --dataset table --table {written}",
            soft_wrap=True,
        )


if __name__ == "__main__":
    run(app)
