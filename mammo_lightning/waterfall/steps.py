"""How the AUC of one configuration falls from what a careless evaluation says to what can be believed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from mammo_lightning.datamodules.audit import native_formats
from mammo_lightning.datamodules.folds import TRAIN_ONLY, Splits, frozen_test_groups
from mammo_lightning.datamodules.predictors import FEW, Predictor
from mammo_lightning.datamodules.shortcuts import Shortcut, grouped_folds, shortcuts
from mammo_lightning.errors import DataError, SettingsError
from mammo_lightning.evaluation.statistics import Estimate, mean_fold_auc, selection_corrected
from mammo_lightning.evaluation.steps import Drawn, Resampled, Step, optimism_within, tenths, unpaired
from mammo_lightning.evaluation.subgroups import varies_within
from mammo_lightning.final import pooled
from mammo_lightning.hardware import choose
from mammo_lightning.plan import Plan
from mammo_lightning.progress import Interrupted, Progress
from mammo_lightning.runs import Runs, Scored
from mammo_lightning.training import Diverged, fit, load_fit
from mammo_lightning.types import Kind, Level, Predictions, levels_of, seed_from
from mammo_lightning.waterfall.divisions import by_image, by_patient

#: columns that are no part of what a place is, hence perhaps a shortcut
PLACES = ("view", "laterality", "spacing_mm")
STRATUM = "stratum"
ENOUGH = 0.05  # of all pairs must be left within the values of a shortcut
REPLICATES = 500  # of the choice, as a study's own summary makes them


def trial_of(found: Runs, word: str) -> Scored:
    """The trial that is meant: by its id or STUDY/t001, or for a study or its final the one that was chosen."""
    run = found.named([word])[0]
    if run.recipe is None or run.study is None or run.kind not in (Kind.trial, Kind.final):
        raise SettingsError(
            f"run '{run.run_id}' is of kind {run.kind}; a waterfall is of a trial: name a study, or STUDY/t001"
        )
    study = run.run.identity["study"]
    if run.recipe.scheme == "nested":
        raise SettingsError(
            f"study {study!r} is nested: each of its folds has settings of its own. Name a study of scheme cv"
        )
    if run.leaky:
        raise SettingsError(
            f"study {study!r} was made with --group image, so no figure of it is by patient; tune without it, and name "
            "that study: its waterfall begins with the split by image"
        )
    return run if run.kind is Kind.trial else found.get(f"{run.study.run_id}.{run.tags['chosen']}")


@dataclass
class Waterfall:
    """The steps of one trial, made one after the other; fits of folds that were never scored are kept at `folder`."""

    found: Runs
    trial: Scored
    plan: Plan
    folder: Path
    progress: Progress
    seed: int = 0
    steps: list[Step] = field(default_factory=list)
    _last: Drawn | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.level = Level(self.plan.recipe.level)
        inside = self.plan.splits.fold >= TRAIN_ONLY
        rows = self.plan.splits.frame[inside]
        self.groups = dict(zip(rows["image"], rows["group"], strict=True))
        self.resampled = Resampled(rows["group"], rows["label"], seed=self.seed)

    def make(self) -> list[Step]:
        """All steps, from the careless to the strict."""
        images, patients = self._divisions()
        self.progress.update(trials=sum(each is not None for each in (images, patients)))
        if images is None:
            self._skip("image", "split by image", "every patient has one image: a split by image is one by patient")
        else:
            self._judge("image", "split by image", self._refitted("image", images))
        table = self._refitted("patient", patients) if patients is not None else self.own
        self._judge("patient", "split by patient", table, taken="patients seen before")
        if patients is None:
            self._skip("duplicates", "duplicates merged", "no image stands under two patients")
        else:
            self._judge("duplicates", "duplicates merged", self.own, taken="identical images seen before")
        column = self._controlled()
        self._corrected(column)
        self._external()
        return self.steps

    @cached_property
    def own(self) -> Predictions:
        """What the trial said out of fold."""
        return self.trial.predictions()

    def _divisions(self) -> tuple[Splits | None, Splits | None]:
        splits, frame = self.plan.splits, self.plan.data.frame
        inside = splits.fold >= TRAIN_ONLY
        one_each = splits.frame["group"][inside].is_unique
        return None if one_each else by_image(splits), by_patient(splits, frame["patient"])

    def _refitted(self, key: str, splits: Splits) -> Predictions:
        """The same settings and seeds on other folds."""
        study = self.trial.study
        begun = study.read_tags().get("precision", "auto") if study else "auto"
        native = choose(self.plan.recipe.accelerator)
        hardware = native if begun in ("auto", native.precision) else replace(native, precision="32-true")
        task = replace(self.plan.task, splits=splits, hardware=hardware)
        settings = json.loads((self.trial.run.artifacts / "settings.json").read_text())
        self.progress.update(folds=len(splits.folds))
        parts = []
        for fold in splits.folds:
            if self.progress.stopping:
                raise Interrupted
            name, folder = f"{key} f{fold}", self.folder / key / f"f{fold}"
            was_kept = load_fit(folder) is not None
            self.progress.fit_started(name, name, settings["epochs"])

            def on_epoch(epoch: int, row: dict[str, float], name: str = name) -> None:
                self.progress.epoch(name, epoch + 1)
                if self.progress.stopping:
                    raise Interrupted

            try:
                seed = int(self.trial.tags[f"seed.f{fold}"])
                made = fit(task, fold=fold, settings=settings, seed=seed, folder=folder, on_epoch=on_epoch)
            except Diverged as error:
                raise DataError(f"the fit of {name} diverged ({error}); audit another trial") from None
            finally:
                self.progress.fit_ended(name, counts=not was_kept)
            parts.append(made.predictions)
        self.progress.update(done=self.progress.done + 1)
        return pooled(parts)

    def _grouped(self, table: Predictions) -> Predictions:
        """At the level of the study, with the groups that are resampled in all steps."""
        return Predictions(table.frame.assign(group=table.frame["image"].map(self.groups))).at(self.level)

    def _judge(self, key: str, title: str, table: Predictions, taken: str = "", note: str = "") -> None:
        at = self._grouped(table)
        drawn = self.resampled.auc(at, STRATUM if STRATUM in at.frame else None)
        difference = drawn.minus(self._last) if self._last else None
        counts = at.counts() + (f" · {drawn.pairs:,} pairs" if STRATUM in at.frame else "")
        self._last = drawn
        self.steps.append(Step(key, title, drawn.estimate, counts, difference, taken if difference else "", note))

    def _skip(self, key: str, title: str, why: str) -> None:
        self.steps.append(Step(key, title, note=why))

    def _warned(self) -> list[Shortcut]:
        """The shortcuts that an audit of these images warns of, the strongest first."""
        data, recipe = self.plan.data, self.plan.recipe
        seed = seed_from(data.source, recipe.folds, recipe.fold_seed)
        folds = grouped_folds(data.frame, folds=recipe.folds, seed=seed, frozen=frozen_test_groups(data))
        folds[self.plan.splits.fold < TRAIN_ONLY] = -1
        self._looked = np.flatnonzero(folds >= 0)
        columns = [*(name for name in PLACES if name in data.frame)]
        columns += [name for name in data.subgroups if name not in data.answers]
        formats = native_formats(data.frame, data.shape, 8 * data.images.dtype.itemsize)
        found = shortcuts(data.frame, data.images, folds, classes=data.classes, columns=columns, formats=formats)
        return [each for each in found if each.works]

    def _controlled(self) -> pd.Series | None:
        """Pairs within one value of the strongest shortcut, so that it is worth nothing; its values by image."""
        title, key = "shortcut controlled", "shortcut"
        warned = self._warned()
        passed = [f"{each.predictor.title} (AUC {each.auc})" for each in warned if each.predictor.kind == "intensity"]
        for each in warned:
            if each.predictor.kind == "intensity":  # brightness may be the lesion itself
                continue
            values = self._strata(each.predictor)
            table = Predictions(self.own.frame.assign(**{STRATUM: self.own.frame["image"].map(values)}))
            if varies_within(table, STRATUM, self.level):
                passed.append(f"{each.predictor.title} (AUC {each.auc}), which varies within one {self.level}")
                continue
            note = f"pairs within one value of {each.predictor.title}, which alone reaches AUC {each.auc}"
            if (share := self._left(table)) < ENOUGH:
                passed.append(f"{each.predictor.title} (AUC {each.auc}), which leaves {share:.1%} of the pairs")
                continue
            if passed:
                note += f"; not controlled: {'; '.join(passed)}"
            self._judge(key, title, table, taken=each.predictor.title, note=note)
            return values
        why = "no name, size, count or column is warned of as a shortcut"
        if any(each.predictor.kind != "intensity" for each in warned):
            why = "no shortcut that is warned of can be controlled"
        self._skip(key, title, f"{why}; not controlled: {'; '.join(passed)}" if passed else why)
        return None

    def _left(self, table: Predictions) -> float:
        """The share of all pairs that stand within one value of the shortcut."""
        assert self._last is not None
        try:
            return self.resampled.auc(self._grouped(table), STRATUM).pairs / self._last.pairs
        except DataError:
            return 0.0

    def _strata(self, predictor: Predictor) -> pd.Series:
        """What pairs are formed within: values, or tenths where they are many numbers."""
        values = predictor.values
        if predictor.numeric and len(np.unique(values)) > FEW:
            values = tenths(values)
        return pd.Series(values.astype(str), index=self.plan.data.frame["image"].iloc[self._looked].to_numpy())

    def _corrected(self, values: pd.Series | None) -> None:
        key, title = "selection", "choice corrected"
        study = self.trial.study.run_id if self.trial.study else ""
        trials = self.found.of_study(study)
        if len(trials) < 2:
            return self._skip(key, title, "one trial was completed: nothing was chosen")
        if (objective := self.plan.recipe.objective) != "val_auc":
            return self._skip(key, title, f"the choice was by {objective}, not by AUC: it cannot be corrected for")
        tables = [self._grouped(each.predictions()) for each in trials]
        best = int(np.argmax([mean_fold_auc(each) for each in tables]))
        if trials[best].run_id != self.trial.run_id:
            return self._skip(key, title, f"this trial was not chosen by its AUC ({trials[best].run_id} was)")
        before, seed = self._before(), self.plan.recipe.seed
        if values is None:
            found = selection_corrected(tables, replicates=REPLICATES, seed=seed)
        else:
            assert self._last is not None
            own = self.own.frame.assign(**{STRATUM: self.own.frame["image"].map(values)})
            others = [each for number, each in enumerate(tables) if number != best]
            lost = optimism_within([self._grouped(Predictions(own)), *others], STRATUM, REPLICATES, seed)
            found = replace(self._last, value=min(max(self._last.value + lost, 0.0), 1.0)).estimate
        difference = Estimate(found.value - before.value, np.nan, np.nan)
        note = f"1 of {len(trials)} trials was chosen by this figure; chosen again, and scored on other patients"
        self.steps.append(Step(key, title, found, self._counts(), difference, "chosen by this figure", note))

    def _counts(self) -> str:
        """Counts of the last step that has any."""
        return next(each.counts for each in reversed(self.steps) if each.auc)

    def _before(self) -> Estimate:
        return next(each.auc for each in reversed(self.steps) if each.auc)

    def _external(self) -> None:
        key, before = "external", self._before()
        for run in self.found.evaluations(models_of(self.found, self.trial)):
            table = run.predictions("external")
            data = run.tags.get("dataset", "elsewhere")
            if self.level not in levels_of(table.frame):
                self._skip(key, f"external: {data}", f"run {run.run_id} has no level {self.level}")
                continue
            at = table.at(self.level)
            found = Resampled(at.groups, at.labels, seed=self.seed).auc(at).estimate
            difference = unpaired(found, before)
            note = "other patients: the difference is not paired"
            self.steps.append(Step(key, f"external: {data}", found, at.counts(), difference, "other images", note))
        if self.steps[-1].key != key:
            command = f"python -m experiments.evaluate {self.trial.run.identity['study']} --dataset D --root R"
            self._skip(key, "external", f"not evaluated: {command}")


def models_of(found: Runs, trial: Scored) -> set[str]:
    """The trial, and the final that was made of it: runs whose models may have been evaluated."""
    if trial.study is None:
        return {trial.run_id}
    chosen = trial.run_id.rpartition(".")[2]
    finals = found.of_study(trial.study.run_id, (Kind.final,))
    return {trial.run_id, *(each.run_id for each in finals if each.tags.get("chosen") == chosen)}
