"""Which models of finished studies can go: not those that the registry, a final or an ensemble names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mammo_lightning.errors import TrackingError
from mammo_lightning.health import images
from mammo_lightning.health.stores import sqlite_file
from mammo_lightning.health.survey import Survey
from mammo_lightning.retention import CHECKPOINTS, free, losers, models, remove, weigh
from mammo_lightning.tracking.journal import Journal, RunJournal
from mammo_lightning.tracking.store import Store, public
from mammo_lightning.types import Kind, Outcome


@dataclass(frozen=True)
class Plan:
    """What one finished study can spare."""

    study: RunJournal
    trials: int
    losing: list[RunJournal]
    #: weights of losing reference fits
    fits: list[Path]
    #: losers that stay, and why
    protected: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        fits = f" and {len(self.fits)} reference fits" if self.fits else ""
        return f"study {self.study.run_id}: models of {len(self.losing)} of {self.trials} trials{fits}"

    @property
    def size(self) -> int:
        """Bytes that would be freed."""
        return sum(weigh(models(run)) for run in self.losing) + weigh(self.fits)

    def carry_out(self) -> int:
        """Free it; returns bytes. A study that was taken up again meanwhile is left alone."""
        if self.study.outcome is not Outcome.completed:
            return 0
        size = sum(free(run) for run in self.losing) + weigh(self.fits)
        remove(self.fits)
        return size


def plan(journal: Journal, keep: int, protected: Mapping[str, str]) -> list[Plan]:
    """What every finished study can spare.

    Args:
        journal: The runs.
        keep: How many of the best trials of each study stay.
        protected: Runs that something else names, and what.
    """
    runs = [journal.run(name) for name in journal.runs()]
    trials: dict[str, list[RunJournal]] = {}
    chosen: dict[str, set[str]] = {}
    studies = []
    for run in runs:
        kind, parent = run.identity["kind"], str(run.identity["parent"])
        if kind == Kind.study and run.outcome is Outcome.completed:
            studies.append(run)
        elif kind == Kind.trial:
            trials.setdefault(parent, []).append(run)
        elif kind == Kind.reference:
            chosen.setdefault(parent, set()).add(run.run_id.rpartition(".reference-")[2])
    plans = []
    for study in studies:
        mine = trials.get(study.run_id, [])
        values = {run.run_id: worth for run in mine if (worth := _objectives(run))}
        behind = set(losers(values, keep))
        behind |= {run.run_id for run in mine if run.outcome in (Outcome.pruned, Outcome.failed)}
        held = {name: protected[name] for name in sorted(behind & protected.keys())}
        losing = [run for run in mine if run.run_id in behind - held.keys() and models(run)]
        fits = list(_spare_references(study.folder / "reference", chosen.get(study.run_id, set())))
        plans.append(Plan(study, len(mine), losing, fits, held))
    return plans


def named(journal: Journal) -> dict[str, str]:
    """Runs that a final or an ensemble in the journal is made of, and which."""
    found: dict[str, str] = {}
    for name in journal.runs():
        run = journal.run(name)
        kind, parent = run.identity["kind"], run.identity["parent"]
        if kind == Kind.final:
            found[name] = "a final"
            if slot := run.read_tags().get("chosen"):
                found[f"{parent}.{slot}"] = f"in final {name}"
        elif kind == Kind.ensemble:
            found[name] = "an ensemble"
            found |= dict.fromkeys(_members(run), f"in ensemble {name}")
    return found


def registered(mlruns: Path, uris: Iterable[str]) -> dict[str, str]:
    """Runs that a registered model comes from, and which; every store the runs were published to must be asked."""
    stores = [Store(uri, mlruns) for uri in uris]
    asked = {f"published-{store.key}.jsonl" for store in stores}
    others = [path for path in (mlruns / "journal").glob("published-*.jsonl") if path.name not in asked]
    if others:
        raise TrackingError(
            f"runs were also published to {len(others)} other tracking store(s), whose registry may name them, so "
            f"nothing is freed. Pass --tracking-uri for each, or remove '{others[0]}' if that store is no more"
        )
    found: dict[str, str] = {}
    for store in stores:
        try:
            found |= _registered(store)
        except Exception as error:  # whatever keeps the answer away, a model without an answer is not deleted
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise TrackingError(
                f"{public(store.uri)} cannot be asked which models are registered ({first[:200]}), so nothing is "
                "freed. Start it, or pass --tracking-uri"
            ) from error
    return found


def _registered(store: Store) -> dict[str, str]:
    if (file := sqlite_file(store.uri)) is not None and not file.exists():  # asking would make an empty one
        raise FileNotFoundError(f"no '{file.name}'")
    found: dict[str, str] = {}
    origins: dict[str, str] = {}
    token: str | None = None
    while True:
        page = store.client.search_model_versions(max_results=1000, page_token=token)
        for version in page:
            for name in _origins(store.client, version, origins):
                found[name] = f"registered as {version.name} version {version.version}"
        token = page.token
        if not token:
            return found


def _origins(client: Any, version: Any, known: dict[str, str]) -> set[str]:
    """The journal ids behind a model version: of its run, and of its logged model's."""
    source = str(version.source or "")
    model = version.model_id or (source.removeprefix("models:/") if source.startswith("models:/m-") else None)
    found = set()
    for what, key in (("run", version.run_id), ("model", model)):
        if not key:
            continue
        if key not in known:
            known[key] = _journal_of(client, what, key)
        found.add(known[key].partition("/")[0])
    return found - {""}


def _journal_of(client: Any, what: str, key: str) -> str:
    try:
        tags = client.get_run(key).data.tags if what == "run" else client.get_logged_model(key).tags
    except Exception as error:
        if getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST":  # removed for good, and its files with it
            return ""
        raise
    return str(tags.get("journal", ""))


def _members(run: RunJournal) -> list[str]:
    path = run.artifacts / "manifest.json"
    if not path.exists() and run.outcome in (Outcome.failed, Outcome.interrupted):
        return []
    try:
        return [str(member["run"]) for member in json.loads(path.read_text())["members"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrackingError(
            f"'{path}' does not say which runs ensemble {run.run_id} is made of ({type(error).__name__}), so nothing "
            "is freed. Wait until it is made, or mend or remove it"
        ) from None


def _objectives(run: RunJournal) -> tuple[float, ...]:
    """The objectives of a completed trial; empty where none were journaled."""
    metrics = run.read_metrics()
    if run.outcome is not Outcome.completed or "objective" not in metrics:
        return ()
    return (metrics["objective"], *([metrics["objective_fpr"]] if "objective_fpr" in metrics else []))


def _spare_references(folder: Path, chosen: set[str]) -> Iterator[Path]:
    """Weights of reference trials that were not chosen; where no choice is known, none."""
    nested = [path for path in sorted(folder.glob("o*")) if path.is_dir()]
    places = [(folder, chosen)] if not nested else [(path, _names(path / "outer")) for path in nested]
    for place, kept in places:
        tried = _names(place) - {"outer"}
        if not kept & tried:
            continue
        for name in sorted(tried - kept):
            for pattern in CHECKPOINTS:
                yield from sorted((place / name).rglob(pattern))


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*") if path.is_dir()}


def unseen_caches(survey: Survey) -> list[Path]:
    """Folders of decoded images that no run has been trained on: none of its dataset digests names them."""
    from pyarrow import parquet

    named: dict[str, dict[str, tuple[str, ...]]] = {}
    for run in survey.runs.values():
        for event in run.words:
            if event["event"] == "dataset":
                classes = named.setdefault(event["name"], {})
                table = survey.journal.run(run.run_id).artifacts / "predictions.parquet"
                if not classes.get(event["digest"]):
                    columns = parquet.read_schema(table).names if table.is_file() else []
                    classes[event["digest"]] = tuple(name[2:] for name in columns if name.startswith("p_"))
    unseen = []
    for folder in images.folders(survey.mlruns):
        known = named.get(folder.name.rpartition("-")[0], {})
        if not all(known.values()):  # a run that has predicted nothing yet may stand on this one
            continue
        try:
            digests = {images.fingerprint(folder, classes) for classes in set(known.values())}
        except (OSError, ValueError, KeyError):  # damaged: not for here to say
            continue
        if not digests & known.keys():
            unseen.append(folder)
    return unseen
