"""A frozen model on other data, or others' scores: `python -m experiments.evaluate MODEL --dataset D --root R`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.cli import Verb, run, verb
from experiments.data_options import checked_recipe, option, with_data

if TYPE_CHECKING:
    from experiments.display import Display
    from mammo_lightning.recipe import Recipe
    from mammo_lightning.reports import Summary
    from mammo_lightning.tracking.journal import RunJournal

app = verb()
Elsewhere = "Predictions made elsewhere"


@app.command(cls=Verb)
@with_data
def evaluate(
    model: Annotated[str | None, typer.Argument(help="A run's id, a study's name, NAME@ALIAS or NAME/VERSION.")] = None,
    positive_is: Annotated[
        str | None, option("The dataset's positive class, where the model's has another name and means the same.")
    ] = None,
    mlruns: Annotated[Path | None, option("Where everything is kept (default: mlruns).")] = None,
    tracking_uri: Annotated[str | None, option("An MLflow server instead of the local database.")] = None,
    predictions: Annotated[
        Path | None, option("Instead of a model, a csv: image,patient,label and p_<class> or score.", Elsewhere)
    ] = None,
    threshold: Annotated[float | None, option("A score that reaches it is called positive.", Elsewhere)] = None,
    operating_point: Annotated[
        str | None, option("Without it, across the folds in the csv: youden, spec0.80 (default) ...", Elsewhere)
    ] = None,
    level: Annotated[str | None, option("patch (a row; default), view, breast, exam or patient.", Elsewhere)] = None,
    ranks: Annotated[bool, option("Scores are no probabilities: only their order counts.", Elsewhere)] = False,
    name: Annotated[str | None, option("What the run is called (default: as the file is).", Elsewhere)] = None,
    *,
    data: dict[str, Any],
) -> None:
    """Judge a finished model, or predictions made elsewhere, and keep that as a run like any other."""
    from mammo_lightning.errors import SettingsError

    if model is None and predictions is None:
        raise SettingsError("what is to be judged? Pass MODEL with --dataset and --root, or --predictions scores.csv")
    if model is not None and predictions is not None:
        raise SettingsError(f"MODEL {model!r} and --predictions '{predictions}' are judged one by one; leave one out")
    if threshold is not None and operating_point is not None:
        raise SettingsError(
            f"--threshold {threshold:g} is the operating point, and --operating-point {operating_point!r} would choose "
            "another one; pass one of the two"
        )
    checked = checked_recipe(None, mlruns=mlruns, tracking_uri=tracking_uri, **data)

    from experiments.display import Display
    from mammo_lightning.opening import writable
    from mammo_lightning.tracking.journal import Journal
    from mammo_lightning.tracking.publish import ENOUGH, Publisher, check_uri, default_uri

    given = {"threshold": threshold, "operating_point": operating_point, "level": level, "name": name}
    with Display() as progress:
        if predictions is None:
            if wrong := [key for key, value in given.items() if value is not None] + ["ranks"] * ranks:
                raise SettingsError(f"--{wrong[0].replace('_', '-')} is for --predictions; the model's own is frozen")
            if "dataset" not in data:
                raise SettingsError("on which images? Pass --dataset and --root")
        checked = checked.model_copy(update={"mlruns": writable(checked.mlruns)})
        uri = checked.tracking_uri or default_uri(checked.mlruns)
        check_uri(uri)
        if model is not None:
            summary, kept = _judged(model, checked, positive_is, progress, sized="size" in data)
        else:
            assert predictions is not None
            summary, kept = _taken(predictions, checked, given, ranks=ranks, named="dataset" in data)
        progress.conclude(summary)
        progress.console.print(f"run {kept.run_id}: {kept.artifacts}", soft_wrap=True)
    Publisher(Journal(checked.mlruns), uri, checked.mlruns).close(ENOUGH)


def _judged(
    model: str, recipe: Recipe, positive_is: str | None, progress: Display, *, sized: bool
) -> tuple[Summary, RunJournal]:
    from mammo_lightning.scoring.loading import find_servable

    servable, about = find_servable(model, recipe.mlruns, recipe.tracking_uri)

    from mammo_lightning.opening import open_dataset  # seconds, hence after the name
    from mammo_lightning.scoring.external import External, evaluate

    if not sized and servable.about.reading.size is not None:  # as the images it was trained on were
        recipe = recipe.model_copy(update={"size": servable.about.reading.size})
    external = External(servable, about, open_dataset(recipe, progress), progress)
    external.check(positive_is)
    return evaluate(external, recipe.mlruns, about={"leaky": about.get("leaky", "false")})


def _taken(
    path: Path, recipe: Recipe, given: dict[str, Any], *, ranks: bool, named: bool
) -> tuple[Summary, RunJournal]:
    from mammo_lightning.evaluation.thresholds import parse
    from mammo_lightning.recipe import make_recipe
    from mammo_lightning.registry import DATASETS
    from mammo_lightning.scoring.outside import read_outside
    from mammo_lightning.scoring.outside_run import Wish, keep_outside, named_after, named_level

    name = make_recipe({"name": given["name"]}).name if given["name"] else named_after(path)
    rule = given["operating_point"] or "spec0.80"
    parse(rule)
    known = {"dataset": recipe.dataset, "domain": DATASETS.get(recipe.dataset).domain} if named else {}
    wish = Wish(
        name=name,
        level=named_level(given["level"] or "patch"),
        rule=rule,
        threshold=given["threshold"],
        exhaustive=recipe.sampling == "exhaustive",
        **known,
    )
    outside = read_outside(path, positive=recipe.positive, ranks=ranks)
    return keep_outside(path, outside, wish, mlruns=recipe.mlruns)


if __name__ == "__main__":
    run(app)
