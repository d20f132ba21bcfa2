"""The end of a study: the final predictor, one counted read of the test split, and plain sentences."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from mammo_lightning import record
from mammo_lightning.classifiers import weights
from mammo_lightning.datamodules.folds import TEST
from mammo_lightning.evaluation.statistics import (
    Estimate,
    intervals,
    mean_fold_auc_interval,
    paired_difference,
    selection_corrected,
    within,
)
from mammo_lightning.evaluation.subgroups import varies_within
from mammo_lightning.final import Predictor, at_points, decide_by, make_predictor, pooled, true_auc
from mammo_lightning.ledger import Ledger
from mammo_lightning.progress import Interrupted, Progress
from mammo_lightning.recipe import Recipe
from mammo_lightning.reference import REFERENCE, Reference
from mammo_lightning.reports import Row, Summary, difference_line
from mammo_lightning.scoring.keep import keep_model
from mammo_lightning.space import run_name
from mammo_lightning.tracking.journal import Journal, RunJournal
from mammo_lightning.tracking.serving import Member
from mammo_lightning.tracking.test_reads import TestRead, read_test
from mammo_lightning.training import Fit, Task
from mammo_lightning.trials import Trials
from mammo_lightning.tuning import Goal
from mammo_lightning.types import Kind, Level, OperatingPoint, Predictions, Split
from mammo_lightning.wall import read_shared_test

SERVED = 3
Points = Mapping[Level, OperatingPoint]


@dataclass
class Finish:
    """Turns finished fits into the final run and the summary."""

    task: Task
    goal: Goal
    recipe: Recipe
    journal: Journal
    run: RunJournal
    tags: Mapping[str, str]
    progress: Progress
    reference: tuple[Reference, RunJournal] | None = None
    #: of the storage that machines share
    shared: Ledger | None = None

    def conclude(self, fits: list[Fit], chosen: str, trials: Trials | None = None) -> Summary:
        """Final, tests and sentences; everything here is a function of Predictions but for the test read.

        Args:
            fits: One a fold, of the trial (or of the nested searches' trials) that was chosen.
            chosen: Names the choice.
            trials: The search the choice was made in; None where every fold had its own.
        """
        self._stop_here()
        self.progress.say("final: calibrating the fold models and scoring once")
        summary = Summary(self.recipe.study, self.run.run_id, self.goal.rule, self.task.data.synthetic)
        predictions = pooled([fit.predictions for fit in fits])
        word = "selected" if trials is not None else "nested"
        if self.reference:
            self._row(summary, f"reference ({REFERENCE}, {word})", self.reference[0].fits)
        what = f"best trial {chosen} (selected)" if trials is not None else "outer folds (nested)"
        self._row(summary, what, fits)
        if trials is not None:
            self._corrected(summary, trials, predictions)
        if self.reference:
            theirs = pooled([fit.predictions for fit in self.reference[0].fits]).at(self.goal.level)
            difference = paired_difference(predictions.at(self.goal.level), theirs, statistic="mean_fold_auc")
            summary.lines.append(difference_line(what.partition(" (")[0], difference))
        self._within(summary, predictions)
        self._final(summary, fits, chosen)
        if trials is not None:
            study_metrics(self.run, trials, trials.search.ranked()[0].number)
            self._serve_best(trials)
        self.run.write("summary.md", summary.markdown())
        last = summary.rows[-1]
        head = f"{'SYNTHETIC images · ' if summary.synthetic else ''}{last.what}: AUC {last.auc} · {last.counts}"
        self.run.note(f"{head}\n\n{summary.markdown()}")
        return summary

    def _stop_here(self) -> None:
        """Stop where it was asked for: the same command goes on here, and the test split was not read for nothing."""
        if self.progress.stopping:
            raise Interrupted

    def _row(self, summary: Summary, what: str, fits: list[Fit]) -> None:
        predictions = pooled([fit.predictions for fit in fits])
        at = predictions.at(self.goal.level)
        decide = decide_by(self.goal.rule, fits[0].inner if len(fits) == 1 else None)
        estimates = intervals(at, decide(predictions, self.goal.level)[0], replicates=record.REPLICATES)
        auc = mean_fold_auc_interval(at, replicates=record.REPLICATES) if len(fits) > 1 else estimates["auc"]
        judged = "out of fold" if len(fits) > 1 else "hold-out"
        summary.rows.append(Row(what, judged, auc, at.counts(), estimates["tpr"], estimates["fpr"]))

    def _corrected(self, summary: Summary, trials: Trials, predictions: Predictions) -> None:
        if self.goal.objective != "val_auc":
            summary.lines.append(
                f"no figure is corrected for choosing: the choice was by {self.goal.objective}, not val_auc"
            )
            return
        slots = [trial.number for trial in trials.search.completed()]
        tables = [trials.predictions(slot) for slot in slots]
        at = [table.at(self.goal.level) for table in tables]
        estimate = selection_corrected(at, replicates=500, seed=self.recipe.seed)
        bounds = {"corrected_auc": estimate.value, "corrected_auc_lo": estimate.lo, "corrected_auc_hi": estimate.hi}
        self.run.metrics(bounds)
        counts = predictions.at(self.goal.level).counts()
        summary.rows.append(Row(f"corrected for choosing 1 of {len(slots)}", "out of bag", estimate, counts))

    def _within(self, summary: Summary, predictions: Predictions) -> None:
        for column in self.task.data.subgroups:
            if not 1 < predictions.frame[column].nunique() <= 12 or column in self.task.data.answers:
                continue
            if varies_within(predictions, column, self.goal.level):
                continue
            table = within(predictions.at(self.goal.level), column)
            shown = [f"{value} {cell.auc} ({cell.counts})" for value, cell in table.items() if cell.auc]
            if shown:
                summary.lines.append(f"AUC within {column}: " + "; ".join(shown))

    def _final(self, summary: Summary, fits: list[Fit], chosen: str) -> None:
        name = f"final-{chosen}"
        run = self.journal.run(f"{self.run.run_id}.{name}")
        run.begin(
            kind=Kind.final,
            name=name,
            study=self.recipe.study,
            parent=self.run.run_id,
            experiment=self.task.data.name,
            tags={**self.tags, "chosen": chosen},
        )
        data = self.task.data
        run.dataset(data.name, data.digest, str(self.recipe.root or data.name), split=self.task.splits.digest)
        with record.ending(run):
            predictor = make_predictor(self.task, fits)
            points, origin = predictor.points(self.goal.rule)
            self._keep_reserved(run, predictor)
            settings = [weights.load(fit.folder).settings for fit in fits]
            if all(each == settings[0] for each in settings):  # nested searches may choose differently
                record.record_settings(run, settings[0])
            run.tags({"threshold_origin": origin})
            record.record_point(run, {str(level): point for level, point in points.items()}, origin)
            estimates = record.record(
                run,
                predictor.held_out,
                split="val",
                level=self.goal.level,
                data=data,
                decide=decide_by(self.goal.rule, predictor.inner),
                title=f"{self.recipe.study} {name}, out of fold",
            )
            shown = self._test(summary, run, predictor, points)
            if shown is None:
                counts = predictor.held_out.at(self.goal.level).counts()
                row = Row(
                    "final", "out of fold, no test split", estimates["auc"], counts, estimates["tpr"], estimates["fpr"]
                )
                summary.rows.append(row)
            self._truth(summary, run, predictor, (shown or estimates)["auc"])
            self._serve(run, predictor, points, name)

    def _keep_reserved(self, run: RunJournal, predictor: Predictor) -> None:
        """What the final and the reference say of reserved patients: an ensemble of experts is shown beside them."""
        predictors = {run: predictor}
        if self.reference:
            reference, other = self.reference
            predictors[other] = make_predictor(reference.task, reference.fits)
        for each, scores in predictors.items():
            if (reserved := scores.reserved()) is not None:
                record.keep(each, "reserve", reserved)

    def _truth(self, summary: Summary, run: RunJournal, predictor: Predictor, estimate: Estimate) -> None:
        truth = true_auc(predictor, self.recipe.truth, self.progress.say)
        if truth is None:
            return
        run.metrics({"true_auc": truth})
        inside = "inside" if estimate.lo <= truth <= estimate.hi else "outside"
        fresh = f"{self.recipe.truth:,} fresh patients"
        summary.lines.append(f"truth: AUC {truth:.3f} on {fresh}; the estimate {estimate} has it {inside}")

    def _test(
        self, summary: Summary, run: RunJournal, predictor: Predictor, points: Points
    ) -> dict[str, Estimate] | None:
        splits = self.task.splits
        if not (splits.fold == TEST).any():
            summary.lines.append("no test split: every figure above is of development data")
            return None
        self._stop_here()
        # the reference is read with the final it stands beside: one decision, one read
        beside = f" beside {self.reference[1].run_id}" if self.reference else ""
        who = {"study": self.recipe.study, "run": run.run_id + beside}
        mlruns = self.recipe.mlruns
        read = read_shared_test(self.shared, mlruns, splits, **who) if self.shared else read_test(mlruns, splits, **who)
        if self.reference:
            reference, other = self.reference
            theirs = make_predictor(reference.task, reference.fits)
            self._test_row(summary, other, theirs, theirs.points(self.goal.rule)[0], read, f"reference ({REFERENCE})")
        shown = self._test_row(summary, run, predictor, points, read, "final")
        summary.lines.append(str(read))
        run.tags({"test_reads": str(read.count), "test_split": splits.test_digest})
        return shown

    def _test_row(
        self, summary: Summary, run: RunJournal, predictor: Predictor, points: Points, read: TestRead, what: str
    ) -> dict[str, Estimate]:
        predictions = predictor.predictions(read.rows, Split.test)
        shown = self._record_test(run, predictions, points)
        counts = predictions.at(self.goal.level).counts()
        summary.rows.append(Row(what, "test", shown["auc"], counts, shown["tpr"], shown["fpr"]))
        return shown

    def _record_test(self, run: RunJournal, predictions: Predictions, points: Points) -> dict[str, Estimate]:
        return record.record(
            run,
            predictions,
            split="test",
            level=self.goal.level,
            data=self.task.data,
            decide=at_points(points),
            title=f"{self.recipe.study} {run.identity['name']}, test",
        )

    def _serve_best(self, trials: Trials) -> None:
        for trial in trials.search.ranked()[: min(SERVED, trials.keep)]:
            run = trials.open(trial.number)
            if run.begun() is None:
                continue  # made on another machine, which alone writes to its run
            predictor = make_predictor(self.task, trials.fits(trial.number))
            self._serve(run, predictor, predictor.points(self.goal.rule)[0], f"t{trial.number:03d}")

    def _serve(self, run: RunJournal, predictor: Predictor, points: Points, name: str) -> None:
        member = Member(run.run_id, predictor.folders, [platt.as_dict() for platt in predictor.calibrators])
        keep_model(run, name, self.task, [member], points, self.goal.level)


def study_metrics(run: RunJournal, trials: Trials, slot: int) -> None:
    """The best trial's headline on its study."""
    best = trials.open(slot)
    if best.begun() is not None:
        headline = {
            name: value for name, value in best.read_metrics().items() if name.startswith("val_") and "/" not in name
        }
        run.metrics({f"best_{name}": value for name, value in headline.items()})
    run.tags({"best_trial": str(slot), "best": json.dumps(run_name(slot, trials.search.finished()[slot].params))})
