"""Served models made on the spot: weights drawn at random, or those of a tiny study."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mammo_lightning.classifiers import weights
from mammo_lightning.registry import CLASSIFIERS
from mammo_lightning.tracking.journal import Journal, RunJournal
from mammo_lightning.tracking.serving import Member, save_servable

PLATTS = [{"slope": 1.0, "intercept": 0.0}, {"slope": 2.0, "intercept": -1.0}, {"slope": 0.5, "intercept": 0.3}]
SIDE = 24


def fit_folder(
    folder: Path, seed: int, preprocessing: str = "none", shape: tuple[int, int, int] = (1, SIDE, SIDE)
) -> Path:
    """A network that was never trained, as a fit leaves one."""
    torch.manual_seed(seed)
    network = CLASSIFIERS.get("linear")(shape=shape, settings={"preprocessing": preprocessing})
    torch.nn.init.normal_(network.network.get_submodule("output").weight, std=0.3)
    weights.save(network, folder, name="linear")
    return folder


def images(count: int, dtype: str = "uint16", side: int = SIDE, seed: int = 0) -> np.ndarray:
    """Noise of a given depth, N x 1 x side x side."""
    top = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, top + 1, (count, 1, side, side)).astype(dtype)


def save_model(folder: Path, scratch: Path, **changes: Any) -> Path:
    """A model of one member with two fits, unless something else is asked for."""
    dtype = changes.get("dtype", "uint16")
    shape = changes.get("shape", (1, SIDE, SIDE))
    fits = [fit_folder(scratch / f"fit{seed}", seed, name, shape) for seed, name in enumerate(("none", "gcn"))]
    given = {
        "members": [Member("one", fits, PLATTS[:2])],
        "classes": ["benign", "malignant"],
        "threshold": 0.5,
        "scale": float(np.iinfo(dtype).max),
        "dtype": dtype,
        "shape": shape,
        "example": images(2, dtype, shape[-1]),
        "extra": {"rule": "spec0.80", "level": "patch", "points": {"patch": 0.5}, "run": "made-1.final"},
    }
    return save_servable(folder, **(given | changes))


def served_run(
    mlruns: Path, *, name: str = "made-1.final", tags: Mapping[str, str] | None = None, **changes: Any
) -> RunJournal:
    """A completed run of the journal that keeps such a model."""
    journal = Journal(mlruns)
    study = journal.run(name.partition(".")[0])
    study.begin(kind="study", name="made", study="made", parent=None, experiment="folder", tags={})
    run = journal.run(name)
    run.begin(kind="final", name="final", study="made", parent=study.run_id, experiment="folder", tags=tags or {})
    run.dataset("folder", "learned-from", "somewhere")
    folder = save_model(run.folder / "models" / "final", mlruns / "fits", **changes)
    run.model(folder, "final", {})
    run.end("completed")
    return run
