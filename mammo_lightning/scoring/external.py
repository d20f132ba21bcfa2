"""A finished model on a second labelled dataset: its preprocessing and its threshold stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mammo_lightning import record
from mammo_lightning.datamodules.base import MammoDataModule
from mammo_lightning.datamodules.folds import TEST, Splits, frozen_test_groups
from mammo_lightning.errors import DataError, LeakError, SettingsError
from mammo_lightning.evaluation.statistics import Estimate
from mammo_lightning.final import at_points
from mammo_lightning.progress import Progress
from mammo_lightning.reports import Row, Summary
from mammo_lightning.tracking.journal import Journal, RunJournal
from mammo_lightning.tracking.manifest import Manifest
from mammo_lightning.tracking.servable import Servable
from mammo_lightning.tracking.serving import pixel_codes
from mammo_lightning.tracking.test_reads import TestRead, read_test
from mammo_lightning.types import PLACE_COLUMNS, Kind, Level, OperatingPoint, Predictions, Split, digest

SOME = 3  # names in a message
ALIKE = 1.25  # ratio of two pixels' sides up to which nothing is said


@dataclass
class External:
    """One evaluation: the model, the dataset, and what was found on the way."""

    servable: Servable
    model: Mapping[str, str]
    data: MammoDataModule
    progress: Progress
    lines: list[str] = field(default_factory=list)

    def check(self, positive_is: str | None) -> None:
        """Refuse a dataset that the model cannot say anything about, in one line."""
        about, data = self.servable.about, self.data
        if data.domain != about.reading.domain:
            raise DataError(
                f"dataset {data.name!r} is of {data.domain}, and the model was trained on {about.reading.domain}; they "
                "are never mixed"
            )
        if str(data.images.dtype) != about.dtype or data.shape != about.shape:
            theirs, ours = (" x ".join(map(str, shape)) for shape in (data.shape, about.shape))
            raise DataError(
                f"images of {data.name!r} are {theirs} of {data.images.dtype}, and the model takes {ours} of "
                f"{about.dtype}; bring them to that size (--size {about.shape[1]}) and depth"
            )
        _check_classes(about, data, positive_is)
        if not self.levels:
            raise DataError(
                f"the model has a threshold at level {', '.join(about.points)}, which {data.name!r} does not have "
                f"(it has {', '.join(data.levels)}); evaluate it on images that do"
            )
        if data.source == about.reading.source or data.digest == self.model.get("dataset"):
            raise LeakError(
                f"the model was trained on these images: dataset {data.name!r} is that of run '{self.model['run']}', "
                "whose own test figures stand there. Pass another dataset"
            )

    @property
    def levels(self) -> list[Level]:
        """The levels that have a frozen threshold."""
        return [level for level in self.data.levels if level in self.servable.about.points]

    @property
    def synthetic(self) -> bool:
        """Whether images are generated, those that were learned from or these."""
        return bool(self.data.synthetic) or self.servable.about.reading.synthetic

    @property
    def level(self) -> Level:
        """The level that the model was judged at, or the first that can be judged here."""
        return self.servable.about.level if self.servable.about.level in self.levels else self.levels[0]

    def check_pixels(self) -> None:
        """Say where lesions look larger or smaller to the model than those it learned."""
        here, there = self.data.spacing_mm, self.servable.about.spacing_mm
        if here and there and not 1 / ALIKE <= here / there <= ALIKE:
            ratio, word = (there / here, "large") if here < there else (here / there, "small")
            self.lines.append(
                f"warning: a pixel is {here:.3g} mm here, and {there:.3g} mm where the model learned: everything looks "
                f"{ratio:.1f} times as {word} to it"
            )

    def rows(self) -> NDArray[np.int64]:
        """Rows of patients of whom no image, pixel for pixel, was seen in training."""
        frame = self.data.frame
        if not len(self.servable.trained_on):
            self.lines.append(
                "warning: the model does not say which images it was trained on; that none is among these is unverified"
            )
            return np.arange(len(frame))
        known = np.isin(pixel_codes(frame["pixels"]), self.servable.trained_on)
        if not known.any():
            return np.arange(len(frame))
        groups = set(frame["group"][known])
        left = np.flatnonzero(~frame["group"].isin(groups).to_numpy())
        if len(set(frame["label"].iloc[left])) < 2:
            names = ", ".join(frame["image"][known].iloc[:SOME])
            raise LeakError(
                f"the model was trained on {int(known.sum())} of these {len(frame)} images ({names} ...), and without "
                "their patients no two classes are left. Pass another dataset"
            )
        self.lines.append(
            f"warning: {int(known.sum())} images were seen when the model was trained ({frame['image'][known].iloc[0]} "
            f"...); all {len(frame) - len(left)} images of their {len(groups)} patients are left out"
        )
        return left

    def predictions(self, rows: NDArray[np.int64]) -> Predictions:
        """The scores of some rows."""
        scores, step = [], self.servable.batch
        starts = range(0, len(rows), step)
        for start in self.progress.loop(starts, "scoring batch", len(starts)):
            part = rows[start : start + step]
            names = self.data.frame["image"].iloc[part].tolist()
            scores.append(self.servable(np.asarray(self.data.images[part]), names))
        return self.table(rows, np.concatenate(scores))

    def table(self, rows: NDArray[np.int64], scores: NDArray[np.float64]) -> Predictions:
        """Scores with what is known of their images; the classes are called as the model calls them."""
        frame = self.data.frame.iloc[rows].reset_index(drop=True)
        kept = frame[["image", "patient", "group", "view"]].assign(
            fold=-1, split=str(Split.external), label=frame["label"]
        )
        negative, positive = self.servable.classes
        kept = kept.assign(**{f"p_{negative}": 1.0 - scores, f"p_{positive}": scores})
        carried = [*(name for name in PLACE_COLUMNS if name in frame), *self.data.subgroups]
        return Predictions(kept.assign(**{name: frame[name] for name in carried}))

    def read(self, rows: NDArray[np.int64], mlruns: Path, run: str) -> list[TestRead]:
        """Count that these images were looked at, and the test split that studies of theirs keep closed."""
        frame = self.data.frame.iloc[rows]
        frozen = frame["group"].isin(frozen_test_groups(self.data)) | frame["split"].eq("test")
        found = []
        for part in (frame, frame[frozen]) if 0 < frozen.sum() < len(frame) else (frame,):
            columns = [name for name in ("image", "group", "label", "content") if name in part]
            splits = Splits(part[columns].reset_index(drop=True).assign(fold=TEST), self.data.digest)
            found.append(read_test(mlruns, splits, study=self.model["name"], run=run))
        return found


def _check_classes(about: Manifest, data: MammoDataModule, positive_is: str | None) -> None:
    theirs, ours = data.classes, about.classes
    if positive_is is not None and positive_is != theirs[-1]:
        raise SettingsError(
            f"--positive-is {positive_is!r} is not the positive class of {data.name!r}, which is {theirs[-1]!r}"
            + (f"; pass --positive {positive_is} to make it that" if positive_is in theirs else "")
        )
    if positive_is is None and theirs[-1] != ours[-1]:
        turned = theirs[0] == ours[-1]
        cure = f"pass --positive {theirs[0]}" if turned else f"if they mean the same, pass --positive-is '{theirs[-1]}'"
        raise SettingsError(
            f"the model tells {ours[-1]!r} from {ours[0]!r}, and {data.name!r} has {theirs[-1]!r} and {theirs[0]!r}; "
            f"{cure}"
        )


def evaluate(external: External, mlruns: Path, *, about: Mapping[str, str]) -> tuple[Summary, RunJournal]:
    """Score a dataset with a frozen model, and keep it as a run of kind `external`.

    Args:
        external: What is to be evaluated, checked.
        mlruns: The tracking folder.
        about: Further tags.
    """
    data, servable = external.data, external.servable
    external.check_pixels()
    rows = external.rows()
    run = Journal(mlruns).run(
        f"external-{data.name}-{digest(external.model['digest'], data.digest, *external.levels)[:8]}"
    )
    point = servable.about
    if external.level is not point.level:
        external.lines.append(
            f"warning: judged at level {external.level}; the model was judged at {point.level}, which these images do "
            "not have (patches that tile what they stand for: --sampling exhaustive)"
        )
    run.begin(
        kind=Kind.external,
        name=f"{data.name} by {external.model['name']}",
        study="",
        parent=None,
        experiment=data.name,
        tags={
            **about,
            "dataset": data.name,
            "domain": data.domain,
            "synthetic": str(external.synthetic).lower(),
            "level": str(external.level),
            "operating_point": point.rule,
            "model": external.model["name"],
            "model_run": external.model["run"],
            "model_digest": external.model["digest"],
            "threshold_origin": "frozen with the model",
            "classes": " / ".join(
                f"{mine} = {theirs}" for mine, theirs in zip(point.classes, data.classes, strict=True)
            ),
        },
    )
    with record.ending(run):
        run.dataset(data.name, data.digest, str(data.root or data.name), split=str(Split.external))
        predictions = external.predictions(rows)
        read = external.read(rows, mlruns, run.run_id)
        points = {level: OperatingPoint(point.points[level], level, point.rule) for level in external.levels}
        record.record_point(run, {str(level): each for level, each in points.items()}, "frozen with the model")
        estimates = record.record(
            run,
            predictions,
            split="external",
            level=external.level,
            data=external,
            decide=at_points(points),
            title=f"{data.name} by {external.model['name']}, external",
        )
        run.tags({"external_reads": str(read[0].count)})
        threshold = points[external.level].threshold
        summary = Summary(f"{data.name} by {external.model['name']}", run.run_id, point.rule, external.synthetic)
        summary.kind = "external"
        at = predictions.at(external.level)
        row = Row(external.model["name"], "external", estimates["auc"], at.counts(), estimates["tpr"], estimates["fpr"])
        summary.rows.append(row)
        summary.lines += [*external.lines, *told(estimates, threshold, at)]
        summary.lines += [reads_line(read[0]), *(f"warning: among them is a {other}" for other in read[1:])]
        run.write("summary.md", summary.markdown())
        run.note(f"external: AUC {estimates['auc']} · {at.counts()}\n\n{summary.markdown()}")
    return summary, run


def reads_line(read: TestRead) -> str:
    """How often these images have been looked at: the more often, the less they say."""
    times = "once" if read.count == 1 else f"{read.count} times"
    return f"external images read {times}, by {read.studies} {'model' if read.studies == 1 else 'models'}"


def told(estimates: Mapping[str, Estimate], threshold: float, at: Predictions) -> list[str]:
    """Sensitivity and specificity at the threshold, and calibration, as sentences."""
    fpr = estimates["fpr"]
    specificity = fpr.complement()
    share = float(np.mean(at.labels))
    return [
        f"at the frozen threshold {threshold:.4g}: sensitivity {estimates['tpr']}, specificity {specificity}",
        f"calibration: {_calibration(estimates)}; {share:.0%} of these are positive, and the model's probabilities are "
        "of the share it was trained with",
    ]


def _calibration(estimates: Mapping[str, Estimate]) -> str:
    """The figures that there are."""
    known = {name: each for name, each in estimates.items() if np.isfinite(each.value)}
    told = []
    for name, right in (("slope", 1), ("intercept", 0)):
        each = known.get(f"calibration_{name}")
        told.append(f"no {name} can be told" if each is None else f"{name} {each} ({right} is right)")
    return ", ".join([*told, *([f"ECE {known['ece']}"] if "ece" in known else [])])
