"""What a recipe comes to: its data, folds, space, goal and hardware, checked before anything is written."""

from __future__ import annotations

from dataclasses import replace
from glob import escape
from typing import Any

from mammo_lightning.datamodules.audit import structure
from mammo_lightning.datamodules.base import MammoDataModule
from mammo_lightning.engine.choice import divide
from mammo_lightning.errors import SettingsError
from mammo_lightning.evaluation import thresholds
from mammo_lightning.hardware import Hardware, choose
from mammo_lightning.identity import identify
from mammo_lightning.ledger import Ledger
from mammo_lightning.opening import divided, open_dataset
from mammo_lightning.progress import Progress
from mammo_lightning.recipe import Recipe
from mammo_lightning.registry import CLASSIFIERS
from mammo_lightning.space import Space, make_space
from mammo_lightning.tracking.journal import EVENTS
from mammo_lightning.training import Task
from mammo_lightning.tuning import Goal
from mammo_lightning.types import Level
from mammo_lightning.wall import bring_split


class Plan:
    """A study that can be run; making one refuses what cannot."""

    def __init__(self, recipe: Recipe, progress: Progress, shared: Ledger | None = None) -> None:
        self.recipe = recipe
        self.classifier = CLASSIFIERS.get(recipe.classifier)
        self.space = self._space()
        self.goal = Goal(recipe.objective, Level(recipe.level), recipe.rule)
        thresholds.parse(recipe.rule)
        self.hardware = choose(recipe.accelerator, recipe.precision)
        self.workers = self._workers()
        self.data: MammoDataModule = open_dataset(recipe, progress)
        self._refuse_level()
        if recipe.objective == "val_macro_auc" and not self.data.targets:
            raise SettingsError(f"--objective val_macro_auc needs finer classes, and {recipe.dataset!r} has two here")
        if shared is not None:
            bring_split(shared, self.data)
        self.splits = divided(recipe, self.data)
        self.task = Task(self.data, self.splits, recipe.classifier)
        for settings in self.space.corners():
            self.classifier(shape=self.data.shape, settings=settings, sides=self.data.sides)

    def _refuse_level(self) -> None:
        """A level above patch needs patches that tile it, and columns that name it."""
        level, data = self.goal.level, self.data
        if level in data.levels:
            return
        known = f"Pass --level {' or '.join(data.levels)}"
        if data.sampling == "selected":
            raise SettingsError(
                f"--level {level} means nothing here: the patches of {self.recipe.dataset!r} were selected, "
                f"they do not tile what they stand for. {known}"
            )
        raise SettingsError(f"--level {level} cannot be told here: its column is not filled in on every row. {known}")

    def identify(self, ledger: Ledger) -> str:
        """Find or found the study; how it computes is kept from then on, whatever machine goes on with it."""
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
        beside = {"precision": self.hardware.precision}
        identity, begun = identify(
            ledger, recipe.study, frozen, fresh=recipe.fresh, beside=beside, elsewhere=self._is_journaled()
        )
        if recipe.precision not in ("auto", begun["precision"]):
            raise SettingsError(
                f"study {recipe.study!r} was begun with --precision {begun['precision']}; leave it out to go on, or "
                "pass --fresh or another --name"
            )
        # where what it was begun with would be emulated, float32 is nearer to it than anything else
        same = begun["precision"] in (self.hardware.precision, "32-true")
        precision = begun["precision"] if same else "32-true"
        self.workers = [replace(each, precision=precision) for each in self.workers]
        self.task.hardware = self.workers[0]
        return identity

    def _is_journaled(self) -> bool:
        folders = (self.recipe.mlruns / "journal").glob(f"{escape(self.recipe.study)}-??????")
        return any((folder / EVENTS).exists() for folder in folders)

    @property
    def tags(self) -> dict[str, str]:
        """What every run of the study is tagged with."""
        return {
            "study": self.recipe.study,
            "dataset": self.recipe.dataset,
            "classifier": self.recipe.classifier,
            "folds": self.splits.digest,
            "leaky": str(self.recipe.group == "image").lower(),
            "synthetic": str(self.data.synthetic).lower(),
            "domain": self.data.domain,
            **({"quick_look": str(self.recipe.limit)} if self.recipe.limit else {}),
            "val_selected": "false",
        }

    def lines(self) -> list[str]:
        """What is said of the data before anything is trained."""
        data = self.data
        found = structure(data.frame, classes=data.classes, unreadable=data.unreadable).lines
        leak = "leak: --group image tears patients apart on purpose; every run is tagged leaky=true"
        counted = [f"note: {count:,} {reason}" for reason, count in data.notices.items()]
        if self.recipe.limit:
            counted.append(f"note: a quick look at {len(data.frame)} images; no test split is read or frozen")
        leaky = [leak] if self.recipe.group == "image" else []
        return [*found, *counted, *self._patients(), *self.splits.notes, *leaky]

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

    def _workers(self) -> list[Hardware]:
        recipe = self.recipe
        fits = recipe.trials * (recipe.folds if recipe.scheme == "cv" else 1)
        return divide(self.hardware, workers=recipe.workers, devices=recipe.devices, share=recipe.gpu_share, fits=fits)
