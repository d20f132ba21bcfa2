"""A run of predictions made elsewhere: every statistic works on it, and what cannot be verified is said."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from mammo_lightning import record
from mammo_lightning.errors import SettingsError, one_of
from mammo_lightning.evaluation import curves
from mammo_lightning.evaluation.statistics import Estimate, intervals, mean_fold_auc_interval
from mammo_lightning.evaluation.thresholds import choose
from mammo_lightning.final import Decide, at_points, decide_by
from mammo_lightning.reports import Row, Summary
from mammo_lightning.scoring.outside import SPLITS, Outside
from mammo_lightning.tracking.files import file_digest
from mammo_lightning.tracking.journal import Journal, RunJournal
from mammo_lightning.types import Kind, Level, OperatingPoint, Predictions, digest, levels_of

#: what can be told of scores that only rank, and where nothing was decided
RANKING = ("auc", "ap", "pauc")
DECIDED = ("tpr", "fpr", "accuracy", "balanced_accuracy", "precision", "recall", "f1", "mcc")
LONGEST = 48  # characters of a name
JUDGED_ON = {"val": "out of fold, as they say", "test": "test, as they say", "external": "external, as they say"}


@dataclass(frozen=True)
class Wish:
    """How the rows are to be judged."""

    name: str
    level: Level = Level.patch
    rule: str = "spec0.80"
    threshold: float | None = None
    exhaustive: bool = False
    #: the dataset that the images are of, and its domain, as somebody says
    dataset: str = "elsewhere"
    domain: str = ""


def keep_outside(path: Path, outside: Outside, wish: Wish, *, mlruns: Path) -> tuple[Summary, RunJournal]:
    """Make a run of kind `external` of a csv that `read_outside` read.

    Args:
        path: The csv; the run is named by its content and the wish, so that the same command is the same run.
        outside: What it says.
        wish: How it is to be judged.
        mlruns: The tracking folder.
    """
    check_threshold(outside, wish.threshold)
    levels = judged_levels(outside.tables, wish.level, exhaustive=wish.exhaustive)
    levels = levels if wish.threshold is None else [wish.level]
    run = Journal(mlruns).run(f"external-{wish.name}-{digest(file_digest(path), outside.span, wish)[:8]}")
    decides, origin = decisions(outside, wish, levels)
    unverified = [*(["folds"] if outside.folds else []), "training images"]
    unverified += ["threshold"] if origin == "given" else []
    decided = {"operating_point": wish.rule if origin != "given" else "given"} if decides else {}
    run.begin(
        kind=Kind.external,
        name=wish.name,
        study="",
        parent=None,
        experiment=wish.dataset,
        tags={
            **decided,
            **({"domain": wish.domain} if wish.domain else {}),
            "dataset": wish.dataset,
            "synthetic": "false",
            "leaky": "false",
            "level": str(wish.level),
            "threshold_origin": origin,
            "scores": "ranks" if outside.span else "probabilities",
            "unverified": ", ".join(unverified),
        },
    )
    summary = Summary(wish.name, run.run_id, decided.get("operating_point", "no threshold"), kind="external")
    judged = Judged(levels)
    with record.ending(run):
        run.dataset(wish.dataset, file_digest(path), str(path))
        run.write("given.csv", path.read_bytes())
        for split in (name for name in SPLITS if name in outside.tables):
            table, title = outside.tables[split], f"{wish.name}, {split}"
            decide = decides.get(split)
            if decide is None or outside.span:
                found = record_ranking(
                    run, table, split=split, judged=judged, level=wish.level, decide=decide, title=title
                )
            else:
                found = record.record(
                    run, table, split=split, level=wish.level, data=judged, decide=decide, title=title
                )
            counts = table.at(wish.level).counts()
            rates = [found.get(name) for name in ("tpr", "fpr")] if decide else [None, None]
            summary.rows.append(Row(wish.name, JUDGED_ON[split], found["auc"], counts, *rates))
        points = frozen(outside, wish, levels)
        if points:
            record.record_point(run, {str(level): point for level, point in points.items()}, origin)
        summary.lines += _lines(outside, wish, origin, unverified)
        run.write("summary.md", summary.markdown())
        first = summary.rows[0]
        run.note(f"predictions made elsewhere: AUC {first.auc} · {first.counts}\n\n{summary.markdown()}")
    return summary, run


def check_threshold(outside: Outside, threshold: float | None) -> None:
    """Refuse a threshold that no score could be compared with."""
    if threshold is None:
        return
    if not math.isfinite(threshold):
        raise SettingsError(f"--threshold {threshold:g} is no finite number; pass one that scores are compared with")
    if outside.span is None and not 0.0 <= threshold <= 1.0:
        raise SettingsError(
            f"--threshold {threshold:g} is no probability, and the scores are; pass one from 0 to 1, or --ranks with "
            "scores of another scale"
        )


def decisions(outside: Outside, wish: Wish, levels: list[Level]) -> tuple[dict[str, Decide], str]:
    """How the rows of each split are decided, and where the threshold comes from; nothing where none can be had."""
    points = frozen(outside, wish, levels)
    if wish.threshold is not None:
        return dict.fromkeys(outside.tables, at_points(points)), "given"
    if outside.folds < 2:
        return {}, "none"
    frozen_ones = {split: at_points(points) for split in outside.tables if split != "val"}
    return {"val": decide_by(wish.rule), **frozen_ones}, "cross-fitted"


def frozen(outside: Outside, wish: Wish, levels: list[Level]) -> dict[Level, OperatingPoint]:
    """One threshold a level: what was given, or what out-of-fold rows say."""
    if wish.threshold is not None:
        return {level: OperatingPoint(outside.scaled(wish.threshold), level, "given") for level in levels}
    if outside.folds < 2:
        return {}
    return {level: choose(outside.tables["val"], wish.rule, level) for level in levels}


def _lines(outside: Outside, wish: Wish, origin: str, unverified: list[str]) -> list[str]:
    lines = [f"warning: unverified: {', '.join(unverified)}; these predictions were made elsewhere"]
    if origin == "none":
        lines.append("no threshold: pass --threshold, or a column fold to choose one across; only ranking is told")
    if outside.span:
        low, high = outside.span
        lines.append(f"scores from {low:g} to {high:g} only rank: nothing is told of calibration")
        if wish.threshold is not None and not low < wish.threshold <= high:
            called = "all are" if wish.threshold <= low else "none is"
            lines.append(f"warning: the threshold {wish.threshold:g} separates no scores: {called} called positive")
    if wish.threshold is not None and wish.exhaustive:
        lines.append(f"the threshold was given at level {wish.level}: no other level is judged")
    return lines


@dataclass(frozen=True)
class Judged:
    """What is known of images that nobody has opened here."""

    levels: list[Level]
    synthetic: bool = False


def named_after(path: Path) -> str:
    """A name for a run, made of a file's: what it could not be called stands as a dash."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("._-")[:LONGEST]
    if not name:
        raise SettingsError(f"no run can be called as '{path.name}' is; pass --name, of letters and digits")
    return name


def named_level(word: str) -> Level:
    """The level of that name."""
    if word not in list(Level):
        raise SettingsError(f"no level {word!r}; {one_of(Level)}")
    return Level(word)


def judged_levels(tables: dict[str, Predictions], level: Level, *, exhaustive: bool) -> list[Level]:
    """The levels that mean something in every split; above a row only where the rows tile what they stand for."""
    known = [set(levels_of(table.frame)) if exhaustive else {Level.patch} for table in tables.values()]
    found = [each for each in Level if all(each in one for one in known)]
    if level not in found:
        more = "" if exhaustive else "; pass --sampling exhaustive if its rows are all that there is of a patient"
        raise SettingsError(f"level {str(level)!r} cannot be judged from the csv, only {', '.join(found)}{more}")
    return found


def record_ranking(
    run: RunJournal,
    table: Predictions,
    *,
    split: str,
    judged: Judged,
    level: Level,
    decide: Decide | None,
    title: str,
) -> dict[str, Estimate]:
    """What can be told of scores that are no probabilities, or of which none is called positive; the level's."""
    record.keep(run, split, table)
    suffix, kept = "" if split == "val" else f"_{split}", {}
    for each in judged.levels:
        at = table.at(each)
        decisions, threshold = decide(table, each) if decide else (at.scores >= 0.5, None)
        names = RANKING if decide is None else (*RANKING, *DECIDED)
        estimates = intervals(at, decisions, replicates=record.REPLICATES)
        found = {name: estimates[name] for name in names}
        if split == "val" and len(set(at.folds)) > 1:
            found["auc"] = mean_fold_auc_interval(at, replicates=record.REPLICATES)
        for name, one in found.items():
            bounds = {"": one.value, "_lo": one.lo, "_hi": one.hi}
            run.metrics({f"{split}_{each}/{name}{end}": value for end, value in bounds.items()})
            if each is level and name in record.HEADLINE:
                run.metrics({f"{split}_{name}{end}": value for end, value in bounds.items()})
        if each is not level:
            continue
        kept = found
        if threshold is not None:
            run.metrics({"threshold" if split == "val" else f"{split}_threshold": threshold})
        false_rate, true_rate = curves.roc_points(at)
        run.series(f"roc{suffix}/fpr", false_rate.tolist())
        run.series(f"roc{suffix}/tpr", true_rate.tolist())
        marked = decisions if decide else None
        png = curves.png(curves.roc_figure(at, marked, title=title, estimate=found["auc"]), dpi=record.DPI)
        run.write(f"figures/roc{suffix}.png", png)
        run.image(f"roc{suffix}", png)
    return kept
