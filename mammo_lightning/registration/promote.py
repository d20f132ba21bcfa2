"""Who takes the place of the champion: the one that is shown to be no worse, on the same test rows."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mammo_lightning.errors import DataError, MammoError, SettingsError, TrackingError
from mammo_lightning.evaluation.noninferiority import Verdict, noninferior
from mammo_lightning.evaluation.resampling import Estimate
from mammo_lightning.owner import Owner
from mammo_lightning.progress import Progress
from mammo_lightning.registration.register import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    PROMOTED,
    Done,
    check_margin,
    describe,
    fixed_margin,
)
from mammo_lightning.runs import Runs, Scored, known_runs
from mammo_lightning.tracking import lines
from mammo_lightning.tracking.batch import user
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.tracking.registry import ModelRegistry
from mammo_lightning.tracking.store import default_uri
from mammo_lightning.tracking.versions import LONGEST, Version, check_names
from mammo_lightning.types import Kind, Predictions

LOG = "promotions.jsonl"
HISTORY = "## Promotions"
HEAD = "Each version is one run of mammo_lightning with its model card; the champion is what to use."
LONG = 500  # characters of a reason


class Refused(MammoError):
    """A promotion that the figures do not bear out."""

    def __init__(self, what: str, reasons: list[str]) -> None:
        super().__init__(f"{what}: {'; '.join(reasons)}")
        self.what, self.reasons = what, reasons


def promote(
    word: str,
    *,
    mlruns: Path,
    uri: str,
    to: str = CHAMPION,
    source: str | None = None,
    margin: float | None = None,
    override: str | None = None,
    progress: Progress | None = None,
) -> Done:
    """Give a version the place of the champion if it is shown to be no worse.

    Args:
        word: `NAME`, whose alias `source` is meant, or `NAME/3`.
        mlruns: The tracking folder with the runs and the log.
        uri: The store whose registry is meant.
        to: The alias that moves.
        source: The alias of the challenger.
        margin: As it was fixed for this name, or to fix it now.
        override: Why it is to be done whatever the figures say.
        progress: Hears of runs that are fetched from the store.
    """
    name, slash, number = word.partition("/")
    check_names(name, to)
    if slash and (source or not number.isdecimal()):
        raise SettingsError(f"{word!r} is NAME/VERSION; give a version number, or leave it out and pass --from ALIAS")
    override = override if override is None else " ".join(override.split())
    if override is not None and not 0 < len(override) <= LONG:
        raise SettingsError(f"--override of {len(override)} characters; give a reason of 1 to {LONG}, it is recorded")
    if margin is not None:
        check_margin(margin)
    if not slash and (source or CHALLENGER) == to:
        raise SettingsError(f"--from {to} and --to {to} are the same; name the challenger's alias, or NAME/VERSION")
    if uri == default_uri(mlruns):
        Runs(mlruns)  # nothing was made here, and nothing could be fetched
    registry = ModelRegistry(Journal(mlruns), uri, mlruns)
    with registry.alone():
        version = registry.version(name, int(number)) if slash else registry.at(name, source or CHALLENGER)
        if not version.run_id:
            raise TrackingError(
                f"{version} was not registered from here; register its run: `python -m experiments.register RUN "
                f"--name {name}`"
            )
        fixed = fixed_margin(registry, name, margin)
        log = Log(registry, name, to)
        before = registry.aliases(name).get(to)
        champion = registry.version(name, before) if before else None
        both = [each.run_id for each in (version, champion) if each and each.run_id]
        runs = known_runs(mlruns, uri, both, progress or Progress())
        if before == version.version:
            return _finish(registry, runs, version, to, log.last(version.version), again=True)
        entry = log.last(version.version)
        # one that was written down but not carried out is carried out; one that was is over, wherever the alias is now
        if (
            entry is None
            or entry["from_version"] != before
            or version.tags.get(f"{PROMOTED}{to}") == sentence(entry, to)
        ):
            entry = _judged(runs, version, champion, fixed, override=override)
            log.append(entry)
        if entry["outcome"] == "refused":
            raise Refused(f"{version} does not become {to}", [*entry["reasons"], *entry["said"]])
        registry.point(version, to)
        return _finish(registry, runs, version, to, entry, again=False)


class Log:
    """The promotions of one model to one alias, in a file that is only appended to."""

    def __init__(self, registry: ModelRegistry, name: str, to: str) -> None:
        self.path = registry.mlruns / LOG
        self._who = {"store": registry.store.key, "name": name, "to": to}

    def last(self, version: int) -> dict[str, Any] | None:
        """The last promotion, if it is that of this version."""
        found = [entry for line in lines.read(self.path)[0] if (entry := lines.parse(line))]
        mine = [each for each in found if self._who.items() <= each.items() and each.get("outcome") == "promoted"]
        return mine[-1] if mine and mine[-1]["version"] == version else None

    def append(self, entry: dict[str, Any]) -> None:
        """Write it down, for good."""
        lines.append(self.path, json.dumps({**self._who, **entry}).encode() + b"\n", flush=True)


def _judged(
    runs: Runs, version: Version, champion: Version | None, margin: float, *, override: str | None
) -> dict[str, Any]:
    """What the log says of a promotion: the comparison, what speaks against it, and what came of it."""
    reasons, verdict = judge(runs, version, champion, margin)
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "version": version.version,
        "run": version.run_id,
        "from_version": champion.version if champion else None,
        "from_run": champion.run_id if champion else None,
        "answer": verdict.answer if verdict else ("no comparison" if champion else "no champion before"),
        "tpr": asdict(verdict.tpr) if verdict else None,
        "tnr": asdict(verdict.tnr) if verdict else None,
        "power": verdict.power if verdict else None,
        "said": list(verdict.lines) if verdict else [],
        "margin": margin,
        "reasons": reasons,
        "override": override if reasons else None,
        "outcome": "refused" if reasons and override is None else "promoted",
        "who": f"{user()}@{Owner.me().machine}",
    }


def judge(runs: Runs, version: Version, champion: Version | None, margin: float) -> tuple[list[str], Verdict | None]:
    """What speaks against a promotion, and the comparison where there can be one."""
    try:
        challenger = runs.get(version.run_id)
        reasons = _against(challenger)
    except MammoError as error:
        return [f"{version} cannot be judged: {error}"], None
    if champion is None or not challenger.has("test"):
        return reasons, None
    if not champion.run_id:
        return [*reasons, f"{champion} was not registered from here, so nothing is known of it"], None
    try:
        verdict = _compared(challenger, runs.get(champion.run_id), margin)
    except MammoError as error:
        return [*reasons, f"{version} and {champion} cannot be compared: {error}"], None
    if verdict.answer != "shown":
        few = "; too few test patients to tell, two equally good models would hardly pass" * (
            verdict.answer == "underpowered"
        )
        reasons.append(f"non-inferiority to {champion} is {verdict.answer} (margin {margin:g}){few}")
    return reasons, verdict


def _against(scored: Scored) -> list[str]:
    found = []
    if scored.synthetic:
        found.append("SYNTHETIC: its images were generated")
    if scored.leaky:
        found.append("LEAKY: patients stood on both sides of its folds")
    if unverified := scored.tags.get("unverified"):
        found.append(f"unverified: {unverified}")
    if limit := scored.tags.get("quick_look"):
        found.append(f"a quick look: it has seen {limit} images of a larger dataset")
    if not scored.has("test"):
        how = (
            "give its `ensemble` command again with --test"
            if scored.kind is Kind.ensemble
            else "register the final of its study, by the study's name"
        )
        found.append(f"no test figures: run '{scored.run_id}' has not read the test split; {how}")
    return found


def _compared(challenger: Scored, champion: Scored, margin: float) -> Verdict:
    """Both at their frozen thresholds, on the same test rows."""
    level = challenger.level
    if champion.level is not level:
        raise DataError(f"they are judged at other levels, {level} and {champion.level}")
    decided = []
    for each in (challenger, champion):
        if level not in each.points:
            raise DataError(f"run '{each.run_id}' has no frozen threshold at level {level}")
        rows = _ordered(each.predictions("test").at(level))
        # not `apply`, which would aggregate (and hence order) these rows once more
        decided.append((rows, rows.scores >= each.points[level].threshold))
    (first, ours), (second, theirs) = decided
    for column in ("image", "label", "group"):
        mine, other = (list(rows.frame[column].astype(str)) for rows in (first, second))
        if mine != other:
            odd = sorted(set(mine) ^ set(other))[:1] or [
                image for image, a, b in zip(first.frame["image"], mine, other, strict=True) if a != b
            ]
            raise DataError(f"their test rows differ ({len(first)} and {len(second)} rows; {column} of {odd[0]!r})")
    seen = [set(each.predictions("test").frame["image"]) for each in (challenger, champion)]
    if apart := seen[0] ^ seen[1]:  # of the same patients
        raise DataError(f"their test images differ ({len(apart)} stand in one of them only, as {min(apart)!r})")
    return noninferior(first.labels, first.groups, ours, theirs, margin=margin)


def _ordered(predictions: Predictions) -> Predictions:
    return Predictions(predictions.frame.sort_values("image", kind="stable").reset_index(drop=True))


def _finish(
    registry: ModelRegistry, runs: Runs, version: Version, to: str, entry: dict[str, Any] | None, *, again: bool
) -> Done:
    """All that follows a moved alias; done twice it changes nothing."""
    is_now = f"{version} {'is' if again else 'becomes'} {to}{' already' if again else ''}"
    if entry is None:
        return Done(version, [f"{is_now}, and not by a promotion in '{registry.mlruns / LOG}'"])
    former = entry["from_version"]
    there = {each.version: each for each in registry.versions(version.name)}
    if former in there:  # else somebody deleted it
        registry.point(there[former], f"{PREVIOUS}{to}")
    told = sentence(entry, to)
    _history(registry, version.name, told)
    with suppress(DataError):  # what the run kept is damaged, which an override may well be for
        if scored := _known(runs, version):
            describe(registry, version, scored, told)
    registry.tag(version, {f"{PROMOTED}{to}": told})  # last: it says that all is done
    kept = f"; version {former} is {PREVIOUS}{to}" if former is not None else ""
    said = [*entry["said"], *(f"against it: {reason}" for reason in entry["reasons"])]
    if entry["override"]:
        said.append(f"override: {entry['override']}")
    return Done(version, [*said, f"{is_now} ({entry['answer']}){kept}", f"page: {version.page}"])


def _known(runs: Runs, version: Version) -> Scored | None:
    try:
        return runs.get(version.run_id)
    except TrackingError:  # registered from another tracking folder
        return None


def sentence(entry: dict[str, Any], to: str) -> str:
    """One promotion in one line."""
    former = f", was version {entry['from_version']}" if entry["from_version"] is not None else ""
    told = [f"{entry['time']} version {entry['version']} to {to}{former}: {entry['answer']}"]
    for key, word in (("tpr", "sensitivity"), ("tnr", "specificity")):
        if entry[key]:
            found = Estimate(**entry[key])
            bounds = f"({found.lo:+.3f} to {found.hi:+.3f}), power {entry['power'][key]:.2f}"
            told.append(f"{word} {found.value:+.3f} {bounds}")
    told.append(f"margin {entry['margin']:g}")
    if entry["override"]:
        told.append(f"override: {entry['override']} (against: {'; '.join(entry['reasons'])})")
    return "; ".join([*told, f"by {entry['who']}"])


def _history(registry: ModelRegistry, name: str, told: str) -> None:
    """The promotions on the page of a model, the newest first; what others wrote above them stays."""
    above, _, below = (registry.model(name).description or "").partition(HISTORY)
    known = [line for line in below.strip().splitlines() if line.startswith("- ")]
    entries = known if f"- {told}" in known else [f"- {told}", *known]
    text = "\n\n".join([above.strip() or HEAD, HISTORY, ""])
    while entries and len(text) + len("\n".join(entries)) > LONGEST:
        entries = entries[:-1]
    registry.describe_model(name, text + "\n".join(entries))
