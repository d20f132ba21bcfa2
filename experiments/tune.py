"""Run a study, or continue it: `python -m experiments.tune [recipe.toml] [options]`; without arguments, the demo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.cli import Verb, run, stop_at_interrupt, verb
from experiments.data_options import RECIPES, checked_recipe, option, with_data

app = verb()
Protocol = "Protocol"
Machines = "Machines"
DEMO = RECIPES / "demo.toml"


@app.command(cls=Verb)
@with_data
def tune(
    recipe: Annotated[Path | None, typer.Argument(help="A recipe with the same keys; options override it.")] = None,
    name: Annotated[str | None, option("Name of the study; the same command continues it.")] = None,
    classifier: Annotated[str | None, option("hyper (default), scratch, linear ...")] = None,
    trials: Annotated[int | None, option("Trials of the study in all.")] = None,
    epochs: Annotated[int | None, option("Epochs of a fit, at most.")] = None,
    search: Annotated[
        list[str] | None, option("depth=1,3,5 or dropout=0:0.5 or learning_rate=1e-5:1e-2:log.", metavar="NAME=SPACE")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A fixed setting, for instance init=20.", metavar="NAME=VALUE", show_default=False),
    ] = None,
    objective: Annotated[
        str | None, option("val_auc, val_pauc, val_macro_auc (finer classes), tpr@fpr0.2, or tpr,fpr (Pareto).")
    ] = None,
    prune: Annotated[bool | None, option("Stop hopeless trials early (default), or not.")] = None,
    scheme: Annotated[str | None, option("cv (default), holdout or nested.", Protocol)] = None,
    folds: Annotated[int | None, option("Folds.", Protocol)] = None,
    level: Annotated[str | None, option("patch (default), view or patient.", Protocol)] = None,
    test: Annotated[float | None, option("Share of groups for the test split.", Protocol)] = None,
    reserve: Annotated[float | None, option("Share of groups kept for the final threshold.", Protocol)] = None,
    operating_point: Annotated[str | None, option("spec0.80 (default), sens0.95, youden, fixed0.5.", Protocol)] = None,
    straddle: Annotated[str | None, option("drop (default) or refuse patients in both parts.", Protocol)] = None,
    group: Annotated[str | None, option("patient (default); image only to show the leak.", Protocol)] = None,
    seed: Annotated[int | None, option("Seed of the study.", Protocol)] = None,
    fold_seed: Annotated[int | None, option("Seed of the folds.", Protocol)] = None,
    truth: Annotated[int | None, option("synthetic: fresh patients for the true AUC.", Protocol)] = None,
    mlruns: Annotated[Path | None, option("Where everything is kept (default: mlruns).")] = None,
    tracking_uri: Annotated[str | None, option("An MLflow server instead of the local database.", Machines)] = None,
    storage: Annotated[
        str | None, option("A database of searches that machines share: postgresql://...", Machines)
    ] = None,
    workers: Annotated[int | None, option("Processes that train (default: what the machine takes).", Machines)] = None,
    engine: Annotated[str | None, option("processes (default), or ray: an existing cluster.", Machines)] = None,
    accelerator: Annotated[str | None, option("auto (default), cpu, gpu or mps.", Machines)] = None,
    devices: Annotated[str | None, option("Which GPUs are leased to workers: 2, -1 (all) or 0,3.", Machines)] = None,
    gpu_share: Annotated[float | None, option("Part of a GPU that one worker gets (default: 1).", Machines)] = None,
    precision: Annotated[str | None, option("auto (default), 32-true, bf16-mixed or 16-mixed.", Machines)] = None,
    keep_best: Annotated[int | None, option("Keep models of the N best trials (default: 16).")] = None,
    fresh: Annotated[bool | None, option("Start the study anew under its name.")] = None,
    *,
    data: dict[str, Any],
) -> None:
    """Tune a classifier on mammograms; every run goes into MLflow."""
    own = {key: value for key, value in locals().items() if key not in ("recipe", "data", "set_")}
    given = {key for key, value in own.items() if value is not None} | data.keys()
    if recipe is None and set_ is None and not given - {"mlruns", "fresh", "trials", "epochs", "name"}:
        recipe = DEMO
    checked = checked_recipe(recipe, **own, **data, set=set_)
    _warm_up(checked)

    from experiments.display import Display

    with Display() as progress:
        stop_at_interrupt(progress)
        progress.say("loading")
        from mammo_lightning.progress import Interrupted
        from mammo_lightning.study import run_study
        from mammo_lightning.trials import StudyBug

        try:
            summary = run_study(checked, progress)
        except (Interrupted, SystemExit):  # Lightning turns the second Ctrl-C into an exit
            raise KeyboardInterrupt from None
        except StudyBug as bug:  # not bad input: where it happened is what a developer needs
            print(f"{bug}\na bug stopped the study; once it is mended, the same command continues", file=sys.stderr)
            raise typer.Exit(1) from None
    from mammo_lightning.tracking.store import way_in

    progress.conclude(summary, way_in(checked.tracking_uri, checked.mlruns))


def _warm_up(recipe: Any) -> None:
    """Workers import for as long as this process does: at the same time is sooner."""
    from mammo_lightning.engine.warm import warm_up
    from mammo_lightning.hardware import cores

    if recipe.engine == "processes" and recipe.workers != 1 and (recipe.workers or cores()) > 1:
        warm_up()


if __name__ == "__main__":
    run(app)
