"""Look at a dataset before anything is trained on it: `python -m experiments.audit --dataset D --root R`.

With `--waterfall`, look at a finished run instead: how its AUC falls as it is judged more strictly.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.cli import Verb, run, stop_at_interrupt, verb
from experiments.data_options import checked_recipe, option, with_data

if TYPE_CHECKING:
    from rich.console import Console

    from mammo_lightning.auditing.look import Look
    from mammo_lightning.evaluation.steps import Step

app = verb()
SHOWN = 30  # rows of a table at the terminal


@app.command(cls=Verb)
@with_data
def audit(
    recipe: Annotated[
        Path | None,
        typer.Argument(help="A recipe whose dataset is meant; with --waterfall a run (id, STUDY/t001) or a study."),
    ] = None,
    waterfall: Annotated[bool, option("How the AUC of a run falls as it is judged more strictly.")] = False,
    folds: Annotated[int | None, option("Folds (default: 5).")] = None,
    fold_seed: Annotated[int | None, option("Seed of the folds.")] = None,
    mlruns: Annotated[Path | None, option("Where everything is kept (default: mlruns).")] = None,
    tracking_uri: Annotated[str | None, option("An MLflow server instead of the local database.")] = None,
    *,
    data: dict[str, Any],
) -> None:
    """Say what is wrong with a dataset: leaks, duplicates, shortcuts. Exit code 0 whatever is found."""
    if waterfall:
        return _waterfall(recipe, mlruns, tracking_uri, {"folds": folds, "fold_seed": fold_seed, **data})
    checked = checked_recipe(recipe, folds=folds, fold_seed=fold_seed, mlruns=mlruns, tracking_uri=tracking_uri, **data)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else a run ended by it would seem to run

    from rich.text import Text

    from experiments.display import Display
    from mammo_lightning.auditing.keep import keep_look
    from mammo_lightning.auditing.look import looked_at
    from mammo_lightning.opening import writable
    from mammo_lightning.tracking.journal import Journal
    from mammo_lightning.tracking.publish import ENOUGH, Publisher, check_uri, default_uri

    checked = checked.model_copy(update={"mlruns": writable(checked.mlruns)})
    uri = checked.tracking_uri or default_uri(checked.mlruns)
    check_uri(uri)
    with Display() as progress:
        look = looked_at(checked, progress)
        _show(look, progress.console)
        kept = keep_look(look, checked)
        progress.console.print(Text(f"tables and contact sheets: {kept.artifacts}"), soft_wrap=True)
        Publisher(Journal(checked.mlruns), uri, checked.mlruns).close(ENOUGH)


def _waterfall(word: Path | None, mlruns: Path | None, tracking_uri: str | None, given: dict[str, Any]) -> None:
    """Make, show and publish the waterfall of a run; stopped, the same command goes on."""
    from mammo_lightning.errors import SettingsError

    if word is None:
        raise SettingsError("--waterfall of which run? Pass its id, STUDY/t001, or the name of a study")
    if wrong := [key for key, value in given.items() if value is not None and key != "root"]:
        raise SettingsError(
            f"--{wrong[0].replace('_', '-')} means nothing with --waterfall: the run's study says it. Pass --root alone"
        )
    from rich.text import Text

    from experiments.display import Display
    from mammo_lightning.progress import Interrupted
    from mammo_lightning.runs import Runs
    from mammo_lightning.tracking.publish import ENOUGH, Publisher, check_uri, default_uri
    from mammo_lightning.waterfall.run import keep_waterfall

    found = Runs(mlruns or Path("mlruns"))
    uri = check_uri(tracking_uri or default_uri(found.mlruns))
    with Display() as progress:
        stop_at_interrupt(progress)
        try:
            kept, steps, lines = keep_waterfall(found, str(word), given.get("root"), progress)
        except (Interrupted, SystemExit):  # Lightning turns the second Ctrl-C into an exit
            raise KeyboardInterrupt from None
        _show_steps(kept.identity["name"], steps, lines, progress.console)
        progress.console.print(Text(f"figure: {kept.artifacts / 'waterfall.png'}"), soft_wrap=True)
    Publisher(found.journal, uri, found.mlruns).close(ENOUGH)


def _show_steps(title: str, steps: list[Step], lines: list[str], console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    heads = ("step", "AUC (95 % CI)", "difference (95 % CI)", "taken away", "counts")
    named = Text(title, "table.title")
    drawn = Table(*heads, title=named, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for step in steps:
        words = (step.title, str(step.auc or "-"), step.change, step.taken, step.counts)
        drawn.add_row(*map(Text, words), style="yellow" if step.lost else "")
    console.print(drawn)
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def _show(look: Look, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    from mammo_lightning.auditing.look import warns
    from mammo_lightning.auditing.telling import captions, readable

    titles = {
        "counts": f"{look.title}: counts",
        "formats": "sizes and depths, as they stand in the files",
        "shortcuts": "shortcut table: what a trivial predictor reaches alone, by patient, out of fold (chance 0.5)",
        "controls": "controls: the reference classifier through the same folds",
    }
    for name, table in look.tables.items():
        drawn = Table(title=Text(titles[name], "table.title"), title_justify="left", header_style="bold")
        shown = readable(table)
        for column in shown:
            drawn.add_column(Text(str(column)), justify="right" if shown[column].dtype.kind in "if" else "left")
        warned = table.get("shortcut", [False] * len(table))
        for row, warn in list(zip(shown.itertuples(index=False), warned, strict=True))[:SHOWN]:
            drawn.add_row(*(Text(str(value)) for value in row), style="yellow" if warn else "")
        drawn.caption = "; ".join(captions(name, len(shown) - SHOWN)) or None
        console.print(drawn)
    for line in look.lines:
        console.print(Text(line, style="yellow" if warns(line) else ""), soft_wrap=True)
    if not look.warnings:
        console.print("no leak, duplicate, label conflict or shortcut found; see the control lines too")


if __name__ == "__main__":
    run(app)
