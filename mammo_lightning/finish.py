"""The end of a study: the final predictor, one counted read of the test split, and plain sentences."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

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
from mammo_lightning.final import Predictor, at_points, make_predictor, pooled, true_auc
from mammo_lightning.progress import Progress
from mammo_lightning.recipe import Recipe
from mammo_lightning.reference import REFERENCE
from mammo_lightning.reports import Row, Summary, difference_line
from mammo_lightning.tracking.journal import Journal, RunJournal
from mammo_lightning.tracking.serving import save_servable
from mammo_lightning.tracking.test_reads import read_test
from mammo_lightning.training import Fit, Task
from mammo_lightning.trials import Trials, decide_by
from mammo_lightning.tuning import Goal
from mammo_lightning.types import Kind, Outcome, Predictions, Split

SERVED = 3
REPLICATES = 1000


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

    def conclude(
        self,
        *,
        fits: list[Fit],
        best: int | None = None,
        trials: Trials | None = None,
        reference: list[Fit] | None = None,
    ) -> Summary:
        """Final, tests and sentences; everything here is a function of Predictions but for the test read."""
        self.progress.say("final: calibrating the fold models and scoring once")
        summary = Summary(self.recipe.study, self.run.run_id, self.goal.rule, self.task.data.synthetic)
        predictions = pooled([fit.predictions for fit in fits])
        if reference:
            ours = pooled([fit.predictions for fit in reference])
            self._row(summary, f"reference ({REFERENCE})", ours, reference)
        what = "outer folds (nested)" if best is None else f"best trial t{best:03d} (selected)"
        self._row(summary, what, predictions, fits)
        if trials is not None:
            self._corrected(summary, trials, predictions)
        if reference and self._same_rows(predictions, reference):
            first, second = predictions.at(self.goal.level), ours.at(self.goal.level)
            summary.lines.append(difference_line(paired_difference(first, second, statistic="mean_fold_auc")))
        self._within(summary, predictions)
        self._final(summary, best, fits, reference)
        if trials is not None and best is not None:
            study_metrics(self.run, trials.open(best))
            self._serve_best(trials)
        self.run.write("summary.md", summary.markdown())
        last = summary.rows[-1]
        head = f"{'SYNTHETIC images · ' if summary.synthetic else ''}{last.what}: AUC {last.auc} · {last.counts}"
        self.run.note(f"{head}\n\n{summary.markdown()}")
        return summary

    def _row(self, summary: Summary, what: str, predictions: Predictions, fits: list[Fit]) -> None:
        at = predictions.at(self.goal.level)
        decide = decide_by(self.goal.rule, fits[0].inner if len(fits) == 1 else None)
        estimates = intervals(at, decide(predictions, self.goal.level)[0], replicates=REPLICATES)
        auc = mean_fold_auc_interval(at, replicates=REPLICATES) if len(fits) > 1 else estimates["auc"]
        judged = "out of fold" if len(fits) > 1 else "hold-out"
        summary.rows.append(Row(what, judged, auc, at.counts(), estimates["tpr"], estimates["fpr"]))

    def _corrected(self, summary: Summary, trials: Trials, predictions: Predictions) -> None:
        slots = [trial.number for trial in trials.search.completed()]
        each = [
            Predictions.read(trials.open(slot).artifacts / "predictions.parquet").at(self.goal.level) for slot in slots
        ]
        estimate = selection_corrected(each, replicates=500, seed=self.recipe.seed)
        at = predictions.at(self.goal.level)
        self.run.metrics(
            {"corrected_auc": estimate.value, "corrected_auc_lo": estimate.lo, "corrected_auc_hi": estimate.hi}
        )
        summary.rows.append(Row(f"corrected for choosing 1 of {len(slots)}", "out of bag", estimate, at.counts()))

    def _same_rows(self, predictions: Predictions, fits: list[Fit]) -> bool:
        return set(predictions.frame["image"]) == set(pooled([fit.predictions for fit in fits]).frame["image"])

    def _within(self, summary: Summary, predictions: Predictions) -> None:
        for column in self.task.data.subgroups:
            if not 1 < predictions.frame[column].nunique() <= 12 or column in self.task.data.answers:
                continue
            table = within(predictions.at(self.goal.level), column)
            shown = [f"{value} {cell.auc} ({cell.counts})" for value, cell in table.items() if cell.auc]
            if shown:
                summary.lines.append(f"AUC within {column}: " + "; ".join(shown))

    def _final(
        self,
        summary: Summary,
        best: int | None,
        fits: list[Fit],
        reference: list[Fit] | None,
    ) -> None:
        name = "final" if best is None else f"final-t{best:03d}"
        run = self.journal.run(f"{self.run.run_id}.{name}")
        run.begin(
            kind=Kind.final,
            name=name,
            study=self.recipe.study,
            parent=self.run.run_id,
            experiment=self.task.data.name,
            tags={**self.tags, "trial": str(best) if best is not None else ""},
        )
        run.dataset(
            self.task.data.name, self.task.data.digest, str(self.recipe.root or ""), split=self.task.splits.digest
        )
        predictor = make_predictor(self.task, fits)
        points, origin = predictor.points(self.goal.rule)
        if best is not None:
            record.record_settings(run, weights.load(fits[0].folder).settings)
        run.tags({"threshold_origin": origin})
        record.record_point(run, {str(level): point for level, point in points.items()}, origin)
        estimates = record.record(
            run,
            predictor.held_out,
            split="val",
            level=self.goal.level,
            data=self.task.data,
            decide=decide_by(self.goal.rule) if len(fits) > 1 else at_points(points),
            title=f"{self.recipe.study} {name}, out of fold",
        )
        shown = self._test(summary, run, predictor, points, reference) or estimates
        truth = true_auc(predictor, self.recipe.truth, self.progress.say)
        if truth is not None:
            run.metrics({"true_auc": truth})
            inside = "inside" if shown["auc"].lo <= truth <= shown["auc"].hi else "outside"
            fresh = f"{self.recipe.truth:,} fresh patients"
            summary.lines.append(f"truth: AUC {truth:.3f} on {fresh}; the estimate {shown['auc']} has it {inside}")
        self._serve(run, predictor, points[self.goal.level].threshold, name)
        run.end(Outcome.completed)

    def _test(
        self, summary: Summary, run: RunJournal, predictor: Predictor, points: Any, reference: list[Fit] | None
    ) -> dict[str, Estimate] | None:
        if not (self.task.splits.fold == TEST).any():
            summary.lines.append("no test split: every figure above is of development data")
            return None
        read = read_test(self.recipe.mlruns, self.task.splits, study=self.recipe.study, run=run.run_id)
        predictions = predictor.predictions(read.rows, Split.test)
        shown = self._record_test(run, predictions, points)
        if reference:
            beside = make_predictor(Task(self.task.data, self.task.splits, REFERENCE), reference)
            other = self.journal.run(f"{self.run.run_id}.reference")
            scored = beside.predictions(read.rows, Split.test)
            theirs = self._record_test(other, scored, beside.points(self.goal.rule)[0])
            at = scored.at(self.goal.level)
            summary.rows.append(
                Row(f"reference ({REFERENCE})", "test", theirs["auc"], at.counts(), theirs["tpr"], theirs["fpr"])
            )
        at = predictions.at(self.goal.level)
        summary.rows.append(Row("final", "test", shown["auc"], at.counts(), shown["tpr"], shown["fpr"]))
        summary.lines.append(str(read))
        run.tags({"test_reads": str(read.count), "test_split": self.task.splits.test_digest})
        return shown

    def _record_test(self, run: RunJournal, predictions: Predictions, points: Any) -> dict[str, Estimate]:
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
        ranked = sorted(trials.search.completed(), key=lambda trial: (-trial.values[0], trial.number))
        for trial in ranked[:SERVED]:
            run = trials.open(trial.number)
            predictor = make_predictor(self.task, trials.fits(trial.number))
            point = predictor.points(self.goal.rule)[0][self.goal.level]
            self._serve(run, predictor, point.threshold, f"t{trial.number:03d}")

    def _serve(self, run: RunJournal, predictor: Predictor, threshold: float, name: str) -> None:
        data = self.task.data
        folder: Path = run.folder / "models" / name
        save_servable(
            folder,
            members=predictor.folders,
            calibrators=[platt.as_dict() for platt in predictor.calibrators],
            classes=list(data.classes),
            threshold=threshold,
            scale=data.scale,
            dtype=str(data.images.dtype),
            shape=data.shape,
            example=np.asarray(data.images[:2]),
            extra={
                "spacing_mm": data.spacing_mm,
                "rule": self.goal.rule,
                "level": str(self.goal.level),
                "run": run.run_id,
            },
        )
        metrics = run.read_metrics()
        run.model(
            folder,
            name,
            {key: value for key, value in metrics.items() if key.startswith(("val_", "test_")) and "/" not in key},
        )


def study_metrics(run: RunJournal, best: RunJournal) -> None:
    """The best trial's headline on its study."""
    headline = {
        name: value for name, value in best.read_metrics().items() if name.startswith("val_") and "/" not in name
    }
    run.metrics({f"best_{name}": value for name, value in headline.items()})
    run.tags({"best_trial": best.read_tags().get("trial", ""), "best": json.dumps(best.identity["name"])})
