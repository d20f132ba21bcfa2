"""Options that say which images are meant: the same for every verb that opens a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

DATA = "Data"


def option(text: str, panel: str | None = None, **more: Any) -> Any:
    """An option of which nothing is passed on unless it is given."""
    return typer.Option(help=text, rich_help_panel=panel, show_default=False, **more)


Dataset = Annotated[
    str | None, option("synthetic, microcalc, cbis_ddsm, idc, inbreast, mias, screening, table or folder.", DATA)
]
Root = Annotated[Path | None, option("Where the images are.", DATA)]
Size = Annotated[int | None, option("Resize all images to N x N.", DATA)]
Limit = Annotated[int | None, option("A quick look at about N images, never at a test split.", DATA)]
SkipUnreadable = Annotated[bool | None, option("Leave unreadable images out.", DATA)]
Task = Annotated[
    str | None,
    option(
        "cbis_ddsm: mass_calc, benign_malignant, five_class; mias: normal_abnormal, benign_malignant; "
        "inbreast: 'birads 1-2 vs 4-6', 'birads>=4', mass.",
        DATA,
    ),
]
Crop = Annotated[str | None, option("cbis_ddsm: field (so many millimetres; default) or bbox.", DATA)]
FieldMm = Annotated[float | None, option("cbis_ddsm, mias: side of a patch in millimetres.", DATA)]
Pairs = Annotated[bool | None, option("cbis_ddsm: each abnormality with its baseline patch as a second channel.", DATA)]
WithoutCallback = Annotated[
    str | None, option("cbis_ddsm: benign (default) or drop what was benign without callback.", DATA)
]
Borders = Annotated[str | None, option("idc: pad (default) or drop patches cut off at a border.", DATA)]
PatientFrom = Annotated[str | None, option("folder: regular expression, first group = patient.", DATA)]
Table = Annotated[
    Path | None,
    option("table: csv with path,patient,label and subgroups; screening: csv with a column birads.", DATA),
]
Positive = Annotated[str | None, option("table, folder: the positive class.", DATA)]
Sampling = Annotated[str | None, option("table, folder: exhaustive if the patches tile each view.", DATA)]
Patients = Annotated[int | None, option("synthetic: how many patients.", DATA)]
Trap = Annotated[str | None, option("synthetic: patient, source, duplicate or label-noise.", DATA)]
