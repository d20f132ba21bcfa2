"""The networks behind an ensemble: kept weights, or fits made again from their seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mammo_lightning import record
from mammo_lightning.datamodules.folds import TEST
from mammo_lightning.elsewhere import WEIGHTS, Elsewhere
from mammo_lightning.ensembles.assemble import Ensemble
from mammo_lightning.errors import DataError, SettingsError
from mammo_lightning.evaluation.calibration import Platt
from mammo_lightning.evaluation.statistics import Estimate
from mammo_lightning.final import Predictor, at_points
from mammo_lightning.ledger import Ledger
from mammo_lightning.plan import Plan
from mammo_lightning.progress import Progress
from mammo_lightning.runs import Scored
from mammo_lightning.scoring.keep import keep_model
from mammo_lightning.tracking.fetch import Fetch
from mammo_lightning.tracking.journal import RunJournal
from mammo_lightning.tracking.serving import Member
from mammo_lightning.tracking.test_reads import TestRead, read_test
from mammo_lightning.training import PREDICTIONS, Task, fit
from mammo_lightning.types import Kind, Predictions, Split, seed_from
from mammo_lightning.wall import read_shared_test


def opened(member: Scored, *, mlruns: Path, root: Path | None, progress: Progress) -> Plan:
    """The study of a run as it was planned, with its images; others than it was made of are refused."""
    if member.recipe is None:
        raise SettingsError(f"run '{member.run_id}' is of no study here: there are no weights to take")
    given = {"mlruns": mlruns, "fresh": False}
    plan = Plan(member.recipe.moved(root).model_copy(update=given), progress)
    if plan.splits.digest != member.tags["folds"]:
        raise DataError(
            f"the images under '{plan.recipe.root or plan.recipe.dataset}' or their folds are not those of "
            f"study '{member.run.identity['study']}'; pass the --root it was made with"
        )
    return plan


@dataclass
class Networks:
    """Opens the images once and finds the weights of every member."""

    mlruns: Path
    root: Path | None
    fetch: Callable[[str], Fetch]
    progress: Progress

    def __post_init__(self) -> None:
        self._plans: dict[str, Plan] = {}

    def plan(self, member: Scored) -> Plan:
        """The study of a member as it was planned, opened once."""
        key = member.study.run_id if member.study else member.run_id
        if key not in self._plans:
            self._plans[key] = opened(member, mlruns=self.mlruns, root=self.root, progress=self.progress)
        return self._plans[key]

    def predictor(self, member: Scored) -> Predictor:
        """What a member says of any image: the mean of its fold models, each calibrated on rows it did not see."""
        plan = self.plan(member)
        task = Task(plan.data, plan.splits, member.tags["classifier"], plan.task.hardware)
        table = Predictions.read(member.run.artifacts / PREDICTIONS)
        folders = self._folders(member, task, sorted(set(table.folds.tolist())))
        calibrators = [
            Platt.fit(rows.labels, rows.scores) for fold in folders if (rows := table.where(table.folds == fold))
        ]
        return Predictor(task, list(folders.values()), calibrators, table)

    def _folders(self, member: Scored, task: Task, folds: list[int]) -> Mapping[int, Path]:
        """The folder of weights of each fold."""
        run = member.run
        if member.kind is Kind.trial:
            settings = json.loads((run.artifacts / "settings.json").read_text())
            seeds = {fold: int(member.tags[f"seed.f{fold}"]) for fold in folds}
            found = Elsewhere(task, self.fetch(run.identity["experiment"]), self.progress).fits(run, settings, seeds)
            return {fold: each.folder for fold, each in zip(folds, found, strict=True)}
        folders = {fold: run.artifacts / "models" / f"f{fold}" for fold in folds}
        lost = [fold for fold, folder in folders.items() if not all((folder / name).is_file() for name in WEIGHTS)]
        if lost and member.kind is not Kind.study:
            raise DataError(f"run '{member.run_id}' kept no weights of fold {lost[0]}; leave it out, or tune it again")
        for fold in lost:
            folders[fold] = self._expert(member, task, fold)
        return folders

    def _expert(self, member: Scored, task: Task, fold: int) -> Path:
        """The fit of an outer fold, made again from its seed."""
        assert member.recipe is not None
        self.progress.say(f"{member.run_id} fold {fold} is not at hand: training it again from its seed")
        settings = json.loads((member.run.artifacts / "settings.json").read_text())
        seed = seed_from(member.recipe.seed, "outer", fold)
        folder = member.run.folder / "folds" / "again" / f"f{fold}"
        return fit(task, fold=fold, settings=settings, seed=seed, folder=folder).folder


def read_test_split(
    networks: Networks, ensemble: Ensemble, run: RunJournal
) -> tuple[Predictions, dict[str, Estimate], TestRead]:
    """Score the test split once with the frozen ensemble, as a counted read."""
    first = ensemble.members[0]
    plan = networks.plan(first)
    splits, recipe = plan.splits, plan.recipe
    if not len(np.flatnonzero(splits.fold == TEST)):
        raise DataError(f"study '{recipe.study}' has no test split to read; leave --test out")
    who = {"study": run.identity["study"], "run": run.run_id}
    predictors = [networks.predictor(each) for each in ensemble.members]  # before the read: it may fail
    if recipe.storage:
        ledger = Ledger(recipe.storage, networks.mlruns)
        try:
            read = read_shared_test(ledger, networks.mlruns, splits, **who)
        finally:
            ledger.close()
    else:
        read = read_test(networks.mlruns, splits, **who)
    images = np.asarray(plan.data.images[read.rows])
    scores = combined(ensemble, predictors, images)
    predictions = predictors[0].task.predictions(scores, read.rows, -1, Split.test)
    with record.ending(run):
        estimates = record.record(
            run,
            predictions,
            split="test",
            level=ensemble.wish.level,
            data=plan.data,
            decide=at_points(ensemble.points(plan.data.levels)),
            title=f"{run.identity['study']} {ensemble.name}, test",
        )
        run.tags({"test_reads": str(read.count), "test_split": splits.test_digest})
    return predictions, estimates, read


def save_model(networks: Networks, ensemble: Ensemble, run: RunJournal) -> Path:
    """The ensemble as one model that can be registered and served."""
    plan = networks.plan(ensemble.members[0])
    members = [
        Member(each.run_id, predictor.folders, [platt.as_dict() for platt in predictor.calibrators])
        for each, predictor in ((each, networks.predictor(each)) for each in ensemble.members)
    ]
    name, points = ensemble.name.replace(" ", "-"), ensemble.points(plan.data.levels)
    return keep_model(run, name, plan.task, members, points, ensemble.wish.level, ensemble.combiner.as_dict())


def combined(ensemble: Ensemble, predictors: list[Predictor], images: NDArray[np.generic]) -> NDArray[np.float64]:
    """The ensemble's score of images in native depth."""
    return ensemble.combiner(np.stack([each.scores(images) for each in predictors]))
