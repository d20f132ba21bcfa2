"""A study from start to end: data, folds, reference, trials, final, and what is said of them."""

from __future__ import annotations

import json
from typing import Any

from mammo_lightning import record
from mammo_lightning.datamodules.audit import structure
from mammo_lightning.datamodules.base import MammoDataModule
from mammo_lightning.datamodules.folds import Splits, make_splits
from mammo_lightning.errors import SettingsError
from mammo_lightning.evaluation import thresholds
from mammo_lightning.evaluation.statistics import mean_fold_auc_interval
from mammo_lightning.final import pooled
from mammo_lightning.finish import Finish, study_metrics
from mammo_lightning.identity import claimed, identify
from mammo_lightning.opening import open_dataset, writable
from mammo_lightning.progress import Interrupted, Progress
from mammo_lightning.provenance import provenance
from mammo_lightning.recipe import Recipe
from mammo_lightning.reference import REFERENCE, record_reference, tune_reference
from mammo_lightning.registry import CLASSIFIERS
from mammo_lightning.reports import Summary
from mammo_lightning.space import Space, make_space
from mammo_lightning.tracking.journal import Journal, RunJournal
from mammo_lightning.tracking.publish import Publisher, check_uri, default_uri
from mammo_lightning.training import Fit, Task, fit
from mammo_lightning.trials import Trials
from mammo_lightning.tuning import Goal, Search
from mammo_lightning.types import Kind, Level, Outcome, seed_from


def run_study(recipe: Recipe, progress: Progress | None = None) -> Summary:
    """Run or continue the study a recipe describes."""
    progress = progress or Progress()
    recipe = recipe.model_copy(update={"mlruns": writable(recipe.mlruns)})
    uri = recipe.tracking_uri or default_uri(recipe.mlruns)
    check_uri(uri)
    study = _Study(recipe, progress)
    with claimed(recipe.mlruns, recipe.study):
        run = study.identify()
        publisher = Publisher(study.journal, uri, recipe.mlruns)
        kept = run.folder / f"summary{recipe.trials}.json"
        if run.outcome is Outcome.completed and kept.exists():
            progress.say(f"study {recipe.study} is complete; --trials more goes on, --fresh starts anew")
            publisher.close()
            return Summary.read(kept)
        study.begin()
        publisher.start()
        try:
            summary = study.go()
        except (Interrupted, KeyboardInterrupt, SystemExit):
            study.run.end(Outcome.interrupted, "signal")
            raise
        except Exception as error:
            study.run.end(Outcome.failed, f"exception: {type(error).__name__}: {str(error)[:200]}")
            raise
        finally:
            publisher.close()
        summary.link = _link(publisher, run.run_id)
        summary.write(kept)
    return summary


def _link(publisher: Publisher, run_id: str) -> str:
    try:
        return publisher.link(run_id)
    except Exception as error:  # a store that cannot be asked must not spoil a finished study
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        return f"(no link: {first})"


class _Study:
    def __init__(self, recipe: Recipe, progress: Progress) -> None:
        self.recipe, self.progress = recipe, progress
        self.classifier = CLASSIFIERS.get(recipe.classifier)
        self.space = self._space()
        self.goal = Goal(recipe.objective, Level(recipe.level), recipe.rule)
        thresholds.parse(recipe.rule)
        self.data: MammoDataModule = open_dataset(recipe, progress)
        if self.goal.level not in self.data.levels:
            raise SettingsError(
                f"--level {recipe.level} means nothing here: the patches of {recipe.dataset!r} were selected, "
                "they do not tile what they stand for. Pass --level patch"
            )
        self.splits = self._splits()
        self.task = Task(self.data, self.splits, recipe.classifier)
        self.classifier(shape=self.data.shape, settings=self.space.fixed)  # refuses images it cannot take
        self.journal = Journal(recipe.mlruns)
        self.run: RunJournal

    def _space(self) -> Space:
        chosen: dict[str, Any] = {"epochs": self.recipe.epochs, **self.recipe.set}
        if self.recipe.scheme != "cv":
            chosen.setdefault("stopping", "inner")
            if chosen["stopping"] != "inner":
                raise SettingsError(f"scheme {self.recipe.scheme} prunes on the inner slice; drop --set stopping=last")
        return make_space(self.classifier, chosen=chosen, search=self.recipe.search)

    def _splits(self) -> Splits:
        recipe = self.recipe
        return make_splits(
            self.data,
            folds=recipe.folds,
            fold_seed=recipe.fold_seed,
            test=recipe.test,
            reserve=recipe.reserve,
            holdout=recipe.scheme == "holdout",
            straddle=recipe.straddle,
            grouping=recipe.group,
        )

    def identify(self) -> RunJournal:
        """Find or found the study."""
        recipe = self.recipe
        frozen = {
            **recipe.model_dump(
                include={"dataset", "classifier", "objective", "level", "scheme", "seed", "prune", "truth"}
            ),
            "operating_point": recipe.rule,
            "data": self.data.digest,
            "splits": self.splits.digest,
            "settings": self.space.fixed,
            "search": self.space.describe(),
        }
        self.run = self.journal.run(identify(recipe.mlruns, recipe.study, frozen, fresh=recipe.fresh))
        return self.run

    def begin(self) -> None:
        """Write down what the study is."""
        recipe = self.recipe
        self.tags = {
            "study": recipe.study,
            "dataset": recipe.dataset,
            "classifier": recipe.classifier,
            "folds": self.splits.digest,
            "leaky": str(recipe.group == "image").lower(),
            "synthetic": str(self.data.synthetic).lower(),
            "val_selected": "false",
        }
        self._begin_run(self.run, Kind.study, recipe.study, None)
        tags, diff = provenance()
        self.run.tags(tags)
        self.run.params(
            {name: value for name, value in json.loads(recipe.model_dump_json()).items() if value is not None}
        )
        self.run.write("recipe.json", recipe.model_dump_json(indent=2))
        self.run.write("folds.csv", self.splits.manifest())
        if diff:
            self.run.write("git.diff", diff)

    def go(self) -> Summary:
        """Everything that trains, then everything that follows."""
        for line in self._structure():
            self.progress.say(line)
        for line in [*self._patients(), *self.splits.notes]:
            self.progress.say(line)
        if self.recipe.group == "image":
            self.progress.say("leak: --group image tears patients apart on purpose; every run is tagged leaky=true")
        reference = None
        if self.recipe.classifier != REFERENCE:
            reference = self._reference()
        finish = Finish(self.task, self.goal, self.recipe, self.journal, self.run, self.tags, self.progress)
        if self.recipe.scheme == "nested":
            summary = finish.conclude(fits=self._nested(), reference=reference)
        else:
            trials = self._trials(self.task, self.run, self.run.run_id, self.recipe.seed)
            best = trials.run(self.recipe.trials)
            summary = finish.conclude(fits=trials.fits(best), best=best, trials=trials, reference=reference)
        self.run.end(Outcome.completed)
        return summary

    def _structure(self) -> list[str]:
        data = self.data
        return structure(data.frame, classes=data.classes, unreadable=data.unreadable).lines

    def _patients(self) -> list[str]:
        """Where patients were read from names or a table, what was read: the one thing a person must check."""
        if self.recipe.patient_from is None and self.recipe.table is None:
            return []
        sizes = self.data.frame.groupby("patient").size()
        some = ", ".join(sizes.index[:20]) + (" ..." if len(sizes) > 20 else "")
        counts = f"{sizes.min()} to {sizes.max()} images each, {sizes.mean():.1f} on average"
        negative, positive = self.data.classes
        return [f"{len(sizes)} patients: {some}", f"{counts}; positive class: {positive}, negative: {negative}"]

    def _reference(self) -> list[Fit]:
        run = self.journal.run(f"{self.run.run_id}.reference")
        self.progress.say(f"reference: {REFERENCE}, {self.recipe.trials} trials on the same folds")
        self._begin_run(run, Kind.reference, f"reference {REFERENCE}", self.run)
        task = Task(self.data, self.splits, REFERENCE)
        chosen = {name: value for name, value in self.recipe.set.items() if name in ("preprocessing", "imbalance")}
        stopping = {"stopping": "inner"} if self.recipe.scheme == "holdout" else {}
        fits = tune_reference(
            run,
            task,
            self.goal,
            chosen={**chosen, **stopping},
            trials=self.recipe.trials,
            seed=self.recipe.seed,
            progress=self.progress,
        )
        record_reference(run, task, self.goal, fits)
        return fits

    def _trials(self, task: Task, parent: RunJournal, prefix: str, seed: int) -> Trials:
        per = "folds" if self.recipe.scheme == "cv" else "epochs"
        search = Search(
            storage=f"sqlite:///{self.recipe.mlruns / 'studies.db'}",
            name=prefix,
            goal=self.goal,
            space=self.space,
            seed=seed,
            prune=per if self.recipe.prune else None,
        )
        return Trials(search, task, self.goal, self.space, self.journal, parent, prefix, self.tags, seed, self.progress)

    def _nested(self) -> list[Fit]:
        """An own search inside every outer fold; the outer fold is scored once, by what its search chose."""
        fits: list[Fit] = []
        for fold in self.splits.folds:
            inside = self.splits.narrowed(fold, 0.25)
            prefix = f"{self.run.run_id}.o{fold}"
            outer = self.journal.run(prefix)
            self._begin_run(outer, Kind.study, f"outer fold {fold}", self.run)
            outer.write("folds.csv", inside.manifest())
            task = Task(self.data, inside, self.recipe.classifier)
            seed = seed_from(self.recipe.seed, "outer", fold)
            trials = self._trials(task, outer, prefix, seed)
            best = trials.run(self.recipe.trials)
            fits.append(self._outer_fit(outer, fold, trials.settings(best), seed))
            study_metrics(outer, trials.open(best))
            outer.end(Outcome.completed)
        predictions = pooled([each.predictions for each in fits]).at(self.goal.level)
        self.progress.say(f"nested: {mean_fold_auc_interval(predictions)} over {len(fits)} outer folds")
        return fits

    def _outer_fit(self, outer: RunJournal, fold: int, settings: dict[str, Any], seed: int) -> Fit:
        def on_epoch(epoch: int, row: dict[str, float]) -> None:
            self.progress.update(epoch=epoch + 1)
            if self.progress.stopping:
                raise Interrupted

        folder = outer.folder / "folds" / f"f{fold}"
        done = fit(self.task, fold=fold, settings=settings, seed=seed, folder=folder, on_epoch=on_epoch)
        record.record_settings(outer, settings)
        record.copy_model(outer, folder, f"f{fold}")
        record.record_curves(outer, fold, done.curve)
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
