"""Score images with a model: `python -m experiments.predict RUN|NAME@ALIAS|NAME/VERSION FOLDER --out F.csv`."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from experiments.cli import Verb, run, verb
from experiments.data_options import option

app = verb()
SHOWN = 20  # unreadable files at the terminal


@app.command(cls=Verb)
def predict(
    model: Annotated[str, typer.Argument(help="A run's id, a study's name, NAME@ALIAS or NAME/VERSION.")],
    images: Annotated[
        Path, typer.Argument(help="A folder, with all below it, or one file: PNG, PGM, TIFF, NPY, DICOM.")
    ],
    out: Annotated[Path, option("The csv to write: path,p_<class>..., the positive class last.")] = Path("scores.csv"),
    skip_unreadable: Annotated[bool, option("Leave unreadable images out and list them.")] = False,
    mlruns: Annotated[Path, option("Where everything is kept (default: mlruns).")] = Path("mlruns"),
    tracking_uri: Annotated[str | None, option("An MLflow server instead of the local database.")] = None,
) -> None:
    """Write the probability of each class for every image. The same command goes on with what it has begun."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    from experiments.display import Display
    from mammo_lightning.datamodules.files import shown
    from mammo_lightning.scoring.loading import find_servable

    with Display() as progress:
        servable, about = find_servable(model, mlruns, tracking_uri)

        from mammo_lightning.scoring.score import images_of, score_files  # seconds, hence after the names
        from mammo_lightning.scoring.score_file import ScoreFile

        found = images_of(images)
        where = str(images.resolve())
        scores = ScoreFile(out, model={"asked": model, **about}, source=where, classes=servable.classes)
        begun = time.monotonic()
        new = score_files(servable, found, scores, progress, skip_unreadable=skip_unreadable)
        took = time.monotonic() - begun
    console = progress.console
    for name, why in list(scores.unreadable.items())[:SHOWN]:
        progress.say(f"unreadable: {name}: {why}")
    if len(scores.unreadable) > SHOWN:
        progress.say(f"unreadable: and {len(scores.unreadable) - SHOWN} more, listed in {scores.beside}")
    kept = f", {len(scores.scores) - new:,} were there already" if len(scores.scores) > new else ""
    console.print(f"{new:,} images scored by {about['name']} in {took:.1f} s{kept}", soft_wrap=True)
    positive = sum(score >= servable.threshold for score in scores.scores.values())
    point = servable.about
    rule = f" ({point.rule}, chosen at level {point.level})" if point.rule else ""
    console.print(
        f"{positive:,} of {len(scores.scores):,} reach {servable.threshold:.4g}{rule} for {servable.classes[-1]!r}: "
        f"{shown(out)}",
        soft_wrap=True,
    )
    if point.reading.synthetic:
        console.print("SYNTHETIC: the model was trained on generated images", style="yellow")


if __name__ == "__main__":
    run(app)
