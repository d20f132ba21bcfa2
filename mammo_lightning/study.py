"""A study from start to end: data, folds, reference, trials, final, and what is said of them."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterator
from typing import Any

from mammo_lightning import record
from mammo_lightning.adoption import adopt
from mammo_lightning.datamodules.base import HOLD_OUT
from mammo_lightning.datamodules.folds import freeze
from mammo_lightning.elsewhere import Elsewhere
from mammo_lightning.engine.choice import open_engine
from mammo_lightning.errors import TrackingError
from mammo_lightning.evaluation.statistics import mean_fold_auc_interval
from mammo_lightning.final import make_predictor, pooled
from mammo_lightning.finish import Finish, study_metrics
from mammo_lightning.identity import claimed, lead_key
from mammo_lightning.ledger import Ledger
from mammo_lightning.opening import DISK_ERRORS, check_storage, default_storage, disk_message, writable
from mammo_lightning.outages import DATABASE_ERRORS, enduring
from mammo_lightning.plan import Plan
from mammo_lightning.progress import Interrupted, Progress
from mammo_lightning.provenance import provenance
from mammo_lightning.recipe import Recipe
from mammo_lightning.reference import REFERENCE, Reference, ReferenceSearch, record_reference
from mammo_lightning.reports import Summary
from mammo_lightning.tracking.fetch import Fetch
from mammo_lightning.tracking.journal import Journal, RunJournal
from mammo_lightning.tracking.publish import Publisher, check_uri, default_uri
from mammo_lightning.tracking.store import told
from mammo_lightning.tracking.views import LEADERBOARD, view_key
from mammo_lightning.training import Fit, Task, fit
from mammo_lightning.trials import POLL_SECONDS, Trials
from mammo_lightning.tuning import Search
from mammo_lightning.types import Kind, digest, seed_from
from mammo_lightning.wall import share_split

#: keys that may change when a study is continued, or differ between the machines that share it
CHANGING = {"trials", "fresh", "mlruns", "tracking_uri", "root", "table", "skip_unreadable", "storage", "keep_best"}
CHANGING |= {"workers", "engine", "accelerator", "devices", "gpu_share", "precision"}


def run_study(recipe: Recipe, progress: Progress | None = None) -> Summary:
    """Run or continue the study a recipe describes."""
    progress = progress or Progress()
    recipe = recipe.model_copy(update={"mlruns": writable(recipe.mlruns)})
    uri = recipe.tracking_uri or default_uri(recipe.mlruns)
    check_uri(uri)
    shared = enduring(Ledger(check_storage(recipe.storage), recipe.mlruns)) if recipe.storage else None
    plan = Plan(recipe, progress, shared)
    with claimed(recipe.mlruns, recipe.study):
        ledger = shared or Ledger(default_storage(recipe.mlruns), recipe.mlruns)
        try:
            run = Journal(recipe.mlruns).run(plan.identify(ledger))
            publisher = Publisher(Journal(recipe.mlruns), uri, recipe.mlruns)
            if (kept := ledger.summary(recipe.study, recipe.trials)) is not None:
                progress.say(f"study {recipe.study} is complete; --trials more goes on, --fresh starts anew")
                publisher.close(progress=progress)
            else:
                freeze(plan.data, plan.splits, recipe.test)
                if shared:
                    share_split(shared, plan.data)
                ledger.start()
                publisher.start()
                gc.freeze()  # what libraries made: to look through it for garbage takes a second each time
                try:
                    kept = _Study(plan, ledger, Fetch(publisher.store, plan.data.name), run, progress).go()
                finally:
                    publisher.close(progress=progress)
                    gc.unfreeze()
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                raise
            raise TrackingError(disk_message(error)) from error
        except DATABASE_ERRORS as error:
            first = told(str(error).splitlines()[0])
            raise TrackingError(
                f"the study storage does not answer: {first}. Nothing that was finished is lost; once it is back, "
                "the same command goes on"
            ) from error
        finally:
            ledger.close()
    summary = Summary.loads(kept)
    summary.link = _link(publisher, plan.data.name, recipe.study)
    return summary


def _link(publisher: Publisher, experiment: str, study: str) -> str:
    try:
        return publisher.link(experiment, view_key(study, LEADERBOARD))
    except Exception as error:  # a store that cannot be asked must not spoil a finished study
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        return f"(no link: {told(first)})"


class _Study:
    def __init__(self, plan: Plan, ledger: Ledger, fetch: Fetch, run: RunJournal, progress: Progress) -> None:
        self.plan, self.recipe, self.data, self.splits = plan, plan.recipe, plan.data, plan.splits
        self.ledger, self.fetch, self.run, self.progress = ledger, fetch, run, progress
        self.journal = Journal(plan.recipe.mlruns)
        self.tags = plan.tags

    def go(self) -> str:
        """Everything that trains, then everything that follows.

        One machine leads: beside trials it makes the reference and the final. The others work on trials; if the lead
        dies, one of them takes its place.
        """
        self.engine = open_engine(
            self.recipe.engine, self.plan.workers, workers=self.recipe.workers, share=self.recipe.gpu_share
        )
        try:
            lead = lead_key(self.run.run_id)
            searches: list[Trials] = []
            while (lease := self.ledger.take(lead)) is None:
                searches = searches or list(self._searches())
                for trials in searches:
                    trials.run(self.recipe.trials)
                if self.progress.stopping:
                    raise Interrupted
                time.sleep(POLL_SECONDS)
            if (kept := self.ledger.summary(self.recipe.study, self.recipe.trials)) is not None:
                return kept  # concluded by another machine meanwhile
            self._begin(lease.attempt)
            with record.ending(self.run):
                summary = self._lead()
                if not self.ledger.holds(lead):
                    raise TrackingError(
                        f"study {self.recipe.study!r} was taken over by another machine, because nothing was heard of "
                        "this one for long; the same command joins it again"
                    )
            self.ledger.conclude(self.recipe.study, self.run.run_id, self.recipe.trials, summary.dumps())
            return summary.dumps()
        finally:
            self.engine.close()

    def _begin(self, attempt: int) -> None:
        """Write down what the study is."""
        recipe = self.recipe
        self.tags["attempt"] = str(attempt)
        self._begin_run(self.run, Kind.study, recipe.study, None)
        tags, diff = provenance()
        self.run.tags(tags)
        asked = json.loads(recipe.model_dump_json(exclude=CHANGING))
        self.run.params({name: value for name, value in asked.items() if value is not None})
        self.run.tags({"trials": str(recipe.trials), "precision": self.plan.task.hardware.precision})
        self.run.tags({"storage": "shared"} if recipe.storage else {})
        places = {name: path.resolve() for name in ("root", "table") if (path := getattr(recipe, name))}
        kept = recipe.model_copy(update=places)  # other commands open the images from other folders
        self.run.write("recipe.json", kept.model_dump_json(indent=2, exclude={"storage", "tracking_uri"}))
        self.run.write("folds.csv", self.splits.manifest())
        if diff:
            self.run.write("git.diff", diff)

    def _lead(self) -> Summary:
        for line in self.plan.lines():
            self.progress.say(line)
        task, goal = self.plan.task, self.plan.goal
        shared = self.ledger if self.recipe.storage else None
        finish = Finish(task, goal, self.recipe, self.journal, self.run, self.tags, self.progress, shared=shared)

        def reference() -> None:
            if self.recipe.classifier != REFERENCE:
                finish.reference = self._reference()

        if self.recipe.scheme == "nested":
            reference()
            fits, chosen = self._nested()
            return finish.conclude(fits, chosen)
        trials = next(self._searches())
        best = trials.run(self.recipe.trials, reference)
        if shared:
            adopt(trials, self.ledger, self.fetch, self.progress)
        return finish.conclude(trials.fits(best), f"t{best:03d}", trials)

    def _reference(self) -> tuple[Reference, RunJournal]:
        recipe = self.recipe
        self.progress.say(f"reference: {REFERENCE}, {recipe.trials} trials on the same folds")
        task, folder = Task(self.data, self.splits, REFERENCE), self.run.folder / "reference"
        search = ReferenceSearch(task, self.plan.goal, folder, recipe.set, recipe.trials, recipe.seed, self.progress)
        reference = search.run(nested=recipe.scheme == "nested", inner=recipe.scheme == "holdout")
        run = self.journal.run(f"{self.run.run_id}.reference-{reference.chosen}")
        self._begin_run(run, Kind.reference, f"reference {REFERENCE}", self.run)
        with record.ending(run):
            record_reference(run, reference, self.plan.goal)
        return reference, run

    def _searches(self) -> Iterator[Trials]:
        """The search of the study; nested, that of each outer fold."""
        if self.recipe.scheme != "nested":
            yield self._trials(self.plan.task, self.run.run_id, self.recipe.seed)
            return
        for fold in self.splits.folds:
            inside = self.splits.narrowed(fold, HOLD_OUT)
            task = Task(self.data, inside, self.recipe.classifier, hardware=self.plan.task.hardware)
            yield self._trials(task, f"{self.run.run_id}.o{fold}", seed_from(self.recipe.seed, "outer", fold))

    def _trials(self, task: Task, name: str, seed: int) -> Trials:
        per = "folds" if self.recipe.scheme == "cv" else "epochs"
        search = Search(
            storage=self.recipe.storage or default_storage(self.recipe.mlruns),
            name=name,
            goal=self.plan.goal,
            space=self.plan.space,
            seed=seed,
            prune=per if self.recipe.prune else None,
            ledger=self.ledger,
        )
        return Trials(
            enduring(search) if self.recipe.storage else search,
            task,
            self.plan.goal,
            self.plan.space,
            self.journal,
            name,
            self.tags,
            seed,
            self.progress,
            self.engine,
            Elsewhere(task, self.fetch, self.progress),
            keep=self.recipe.keep_best,
            spared=range(self.ledger.concluded(self.recipe.study)),
            shares=self.recipe.storage is not None,
        )

    def _nested(self) -> tuple[list[Fit], str]:
        """An own search inside every outer fold; the outer fold is scored once, by what its search chose."""
        fits: list[Fit] = []
        slots: list[int] = []
        for fold, trials in zip(self.splits.folds, self._searches(), strict=True):
            outer = self.journal.run(trials.parent)
            self._begin_run(outer, Kind.study, f"outer fold {fold}", self.run)
            with record.ending(outer):
                outer.write("folds.csv", trials.task.splits.manifest())
                slots.append(trials.run(self.recipe.trials))
                if self.recipe.storage:
                    adopt(trials, self.ledger, self.fetch, self.progress)
                fits.append(self._outer_fit(outer, fold, trials.settings(slots[-1]), trials.seed, slots[-1]))
                study_metrics(outer, trials, slots[-1])
        predictions = pooled([each.predictions for each in fits]).at(self.plan.goal.level)
        self.progress.say(f"nested: {mean_fold_auc_interval(predictions)} over {len(fits)} outer folds")
        return fits, digest(slots)[:6]

    def _outer_fit(self, outer: RunJournal, fold: int, settings: dict[str, Any], seed: int, slot: int) -> Fit:
        def on_epoch(epoch: int, row: dict[str, float]) -> None:
            if self.progress.stopping:
                raise Interrupted

        folder = outer.folder / "folds" / f"t{slot:03d}" / f"f{fold}"
        done = fit(self.plan.task, fold=fold, settings=settings, seed=seed, folder=folder, on_epoch=on_epoch)
        outer.write("settings.json", json.dumps(settings, indent=2, sort_keys=True))
        record.copy_model(outer, folder, f"f{fold}")
        record.record_curves(outer, fold, done.curve)
        record.keep(outer, "val", done.predictions)
        if (reserved := make_predictor(self.plan.task, [done]).reserved()) is not None:
            record.keep(outer, "reserve", reserved)
        return done

    def _begin_run(self, run: RunJournal, kind: Kind, name: str, parent: RunJournal | None) -> None:
        run.begin(
            kind=kind,
            name=name,
            study=self.recipe.study,
            parent=parent.run_id if parent else None,
            experiment=self.data.name,
            tags={**self.tags, **({"classifier": REFERENCE} if kind is Kind.reference else {})},
        )
        run.dataset(
            self.data.name, self.data.digest, str(self.recipe.root or self.recipe.dataset), split=self.splits.digest
        )
