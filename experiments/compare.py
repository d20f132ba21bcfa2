"""Runs side by side, as a table and one HTML file: `python -m experiments.compare RUN|STUDY... [--reference RUN]`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.cli import Verb, run, verb
from experiments.data_options import option

if TYPE_CHECKING:
    from rich.console import Console

    from mammo_lightning.comparison.compare import Comparison

app = verb()


@app.command(cls=Verb)
def compare(
    runs: Annotated[list[str], typer.Argument(help="Ids of runs, STUDY/t003, or names of studies (their final).")],
    level: Annotated[
        str | None, option("patch, lesion, view, breast, exam or patient (default: the runs' own).")
    ] = None,
    reference: Annotated[
        str | None, option("The run all are tested against: an id, a study, or the name of a reference as linear.")
    ] = None,
    test: Annotated[bool, typer.Option("--test", help="Figures of the test split, of runs that have read it.")] = False,
    gallery: Annotated[
        bool | None, option("The hardest images (default: yes; with --test no, since it counts as a read).")
    ] = None,
    prevalence: Annotated[float | None, option("Of the decision curve, as 0.006 (default: that of the rows).")] = None,
    published: Annotated[
        list[str] | None, option("A point from elsewhere in the ROC, any number of times.", metavar="NAME:FPR,TPR")
    ] = None,
    root: Annotated[Path | None, option("Where the images are now, if not where the study found them.")] = None,
    out: Annotated[Path | None, option("Where the page is written too (default: compare.html).")] = None,
    mlruns: Annotated[Path, typer.Option(help="The tracking folder of the runs.")] = Path("mlruns"),
    tracking_uri: Annotated[
        str | None, option("An MLflow server instead of the local database; runs that only it has are fetched.")
    ] = None,
    storage: Annotated[str | None, option("What machines share (as of tune): reads are counted there too.")] = None,
) -> None:
    """Compare finished runs: figures with intervals, curves, subgroups, and paired tests against a reference."""
    from mammo_lightning.comparison.options import check_prevalence, points_of, reference_of
    from mammo_lightning.runs import known_runs
    from mammo_lightning.tracking.publish import check_uri, default_uri

    points, stated = points_of(published or []), check_prevalence(prevalence)
    place = _place(out or Path("compare.html"))
    uri = check_uri(tracking_uri) if tracking_uri else default_uri(mlruns)

    from experiments.display import Display

    with Display() as progress:
        known = known_runs(mlruns, uri, [*runs, *([reference] if reference else [])], progress)
        found = known.named(runs)

        from mammo_lightning.comparison.compare import compare as compared  # seconds, hence after the names
        from mammo_lightning.comparison.kept import keep
        from mammo_lightning.comparison.pictures import gallery_of
        from mammo_lightning.page.html import page

        split = "test" if test else "val"
        comparison = compared(found, reference=reference_of(known, found, reference), level=level, split=split)
        progress.say("drawing the page")
        wanted = gallery or (gallery is None and not test)
        hard = gallery_of(comparison, mlruns, root, progress, storage) if wanted else None
        text = page(
            comparison,
            prevalence=stated,
            published=points,
            hard=hard.rows if hard else None,
            pictures=hard.pictures if hard else None,
            about=f"Made from logged predictions of {', '.join(each.run.run_id for each in comparison.entries)}.",
        )
        written = _written(place, text)
        kept = keep(comparison, text, mlruns, uri, prevalence=stated, published=points)
        _show(comparison, [*(hard.lines if hard else ()), f"page: {written}", f"run: {kept}"], progress.console)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if value == value else "–"


def _place(out: Path) -> Path:
    """Where the page goes; asked before anything is computed, and never in the place of what is no page of ours."""
    from mammo_lightning.errors import SettingsError
    from mammo_lightning.page.html import is_page

    if not out.resolve().parent.is_dir() or out.is_dir():
        raise SettingsError(f"--out '{out}' cannot be written to; name a file in a folder that is there")
    if out.exists() and not is_page(out):
        raise SettingsError(f"--out '{out}' is there and no page of a comparison; name another file")
    return out.resolve()


def _written(path: Path, text: str) -> Path:
    from mammo_lightning.errors import SettingsError
    from mammo_lightning.tracking.files import write_whole

    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise SettingsError(
            f"--out '{path}' cannot be written to ({error.strerror}); name a file in a folder"
        ) from None
    return path


def _show(comparison: Comparison, lines: list[str], console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    from experiments.display import figure

    folded = all(entry.folded for entry in comparison.entries)
    title = f"{comparison.dataset}, level {comparison.level}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("run", overflow="fold", min_width=20)
    wide = console.width >= 115
    heads = (f"{'mean fold ' if folded else ''}AUC (95 % CI)", "TPR", "FPR", "slope", "ECE", "counts")
    for head in heads:
        table.add_column(head, no_wrap=True)
    for number, entry in enumerate(comparison.entries):
        row = comparison.table.iloc[number]
        rates = [comparison.estimate(number, name) for name in ("tpr", "fpr")]
        told = [figure(rate, wide=wide) for rate in rates]
        cells = (_number(row["calibration_slope"], 2), _number(row["ece"], 3), entry.table.counts())
        name = Text(entry.name + (" (reference)" if entry.reference else ""))
        table.add_row(name, figure(comparison.estimate(number, "auc"), wide=wide), *told, *cells)
    console.print(table)
    console.print(Text(comparison.sentence, style="bold"), soft_wrap=True)
    spread = [f"AUC of {each}" for each in dict.fromkeys(comparison.table["spread"]) if each]
    for line in (*comparison.lines[1:], *spread, *lines):
        console.print(Text(line), soft_wrap=True)


if __name__ == "__main__":
    run(app)
