"""Options that say which images are meant: the same for every verb that opens a dataset."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.cli import named_values

if TYPE_CHECKING:
    from mammo_lightning.recipe import Recipe

DATA = "Data"
RECIPES = Path(__file__).parent / "recipes"


def option(text: str, panel: str | None = None, **more: Any) -> Any:
    """An option of which nothing is passed on unless it is given."""
    return typer.Option(help=text, rich_help_panel=panel, show_default=False, **more)


def _data(kind: Any, text: str, **more: Any) -> Any:
    return Annotated[kind | None, option(text, DATA, **more)]


#: the datasets' options that have a flag of their own; any other keyword of a dataset's constructor is `--data`
OPTIONS = {
    "dataset": _data(str, "synthetic, microcalc, cbis_ddsm, idc, inbreast, mias, screening, table or folder."),
    "root": _data(Path, "Where the images are."),
    "size": _data(int, "Resize all images to N x N."),
    "limit": _data(int, "A quick look at about N images, never at a test split."),
    "skip_unreadable": _data(bool, "Leave unreadable images out."),
    "task": _data(
        str,
        "cbis_ddsm: mass_calc, benign_malignant, five_class; mias: normal_abnormal, benign_malignant; "
        "inbreast: 'birads 1-2 vs 4-6', 'birads>=4', mass.",
    ),
    "crop": _data(str, "cbis_ddsm: field (so many millimetres; default) or bbox."),
    "field_mm": _data(float, "cbis_ddsm, mias: side of a patch in millimetres."),
    "pairs": _data(bool, "cbis_ddsm: each abnormality with its baseline patch as a second channel."),
    "without_callback": _data(str, "cbis_ddsm: benign (default) or drop what was benign without callback."),
    "borders": _data(str, "idc: pad (default) or drop patches cut off at a border."),
    "patient_from": _data(str, "folder: regular expression, first group = patient."),
    "table": _data(Path, "table: csv with path,patient,label and subgroups; screening: csv with a column birads."),
    "positive": _data(str, "table, folder: the positive class."),
    "sampling": _data(str, "table, folder: exhaustive if the patches tile each view."),
    "patients": _data(int, "synthetic: how many patients."),
    "trap": _data(str, "synthetic: patient, source, duplicate or label-noise."),
    "data": _data(list[str], "Any other option of a dataset.", metavar="NAME=VALUE"),
}


#: options of the form NAME=VALUE, given any number of times
NAMED = ("data", "search", "set")


def with_data(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with these options; those that were given reach it in its parameter `data`."""
    declared = inspect.signature(verb, eval_str=True)
    own = [each for each in declared.parameters.values() if each.name != "data"]
    kind = inspect.Parameter.KEYWORD_ONLY
    added = [inspect.Parameter(name, kind, default=None, annotation=given) for name, given in OPTIONS.items()]

    @functools.wraps(verb)
    def called(**values: Any) -> None:
        verb(data={name: value for name in OPTIONS if (value := values.pop(name)) is not None}, **values)

    signature = declared.replace(parameters=[*own, *added])
    called.__signature__ = signature  # type: ignore[attr-defined]
    called.__annotations__ = {each.name: each.annotation for each in signature.parameters.values()}
    return called


def checked_recipe(recipe: Path | None, **values: Any) -> Recipe:
    """What the recipe says and the options override; an option that is None was not given."""
    from mammo_lightning.recipe import make_recipe, read_recipe

    keys = read_recipe(recipe, RECIPES) if recipe else {}
    given = {name: value for name, value in values.items() if value is not None}
    for name in NAMED:
        if name in given:
            given[name] = {**keys.get(name, {}), **named_values(given[name], f"--{name}")}
    return make_recipe({**keys, **given})
