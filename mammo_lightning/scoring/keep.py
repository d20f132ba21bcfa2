"""A finished predictor as a model of its run: everything that is needed to score an image, in one folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mammo_lightning.datamodules.folds import TEST
from mammo_lightning.scoring.reading import reading_of
from mammo_lightning.task import Task
from mammo_lightning.tracking.journal import RunJournal
from mammo_lightning.tracking.serving import Member, pixel_codes, save_servable
from mammo_lightning.types import Level, OperatingPoint


def keep_model(
    run: RunJournal,
    name: str,
    task: Task,
    members: Sequence[Member],
    points: Mapping[Level, OperatingPoint],
    level: Level,
    combiner: Mapping[str, Any] | None = None,
) -> Path:
    """Write members, weights, calibration, spacing and thresholds together, and have the run keep them.

    Args:
        run: Whose model it is.
        name: Of the model.
        task: The images and folds the members learned from.
        members: In the order of the combiner's weights.
        points: The frozen threshold at each level.
        level: At which the run was judged.
        combiner: What `Combiner.as_dict` gives; one member needs none.
    """
    data = task.data
    folder = save_servable(
        run.folder / "models" / name,
        members=members,
        combiner=combiner,
        classes=list(data.classes),
        threshold=points[level].threshold,
        scale=data.scale,
        dtype=str(data.images.dtype),
        shape=data.shape,
        example=np.asarray(data.images[:2]),
        reading=reading_of(data).model_dump(),
        trained_on=pixel_codes(data.frame["pixels"][task.splits.fold > TEST]),
        extra={
            "spacing_mm": data.spacing_mm,
            "rule": points[level].rule,
            "level": str(level),
            "points": {str(each): point.threshold for each, point in points.items()},
            "run": run.run_id,
        },
    )
    metrics = run.read_metrics()
    run.model(
        folder,
        name,
        {key: value for key, value in metrics.items() if key.startswith(("val_", "test_")) and "/" not in key},
    )
    return folder
