"""Free the models of losing trials: `python -m experiments.gc --keep-best 16 [--dry-run]`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.cli import Verb, run, verb

if TYPE_CHECKING:
    from mammo_lightning.tracking.journal import Journal

app = verb()


@app.command(cls=Verb)
def gc(
    keep_best: Annotated[int, typer.Option(help="Trials of each study that keep their models.", min=1)] = 16,
    mlruns: Annotated[Path, typer.Option(help="The tracking folder.")] = Path("mlruns"),
    tracking_uri: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URI", help="Where runs went and models are registered; once for each.", show_default=False
        ),
    ] = None,
    caches: Annotated[
        bool, typer.Option("--caches", help="Free decoded images no run has seen, and copies of other machines' runs.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be freed, and free nothing.")] = False,
) -> None:
    """Free models and checkpoints of losing trials of finished studies.

    What the registry, a final or an ensemble names stays, and so do predictions, curves and figures.
    """
    from mammo_lightning.clearing import named, plan, registered
    from mammo_lightning.errors import TrackingError
    from mammo_lightning.health.finding import size
    from mammo_lightning.tracking.journal import Journal
    from mammo_lightning.tracking.store import default_uri

    if not (mlruns / "journal").is_dir():
        raise TrackingError(f"no journal in '{mlruns}'; run `python -m experiments.tune` first, or pass --mlruns")
    journal, uris = Journal(mlruns), tracking_uri or [default_uri(mlruns)]
    protected = named(journal) | registered(mlruns, uris)
    word, total = "would be freed" if dry_run else "freed", 0
    for each in plan(journal, keep_best, protected):
        freed = each.size if dry_run else each.carry_out()
        total += freed
        print(f"{each}: {size(freed)} {word}", flush=True)
        for name, why in each.protected.items():
            print(f"  {name} stays: {why}")
    total += _caches(mlruns, caches, dry_run) + _borrowed(mlruns, caches, dry_run)
    print(f"in all: {size(total)} {word}")
    if not dry_run:
        _deliver(journal, mlruns, uris)


def _caches(mlruns: Path, wanted: bool, dry_run: bool) -> int:
    """Say which decoded images nobody uses, and free them if that was asked for; returns bytes."""
    if not (mlruns / "cache").is_dir():
        return 0
    from mammo_lightning.clearing import unseen_caches
    from mammo_lightning.health import images
    from mammo_lightning.health.finding import size
    from mammo_lightning.health.survey import Survey
    from mammo_lightning.retention import weigh

    total = 0
    for folder in unseen_caches(Survey(mlruns.resolve())):
        weight = weigh(path for path in folder.rglob("*") if path.is_file())
        if not wanted:
            print(f"image cache {folder.name}: {size(weight)} that no run has seen; --caches frees it")
        elif dry_run or images.remove(folder):
            print(f"image cache {folder.name}: {size(weight)} {'would be freed' if dry_run else 'freed'}")
            total += weight
        else:
            print(f"image cache {folder.name}: in use, stays")
    return total


def _borrowed(mlruns: Path, wanted: bool, dry_run: bool) -> int:
    """Say what was fetched from other machines, and free it if that was asked for: it is fetched again; bytes."""
    from mammo_lightning.health.finding import size
    from mammo_lightning.retention import weigh
    from mammo_lightning.tracking.files import remove
    from mammo_lightning.tracking.journal import Journal

    lent = Journal(mlruns, borrowed=True)
    if not (runs := lent.runs()):
        return 0
    weight = weigh(path for path in lent.folder.rglob("*") if path.is_file())
    told = f"other machines' runs: {len(runs)} fetched, {size(weight)}"
    if not wanted:
        print(f"{told}; --caches frees it, and what is needed is fetched again")
        return 0
    print(f"{told} {'would be freed' if dry_run else 'freed'}")
    if not dry_run:
        remove(lent.folder)
    return weight


def _deliver(journal: Journal, mlruns: Path, uris: list[str]) -> None:
    """Let the tracking stores hear of it: their copies go when they do."""
    from mammo_lightning.errors import TrackingError
    from mammo_lightning.tracking.publish import Publisher

    for uri in uris:
        try:
            Publisher(journal, uri, mlruns).publish_all()
        except TrackingError as error:
            print(f"warning: {error}; its copies go with the next study or `python -m experiments.sync`")


if __name__ == "__main__":
    run(app)
