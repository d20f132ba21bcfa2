"""A study from start to end: data, folds, reference, trials, final, and what is said of them."""

from __future__ import annotations

import json
from typing import Any

from mammo_lightning import record
from mammo_lightning.datamodules.audit import structure
from mammo_lightning.datamodules.base import MammoDataModule
from mammo_lightning.datamodules.folds import HOLD_OUT, Splits, freeze, make_splits
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
from mammo_lightning.reference import REFERENCE, Reference, ReferenceSearch, record_reference
from mammo_lightning.registry import CLASSIFIERS
from mammo_lightning.reports import Summary
from mammo_lightning.space import Space, make_space
from mammo_lightning.tracking.journal import Journal, RunJournal
from mammo_lightning.tracking.publish import Publisher, check_uri, default_uri
from mammo_lightning.training import Fit, Task, fit
from mammo_lightning.trials import Trials
from mammo_lightning.tuning import Goal, Search
from mammo_lightning.types import Kind, Level, Outcome, digest, seed_from

#: keys that may change when a study is continued
CHANGING = {"trials", "fresh", "mlruns", "tracking_uri", "root", "table", "skip_unreadable"}


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
            with record.ending(study.run):
                summary = study.go()
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
        for settings in self.space.corners():  # what cannot be built is refused before anything is written
            self.classifier(shape=self.data.shape, settings=settings)
        self.journal = Journal(recipe.mlruns)
        self.run: RunJournal

    def _space(self) -> Space:
        recipe = self.recipe
        implied: dict[str, Any] = {"epochs": recipe.epochs}
        if recipe.scheme != "cv":
            implied["stopping"] = "inner"
            if recipe.set.get("stopping", "inner") != "inner" or "stopping" in recipe.search:
                raise SettingsError(
                    f"scheme {recipe.scheme} needs stopping=inner: it prunes on the inner slice. Drop it"
                )
        return make_space(self.classifier, chosen=recipe.set, search=recipe.search, implied=implied)

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
        freeze(self.data, self.splits, recipe.test)
        self._begin_run(self.run, Kind.study, recipe.study, None)
        tags, diff = provenance()
        self.run.tags(tags)
        asked = json.loads(recipe.model_dump_json(exclude=CHANGING))
        self.run.params({name: value for name, value in asked.items() if value is not None})
        self.run.tags({"trials": str(recipe.trials)})
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
        reference = self._reference() if self.recipe.classifier != REFERENCE else None
        finish = Finish(self.task, self.goal, self.recipe, self.journal, self.run, self.tags, self.progress, reference)
        if self.recipe.scheme == "nested":
            fits, chosen = self._nested()
            return finish.conclude(fits, chosen)
        trials = self._trials(self.task, self.run, self.run.run_id, self.recipe.seed)
        best = trials.run(self.recipe.trials)
        return finish.conclude(trials.fits(best), f"t{best:03d}", trials)

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
        if sizes.min() == sizes.max():
            counts = f"{sizes.min()} images each"
        negative, positive = self.data.classes
        return [f"{len(sizes)} patients: {some}", f"{counts}; positive class: {positive}, negative: {negative}"]

    def _reference(self) -> tuple[Reference, RunJournal]:
        recipe = self.recipe
        self.progress.say(f"reference: {REFERENCE}, {recipe.trials} trials on the same folds")
        task, folder = Task(self.data, self.splits, REFERENCE), self.run.folder / "reference"
        search = ReferenceSearch(task, self.goal, folder, recipe.set, recipe.trials, recipe.seed, self.progress)
        reference = search.run(nested=recipe.scheme == "nested", inner=recipe.scheme == "holdout")
        run = self.journal.run(f"{self.run.run_id}.reference-{reference.chosen}")
        self._begin_run(run, Kind.reference, f"reference {REFERENCE}", self.run)
        with record.ending(run):
            record_reference(run, reference, self.goal)
        return reference, run

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

    def _nested(self) -> tuple[list[Fit], str]:
        """An own search inside every outer fold; the outer fold is scored once, by what its search chose."""
        fits: list[Fit] = []
        slots: list[int] = []
        for fold in self.splits.folds:
            inside = self.splits.narrowed(fold, HOLD_OUT)
            prefix = f"{self.run.run_id}.o{fold}"
            outer = self.journal.run(prefix)
            self._begin_run(outer, Kind.study, f"outer fold {fold}", self.run)
            with record.ending(outer):
                outer.write("folds.csv", inside.manifest())
                seed = seed_from(self.recipe.seed, "outer", fold)
                trials = self._trials(Task(self.data, inside, self.recipe.classifier), outer, prefix, seed)
                slots.append(trials.run(self.recipe.trials))
                fits.append(self._outer_fit(outer, fold, trials.settings(slots[-1]), seed, slots[-1]))
                study_metrics(outer, trials.open(slots[-1]))
        predictions = pooled([each.predictions for each in fits]).at(self.goal.level)
        self.progress.say(f"nested: {mean_fold_auc_interval(predictions)} over {len(fits)} outer folds")
        return fits, digest(slots)[:6]

    def _outer_fit(self, outer: RunJournal, fold: int, settings: dict[str, Any], seed: int, slot: int) -> Fit:
        def on_epoch(epoch: int, row: dict[str, float]) -> None:
            self.progress.update(epoch=epoch + 1)
            if self.progress.stopping:
                raise Interrupted

        folder = outer.folder / "folds" / f"t{slot:03d}" / f"f{fold}"
        done = fit(self.task, fold=fold, settings=settings, seed=seed, folder=folder, on_epoch=on_epoch)
        outer.write("settings.json", json.dumps(settings, indent=2, sort_keys=True))
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
