"""The networks behind an ensemble: kept weights, or fits made again from their seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mammo_lightning import record
from mammo_lightning.classifiers import weights
from mammo_lightning.datamodules.folds import TEST
from mammo_lightning.elsewhere import WEIGHTS, Elsewhere
from mammo_lightning.ensembles.assemble import Ensemble
from mammo_lightning.errors import DataError, SettingsError
from mammo_lightning.evaluation.calibration import Platt
from mammo_lightning.evaluation.logistic import logit
from mammo_lightning.evaluation.statistics import Estimate
from mammo_lightning.final import Predictor, at_points
from mammo_lightning.plan import Plan
from mammo_lightning.preprocessing.prepare import prepare
from mammo_lightning.progress import Progress
from mammo_lightning.runs import Scored
from mammo_lightning.scoring.keep import keep_model
from mammo_lightning.tracking.fetch import Fetch
from mammo_lightning.tracking.journal import RunJournal
from mammo_lightning.tracking.serving import Member
from mammo_lightning.tracking.test_reads import TestRead
from mammo_lightning.training import Task, fit, outputs
from mammo_lightning.types import Kind, Predictions, Split, seed_from
from mammo_lightning.wall import opened, read_counted

CHECKED, EXACT = 16, 0.05  # rows, and by how much their log-odds may be apart: bfloat16 is not exact


def planned(member: Scored, *, mlruns: Path, root: Path | None, progress: Progress, storage: str | None = None) -> Plan:
    """The study of a run as it was planned, with its images; others than it was made of are refused."""
    if member.recipe is None:
        raise SettingsError(f"run '{member.run_id}' is of no study here: there are no weights to take")
    given = {"mlruns": mlruns, "fresh": False}
    with opened(storage, mlruns) as shared:
        plan = Plan(member.recipe.moved(root).model_copy(update=given), progress, shared)
    if plan.splits.digest != member.tags["folds"]:
        raise DataError(
            f"the images under '{plan.recipe.root or plan.recipe.dataset}' or their folds are not those of "
            f"study '{member.run.identity['study']}'; pass the --root it was made with"
        )
    return plan


@dataclass
class Networks:
    """Opens the images once and finds the weights of every member.

    `storage` is what machines share: the test split is counted there too.
    """

    mlruns: Path
    root: Path | None
    fetch: Callable[[str], Fetch]
    progress: Progress
    storage: str | None = None

    def __post_init__(self) -> None:
        self._plans: dict[str, Plan] = {}
        self._predictors: dict[str, Predictor] = {}

    def plan(self, member: Scored) -> Plan:
        """The study of a member as it was planned, opened once."""
        key = member.study.run_id if member.study else member.run_id
        if key not in self._plans:
            self._plans[key] = planned(
                member, mlruns=self.mlruns, root=self.root, progress=self.progress, storage=self.storage
            )
        return self._plans[key]

    def predictor(self, member: Scored) -> Predictor:
        """What a member says of any image: the mean of its fold models, each calibrated on rows it did not see.

        Every fold model is loaded, and gives the scores of some rows back that the run kept, or is refused.
        """
        if member.run_id not in self._predictors:
            self._predictors[member.run_id] = self._made(member)
        return self._predictors[member.run_id]

    def _made(self, member: Scored) -> Predictor:
        plan = self.plan(member)
        task = Task(plan.data, plan.splits, member.tags["classifier"], plan.task.hardware)
        table = member.predictions()
        folders = self._folders(member, task, sorted(set(table.folds.tolist())))
        parts = {fold: table.where(table.folds == fold) for fold in folders}
        for fold, folder in folders.items():
            _check(member, plan, folder, parts[fold])
        calibrators = [Platt.fit(rows.labels, rows.scores) for rows in parts.values()]
        return Predictor(task, list(folders.values()), calibrators, table)

    def _folders(self, member: Scored, task: Task, folds: list[int]) -> Mapping[int, Path]:
        """The folder of weights of each fold."""
        run = member.run
        if member.kind is Kind.trial:
            settings = member.settings
            seeds = {fold: int(member.tags[f"seed.f{fold}"]) for fold in folds}
            found = Elsewhere(task, self.fetch(run.identity["experiment"]), self.progress).fits(run, settings, seeds)
            return {fold: each.folder for fold, each in zip(folds, found, strict=True)}
        folders = {fold: run.artifacts / "models" / f"f{fold}" for fold in folds}
        lost = [fold for fold, folder in folders.items() if not self._at_hand(member, folder)]
        if lost and member.kind is not Kind.study:
            raise DataError(f"run '{member.run_id}' kept no weights of fold {lost[0]}; leave it out, or tune it again")
        for fold in lost:
            folders[fold] = self._expert(member, task, fold)
        return folders

    def _at_hand(self, member: Scored, folder: Path) -> bool:
        """Whether the weights of a fold are here, or could be fetched from where they were published."""
        fetch, run = self.fetch(member.run.identity["experiment"]), member.run
        within = folder.relative_to(run.artifacts)
        return all(
            (folder / name).is_file() or fetch(run.run_id, f"{within}/{name}", folder / name) for name in WEIGHTS
        )

    def _expert(self, member: Scored, task: Task, fold: int) -> Path:
        """The fit of an outer fold, made again from its seed."""
        assert member.recipe is not None
        self.progress.say(f"{member.run_id} fold {fold} is not at hand: training it again from its seed")
        settings = member.settings
        seed = seed_from(member.recipe.seed, "outer", fold)
        folder = member.run.folder / "folds" / "again" / f"f{fold}"
        return fit(task, fold=fold, settings=settings, seed=seed, folder=folder).folder


def _check(member: Scored, plan: Plan, folder: Path, rows: Predictions) -> None:
    """Refuse weights that are not those whose predictions the run kept, by a few of these."""
    some = rows.frame.head(CHECKED)
    classifier = weights.load(folder)
    places = pd.Index(plan.data.frame["image"]).get_indexer(some["image"])
    images = prepare(np.asarray(plan.data.images[places]), plan.data.scale, classifier.settings)
    odds = logit(torch.sigmoid(classifier.positive(outputs(classifier, images))).numpy())
    known = logit(some[f"p_{rows.classes[-1]}"].to_numpy())
    if not np.allclose(odds, known, rtol=EXACT, atol=EXACT):
        raise DataError(
            f"the weights in '{folder}' do not give back what run '{member.run_id}' predicted with them (log-odds "
            f"differ by up to {np.abs(odds - known).max():.2g}): others, or made again elsewhere. "
            "Restore them, or leave the run out"
        )


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
    predictors = [networks.predictor(each) for each in ensemble.members]  # before the read: it may refuse
    shared = any(each.borrowed or (each.study and each.study.read_tags().get("storage")) for each in ensemble.members)
    if networks.storage is None and shared:
        networks.progress.say("warning: this read is counted on this machine alone; --storage counts it for all")
    read = read_counted(networks.storage, networks.mlruns, splits, **who)
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
