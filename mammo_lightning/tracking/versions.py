"""What a registered version is called, and what it can be made from."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mammo_lightning.errors import SettingsError, TrackingError
from mammo_lightning.tracking.files import tree_digest
from mammo_lightning.tracking.journal import BORROWED, RunJournal
from mammo_lightning.tracking.state import Event

OWNER = {"owner": "mammo_lightning"}
#: on a version: which servable model it is; the same one is registered once
MODEL = "journal_model"
#: characters of a description that every database of MLflow holds
LONGEST = 5000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", re.ASCII)
_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", re.ASCII)
_RESERVED = re.compile(r"latest|v?\d+", re.IGNORECASE)


@dataclass(frozen=True)
class Version:
    """One version of a registered model."""

    name: str
    version: int
    tags: dict[str, str]
    description: str
    #: ids in MLflow of the run it is of
    mlflow_run: str
    #: address of its page
    page: str

    @property
    def run_id(self) -> str:
        """The journal id of its run; empty for one that was not registered from here."""
        return self.tags.get("journal", "") if OWNER.items() <= self.tags.items() else ""

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


def check_names(name: str, alias: str | None = None) -> None:
    """Refuse what could not be said as NAME/3 or NAME@ALIAS."""
    if not _NAME.fullmatch(name):
        raise SettingsError(f"{name!r} is no model name; use letters, digits, '.', '_' and '-', at most 100")
    if alias is not None and (not _ALIAS.fullmatch(alias) or _RESERVED.fullmatch(alias)):
        raise SettingsError(
            f"{alias!r} is no alias; use letters, digits, '_' and '-', and neither 'latest' nor a version number"
        )


def servable(run: RunJournal) -> Event:
    """What a run's journal says of the servable model it keeps; a run that has none is refused."""
    said = [event for event in run.since(0)[0] if event["event"] == "model" and run.holds(event)]
    kept = [event for event in said if (run.folder / event["folder"] / "MLmodel").is_file()]
    if not kept:
        why = "only finals, ensembles and the best trials of a study have one; name the study for its final"
        if run.folder.parent.name == BORROWED:
            why = "it was made on another machine, and is used by its name in the registry: NAME@ALIAS"
        elif said:
            why = "its files are gone; name the study for its final"
        raise TrackingError(f"run '{run.run_id}' has no servable model here: {why}")
    folder = run.folder / kept[-1]["folder"]
    if tree_digest(folder) != kept[-1]["digest"]:
        raise TrackingError(
            f"the model in '{folder}' is not what run '{run.run_id}' wrote; restore it, or give the command that made "
            "it again"
        )
    return kept[-1]
