"""Ensembles from logged predictions alone: chosen, fitted and calibrated on other folds than they are judged on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mammo_lightning import record
from mammo_lightning.ensembles.members import BY_HAND, Pool
from mammo_lightning.errors import SettingsError
from mammo_lightning.evaluation.combining import (
    RULES,
    UNIFORM,
    Combiner,
    fit_combiner,
    majority_threshold,
    with_calibration,
)
from mammo_lightning.evaluation.statistics import Estimate, intervals, mean_fold_auc_interval, paired_difference
from mammo_lightning.evaluation.thresholds import choose, parse
from mammo_lightning.final import decide_by
from mammo_lightning.reports import Row, Summary, difference_line
from mammo_lightning.runs import Scored
from mammo_lightning.tracking.journal import Journal, RunJournal
from mammo_lightning.tracking.links import link
from mammo_lightning.types import Kind, Level, OperatingPoint, Predictions, digest

MANIFEST = "manifest.json"
FITTED = ("weighted", "stacking", "greedy")
SINGLE = "single"  # the best member alone, chosen by other folds: what an ensemble has to beat


@dataclass(frozen=True)
class Wish:
    """What ensemble is asked for."""

    rule: str
    count: int  # members, or for greedy draws
    by: str = "val_auc"
    calibration: str | None = None
    level: Level = Level.patch
    operating_point: str = ""

    def __post_init__(self) -> None:
        if self.rule not in (*RULES, UNIFORM, SINGLE):
            raise SettingsError(f"--rule {self.rule!r} is not known; known: {', '.join(RULES)}")
        if self.count < 1 or (self.count < 2 and self.rule not in ("greedy", SINGLE)):
            raise SettingsError(f"--members {self.count} is no ensemble; pass 2 or more")
        if self.rule == "majority" and self.calibration and not self.operating_point:
            raise SettingsError(
                "--calibration of a majority makes a probability of the votes, and more than half of them is no "
                "threshold of it; pass --operating-point too, or leave --calibration out"
            )

    @property
    def point_rule(self) -> str:
        """How the operating point is chosen; a majority is more than half of the votes."""
        if not self.operating_point and self.rule == "majority":
            return f"fixed{majority_threshold(self.count):.6f}".rstrip("0")
        return self.operating_point or "youden"


@dataclass(frozen=True)
class Ensemble:
    """Members of a pool and how they are combined, with predictions in which no row judged itself."""

    wish: Wish
    pool: Pool
    chosen: tuple[int, ...]
    combiner: Combiner
    predictions: Predictions  # cross-fitted

    @property
    def members(self) -> list[Scored]:
        """The chosen runs."""
        return [self.pool.members[each] for each in self.chosen]

    @property
    def name(self) -> str:
        """What it is called among its members."""
        return " ".join(filter(None, (f"e{len(self.chosen)}", self.wish.rule, self.wish.calibration)))

    @property
    def identity(self) -> str:
        """Names what it was made of and how: the same wish of the same predictions is the same ensemble."""
        wish = self.wish
        how = (wish.rule, wish.count, wish.by, wish.calibration, wish.level, wish.point_rule, self.pool.split)
        made = sorted(zip((each.run_id for each in self.pool.members), self.pool.digests, strict=True))
        return digest(*how, *made)

    def manifest(self) -> dict[str, Any]:
        """What stands in the artifact: rule, weights, members by journal id and digest."""
        weights = self.combiner.weights
        return {
            "wish": {**self.wish.__dict__, "operating_point": self.wish.point_rule},
            "combiner": self.combiner.as_dict(),
            "split": self.pool.split,
            "folds": self.pool.members[0].tags.get("folds", ""),
            "candidates": len(self.pool.members),
            "members": [
                {
                    "run": self.pool.members[each].run_id,
                    "digest": self.pool.digests[each],
                    "name": self.pool.members[each].name,
                    "weight": weight,
                }
                for each, weight in zip(self.chosen, weights, strict=True)
            ],
        }

    def points(self, levels: Sequence[Level]) -> dict[Level, OperatingPoint]:
        """The threshold at each level, chosen on all cross-fitted predictions."""
        return {level: choose(self.predictions, self.wish.point_rule, level) for level in levels}


def assemble(pool: Pool, wish: Wish) -> Ensemble:
    """Choose, fit and calibrate without each fold in turn, then once with all."""
    parse(wish.point_rule)
    if wish.rule != "greedy" and wish.count > len(pool.members):
        raise SettingsError(f"--members {wish.count} of {len(pool.members)} candidates; pass at most that many")
    folds = pool.rows.folds
    if len(pool.folds) < 2:
        raise SettingsError(
            "predictions of one fold: nothing could be fitted on other rows than it is judged on. Combine studies of "
            "3 folds or more (--scheme cv), or nested ones with --reserve"
        )
    if len(pool.folds) < 3 and pool.split == "val" and (wish.rule == "stacking" or wish.calibration):
        raise SettingsError(
            f"{'--rule stacking' if wish.rule == 'stacking' else '--calibration'} of 2 folds: members of one cannot "
            "be calibrated by the other and fitted on it too. Pass --rule mean, or tune with 3 folds or more"
        )
    scores = np.empty(len(folds))
    for fold in pool.folds:
        chosen, combiner = _fitted(pool, wish, fold)
        held = folds == fold
        scores[held] = combiner(pool.scores(chosen, fold)[:, held])
    chosen, combiner = _fitted(pool, wish, None)
    kept = [place for place, weight in enumerate(combiner.weights) if weight > 0 or wish.rule != "greedy"]
    combiner = replace(combiner, weights=tuple(combiner.weights[place] for place in kept))
    return Ensemble(wish, pool, tuple(chosen[place] for place in kept), combiner, pool.rows.with_scores(scores))


def _fitted(pool: Pool, wish: Wish, without: int | None) -> tuple[list[int], Combiner]:
    """Members and combiner by the rows of all folds but one."""
    seen = pool.rows.folds != without
    labels, folds = pool.rows.labels[seen], pool.rows.folds[seen]
    everyone = list(range(len(pool.members)))
    whole = wish.rule == "greedy" or wish.count == len(everyone)
    chosen = everyone if whole else pool.ranked(wish.by, wish.level, without)[: wish.count]
    scores = pool.scores(chosen, without)[:, seen]
    rule = UNIFORM if wish.rule == SINGLE else wish.rule
    combiner = fit_combiner(rule, scores, labels, folds, draws=wish.count)
    return chosen, with_calibration(combiner, wish.calibration, scores, labels)


@dataclass(frozen=True)
class Beside:
    """What an ensemble is shown beside, on the same rows."""

    key: str  # uniform, single, reference
    what: str
    predictions: Predictions
    point_rule: str


def controls(ensemble: Ensemble, references: Sequence[Scored] = ()) -> list[Beside]:
    """As many members weighing alike, the best one alone (both chosen without the fold they score), the reference."""
    wish, pool = ensemble.wish, ensemble.pool
    count = min(len(pool.members), wish.count) if wish.rule != "greedy" else len(pool.members)
    by = "val_auc" if wish.by == BY_HAND else wish.by
    plain = replace(wish, operating_point=wish.operating_point or "youden", calibration=None, by=by)
    several = max(2, count)
    best = {pool.ranked(by, wish.level, without)[0] for without in (*pool.folds, None)}
    name = f" ({pool.members[best.pop()].run.identity['name']})" if len(best) == 1 else ""
    found = []
    for key, count_of, what in (
        (UNIFORM, several, f"uniform mean of {several} (control)"),
        (SINGLE, 1, f"best member by other folds{name}"),
    ):
        control = assemble(pool, replace(plain, rule=key, count=count_of))
        found.append(Beside(key, what, control.predictions, plain.point_rule))
    for each in references:
        if each.has(pool.split):
            table = each.predictions(pool.split)
            found.append(Beside("reference", each.run.identity["name"], table, plain.point_rule))
    return found


def row(what: str, predictions: Predictions, rule: str, *, level: Level, split: str) -> Row:
    """A line of the table."""
    at = predictions.at(level)
    decisions, _ = decide_by(rule)(predictions, level)
    found = intervals(at, decisions, replicates=record.REPLICATES)
    if split == "reserve":
        return Row(what, "reserved patients", found["auc"], at.counts(), found["tpr"], found["fpr"])
    auc = mean_fold_auc_interval(at, replicates=record.REPLICATES)
    return Row(what, "out of fold", auc, at.counts(), found["tpr"], found["fpr"])


def gain(ensemble: Ensemble, other: Predictions) -> Estimate:
    """The ensemble's AUC less another's of the same rows, with its interval."""
    level = ensemble.wish.level
    statistic = "mean_fold_auc" if ensemble.pool.split == "val" else "auc"
    return paired_difference(ensemble.predictions.at(level), other.at(level), statistic=statistic)


def record_ensemble(journal: Journal, ensemble: Ensemble, beside: Sequence[Beside]) -> tuple[RunJournal, Summary]:
    """Journal an ensemble as a run of its own; said again it changes nothing."""
    first, wish, split = ensemble.pool.members[0], ensemble.wish, ensemble.pool.split
    run = _begun(journal, ensemble)
    summary = Summary(ensemble.name, run.run_id, wish.point_rule, first.synthetic, kind="ensemble")
    for each in beside:
        summary.rows.append(row(each.what, each.predictions, each.point_rule, level=wish.level, split=split))
    mine = row(ensemble.name, ensemble.predictions, wish.point_rule, level=wish.level, split=split)
    summary.rows.append(mine)
    with record.ending(run):
        if event := _dataset(first):
            run.dataset(event["name"], event["digest"], event["source"], split=event["split"])
        run.params({"rule": wish.rule, "members": len(ensemble.chosen), "candidates": len(ensemble.pool.members)})
        run.params({"by": wish.by, "calibration": wish.calibration or "none"})
        points = ensemble.points(first.levels)
        record.record_point(run, {str(level): point for level, point in points.items()}, "carried")
        run.write(MANIFEST, json.dumps(ensemble.manifest(), indent=2))
        record.record(
            run,
            ensemble.predictions,
            split="val",
            level=wish.level,
            data=first,
            decide=decide_by(wish.point_rule),
            title=f"{run.identity['study']} {ensemble.name}, {mine.judged_on}",
            by_fold=split == "val",
        )
        for each in beside:
            found = gain(ensemble, each.predictions)
            run.metrics({f"gain_over_{each.key}": found.value})
            run.metrics({f"gain_over_{each.key}_lo": found.lo, f"gain_over_{each.key}_hi": found.hi})
            if not np.array_equal(each.predictions.scores, ensemble.predictions.scores):  # a mean is its own control
                summary.lines.append(difference_line(ensemble.name, found, each.what))
        summary.lines += _remarks(ensemble, len(summary.lines))
        run.write("summary.md", summary.markdown())
        run.note(f"{ensemble.name}: AUC {mine.auc} · {mine.counts}\n\n{lineage(ensemble)}\n\n{summary.markdown()}")
    return run, summary


def _remarks(ensemble: Ensemble, differences: int) -> list[str]:
    """What a reader must know before believing a difference."""
    wish, found = ensemble.wish, []
    if differences > 1:
        found.append(f"each of these {differences} intervals is at 95 % by itself; compare adjusts for their number")
    if wish.by == BY_HAND:
        found.append("members were named by hand: if these figures were looked at before, the choice is in them")
    if wish.level is not Level.patch and (wish.calibration or wish.rule in FITTED):
        found.append(f"what is fitted is fitted on patches; the figures are by {wish.level}")
    return found


def lineage(ensemble: Ensemble, named: Callable[[str, str], str] = link) -> str:
    """The members by name and weight, in a note each a link."""
    members = zip(ensemble.members, ensemble.combiner.weights, strict=True)
    told = [f"{named(each.run.identity['name'], each.run_id)} {weight:.2f}" for each, weight in members]
    return f"Members and weights: {', '.join(told)}"


def _begun(journal: Journal, ensemble: Ensemble) -> RunJournal:
    first, wish = ensemble.pool.members[0], ensemble.wish
    studies = list(dict.fromkeys(each.run.identity["study"] for each in ensemble.members))
    parents = {each.study.run_id for each in ensemble.members if each.study}
    run = journal.run(f"ensemble-{ensemble.identity}")
    shared = ("dataset", "folds", "leaky", "synthetic", "domain", "quick_look")
    run.begin(
        kind=Kind.ensemble,
        name=ensemble.name,
        study=studies[0],
        parent=parents.pop() if len(parents) == 1 else None,
        experiment=first.run.identity["experiment"],
        tags={name: first.tags[name] for name in shared if name in first.tags}
        | {"rule": wish.rule, "level": str(wish.level), "operating_point": wish.point_rule}
        | {"members": " ".join(each.run_id for each in ensemble.members), "studies": " ".join(studies)}
        | {"classifier": "ensemble", "val_selected": "false", "judged_on": ensemble.pool.split},
    )
    return run


def _dataset(member: Scored) -> dict[str, Any] | None:
    """What the member's study said of its data."""
    source = member.study or member.run
    events = [event for event in source.since(0)[0] if event["event"] == "dataset"]
    return events[-1] if events else None
