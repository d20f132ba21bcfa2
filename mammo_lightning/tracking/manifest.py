"""What is written beside the weights of a served ensemble, and how it is read back: as data that may be damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mammo_lightning.errors import DataError
from mammo_lightning.types import Level

MANIFEST, TRAINED_ON = "servable.json", "trained_on.npy"
Positive = Annotated[int, Field(gt=0, le=2**16)]


class Reading(BaseModel):
    """How a file becomes the pixels that the members take, as it was when they were trained."""

    model_config = ConfigDict(extra="ignore")

    dataset: str = ""
    #: names the images of that dataset, whatever they are called or labelled
    source: str = ""
    domain: Literal["mammography", "histology"] = "mammography"
    #: DICOM files are whole mammograms to be stood up, taken as they are stored, or no patches that could be scored
    dicom: Literal["whole", "stored", "refused"] = "stored"
    #: side that images were resized to; None where they must have the size already
    size: Positive | None = None
    #: smaller images are filled up by repeating their edge, as patches cut off at the border of a slide are
    padded: bool = False
    synthetic: bool = False


class MemberAbout(BaseModel):
    """A member: the numbers of the folders of its fits, and a calibrator for each."""

    name: str
    fits: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    calibrators: list[dict[str, Any]]

    @model_validator(mode="after")
    def _one_each(self) -> MemberAbout:
        if len(self.fits) != len(self.calibrators):
            raise ValueError(f"{len(self.fits)} fits and {len(self.calibrators)} calibrators")
        return self


class Manifest(BaseModel):
    """What is known of a served ensemble beyond its weights."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    classes: tuple[str, str]
    threshold: float
    scale: float = Field(gt=0)
    dtype: Literal["uint8", "uint16", "float32"]
    shape: tuple[Positive, Positive, Positive]
    members: list[MemberAbout] = Field(min_length=1)
    combiner: dict[str, Any]
    reading: Reading = Reading()
    spacing_mm: float | None = None
    rule: str = ""
    level: Level = Level.patch
    run: str = ""
    #: the frozen threshold of each level
    points: dict[Level, float] = {}

    @model_validator(mode="before")
    @classmethod
    def _of_one_member(cls, values: Any) -> Any:
        """Before there were members, the fits of one run were all there was, and their mean the score."""
        if isinstance(values, dict) and "members" not in values and isinstance(values.get("calibrators"), list):
            flat = values["calibrators"]
            member = {"name": str(values.get("run", "")), "fits": list(range(len(flat))), "calibrators": flat}
            kept = {name: value for name, value in values.items() if name != "calibrators"}
            return {**kept, "members": [member], "combiner": {"rule": "mean", "weights": [1.0]}}
        return values

    @model_validator(mode="after")
    def _threshold_of_its_level(self) -> Manifest:
        self.points.setdefault(self.level, self.threshold)
        return self


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a served model; what is damaged or foreign is one line."""
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(f"no {MANIFEST} in '{folder}'; expected the folder of a served model")
    try:
        return Manifest.model_validate(json.loads(path.read_bytes()))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its content"
        why = f"{where}: {first['msg'].removeprefix('Value error, ')}"
    except (OSError, ValueError, RecursionError):
        why = "it is no JSON"
    raise DataError(f"'{path}' is damaged or of another program ({why}); copy the model again")
