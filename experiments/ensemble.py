"""Combine tracked runs: `python -m experiments.ensemble STUDY... --rule mean --members 5,11`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.cli import Verb, run, verb
from experiments.data_options import option

if TYPE_CHECKING:
    from experiments.display import Display
    from mammo_lightning.ensembles.assemble import Ensemble
    from mammo_lightning.ensembles.members import Pool
    from mammo_lightning.ensembles.networks import Networks
    from mammo_lightning.runs import Runs, Scored

app = verb()


@app.command(cls=Verb)
def ensemble(
    studies: Annotated[list[str] | None, typer.Argument(help="Names of studies whose trials are candidates.")] = None,
    rule: Annotated[str, typer.Option(help="majority, mean, weighted, stacking or greedy.")] = "mean",
    members: Annotated[
        str, typer.Option(help="How many: the N best, one ensemble for each N; greedy draws N times.", metavar="N,...")
    ] = "5",
    by: Annotated[str, typer.Option(help="val_auc, val_pooled_auc, val_pauc or val_ap; of other folds.")] = "val_auc",
    runs: Annotated[str | None, option("Members by id, instead of the best.", metavar="ID,...")] = None,
    calibration: Annotated[str | None, option("platt, temperature or isotonic, of what comes out.")] = None,
    level: Annotated[str | None, option("patch, lesion, view, breast, exam or patient (default: the study's).")] = None,
    operating_point: Annotated[str | None, option("spec0.80, sens0.95, youden ... (default: the study's).")] = None,
    test: Annotated[bool, typer.Option("--test", help="Score the test split once; the read is counted.")] = False,
    model: Annotated[bool, typer.Option(help="Save a model that can be registered and served.")] = True,
    root: Annotated[Path | None, option("Where the images are, if not where they were.")] = None,
    mlruns: Annotated[Path, typer.Option(help="Where everything is kept.")] = Path("mlruns"),
    tracking_uri: Annotated[
        str | None, option("An MLflow server instead of the local database; runs that only it has are fetched.")
    ] = None,
    storage: Annotated[str | None, option("What machines share (as of tune): reads are counted there too.")] = None,
) -> None:
    """Assemble ensembles from logged predictions, judged on rows that nothing of them was fitted on."""
    from experiments.display import Display
    from mammo_lightning.ensembles.members import BY_HAND
    from mammo_lightning.runs import known_runs
    from mammo_lightning.tracking.fetch import Fetch
    from mammo_lightning.tracking.publish import ENOUGH, Publisher, check_uri, default_uri

    uri = check_uri(tracking_uri) if tracking_uri else default_uri(mlruns)
    with Display() as progress:
        words = [*(studies or []), *(runs.split(",") if runs else [])]
        found = known_runs(mlruns, uri, words, progress)
        pool, references = _pool(found, studies or [], runs)
        first = pool.members[0]
        counts = _counts(members) if runs is None else [len(pool.members)]

        from mammo_lightning.ensembles.assemble import Wish, assemble  # seconds, hence after the names
        from mammo_lightning.ensembles.networks import Networks

        wishes = [
            Wish(
                rule=rule,
                count=count,
                by=by if runs is None else BY_HAND,
                calibration=calibration,
                level=type(first.level)(_known(level, first)),
                operating_point=operating_point or ("" if rule == "majority" else first.rule),
            )
            for count in counts
        ]
        made = [assemble(pool, each) for each in progress.loop(wishes, "ensembles", len(wishes))]
        publisher = Publisher(found.journal, uri, found.mlruns)
        networks = Networks(found.mlruns, root, lambda name: Fetch(publisher.store, name), progress, storage)
        wanted = {"test": test, "model": model and _weights_are_there(networks, made, progress, needed=test)}
        try:
            for each in made:
                _record(found, each, references, networks, progress, **wanted)
        finally:
            publisher.close(ENOUGH)


def _weights_are_there(networks: Networks, made: list[Ensemble], progress: Display, *, needed: bool) -> bool:
    """Whether models can be made of the weights of all members; asked before anything is written."""
    from mammo_lightning.errors import MammoError

    try:
        for member in {id(each): each for one in made for each in one.members}.values():
            networks.predictor(member)
    except MammoError as error:
        if needed:
            raise
        progress.say(f"warning: no model is saved: {error}")
        return False
    return True


def _known(level: str | None, first: Scored) -> str:
    from mammo_lightning.errors import SettingsError

    if level is not None and level not in first.levels:
        raise SettingsError(f"--level {level} was not judged in these runs; pass {' or '.join(first.levels)}")
    return level or str(first.level)


def _counts(text: str) -> list[int]:
    from mammo_lightning.errors import SettingsError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise SettingsError(f"--members {text!r} is no list of numbers; pass for instance 5,11,15") from None


def _pool(found: Runs, studies: list[str], runs: str | None) -> tuple[Pool, list[Scored]]:
    """The candidates, and the references of their studies."""
    from mammo_lightning.ensembles.members import pool
    from mammo_lightning.errors import SettingsError
    from mammo_lightning.types import Kind

    if bool(studies) == bool(runs):
        given = "both were given" if runs else "none was given"
        raise SettingsError(f"which runs are meant? Name studies, or pass --runs STUDY/t000,STUDY/t001; {given}")
    if runs:
        return pool(found.named(runs.split(","))), []
    members, split = [], "val"
    for study in studies:
        nested = found.experts(study)
        split = "reserve" if nested else split
        members += nested or found.of_study(study)
        if not nested and (lost := [each.run_id for each in found.of_study(study, split=None) if not each.has()]):
            print(f"note: completed trials whose predictions are gone are left out: {', '.join(lost)}", file=sys.stderr)
    references = [each for study in studies for each in found.of_study(study, (Kind.reference,))]
    return pool(members, split), references[:1]


def _record(
    found: Runs,
    made: Ensemble,
    references: list[Scored],
    networks: Networks,
    progress: Display,
    *,
    test: bool,
    model: bool,
) -> None:
    from mammo_lightning.ensembles.assemble import controls, lineage, record_ensemble
    from mammo_lightning.ensembles.networks import read_test_split, save_model
    from mammo_lightning.reports import Row

    kept, summary = record_ensemble(found.journal, made, controls(made, references))
    if test:
        predictions, shown, read = read_test_split(networks, made, kept)
        counts = predictions.at(made.wish.level).counts()
        summary.rows.append(Row(made.name, "test", shown["auc"], counts, shown["tpr"], shown["fpr"]))
        summary.lines.append(str(read))
    if model:
        save_model(networks, made, kept)
    progress.conclude(summary)
    progress.console.print(lineage(made, lambda name, run_id: f"{name} ({run_id})"), soft_wrap=True)
    progress.console.print(f"run {kept.run_id}: {kept.artifacts}", soft_wrap=True)
    if model:
        progress.console.print(f"to keep it: python -m experiments.register {kept.run_id} --name NAME", soft_wrap=True)


if __name__ == "__main__":
    run(app)
