"""What a losing trial need not keep: models and checkpoints, never predictions, curves or figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from mammo_lightning.tracking.journal import RunJournal

MOST_FPR = 0.2  # of a pair of objectives: trials above it stand behind all others
MODELS = "models"
#: what a fit leaves that is large and that no figure is computed from
CHECKPOINTS = ("model.safetensors", "*.ckpt")


def order(values: tuple[float, ...]) -> tuple[float, ...]:
    """What trials are sorted by, the best first: a value, or a pair of TPR and FPR."""
    if len(values) == 1:
        return (-values[0],)
    tpr, fpr = values
    return (0, -tpr, fpr) if fpr <= MOST_FPR else (1, fpr, -tpr)


def losers(values: Mapping[str, tuple[float, ...]], keep: int) -> list[str]:
    """Names of all but the `keep` best; of equals the earlier one is the better.

    Args:
        values: Objectives of the completed trials, in the order of their slots.
        keep: How many stay.
    """
    return sorted(values, key=lambda name: order(values[name]))[max(keep, 0) :]


def models(run: RunJournal) -> list[Path]:
    """Every file of a run that holds weights, or belongs to a model made of them."""
    found = [path for pattern in CHECKPOINTS for path in (run.folder / "folds").rglob(pattern)]
    for folder in (run.artifacts / MODELS, run.folder / MODELS):
        found += [path for path in folder.rglob("*") if path.is_file()]
    return sorted(found)


def weigh(paths: Iterable[Path]) -> int:
    """Bytes that come free where these files are removed: a file with several names counts once, with its last."""
    names: dict[tuple[int, int], int] = {}
    sizes: dict[tuple[int, int], int] = {}
    for path in paths:
        found = path.stat()
        key = (found.st_dev, found.st_ino)
        names[key] = names.get(key, found.st_nlink) - 1
        sizes[key] = found.st_size
    return sum(sizes[key] for key, left in names.items() if left <= 0)


def free(run: RunJournal) -> int:
    """Remove the models and checkpoints of a run, in the tracking store too once that is published; returns bytes."""
    paths = models(run)
    if not paths:
        return 0
    size = weigh(paths)
    run.drop(MODELS)
    remove(paths)
    return size


def remove(paths: Iterable[Path]) -> None:
    """Remove files; those that are gone already are no matter."""
    for path in paths:
        path.unlink(missing_ok=True)
