"""Write an ensemble as a model folder that MLflow can log, register and serve."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammo_lightning.errors import TrackingError
from mammo_lightning.tracking.files import PART, link_whole, replace_tree
from mammo_lightning.tracking.manifest import MANIFEST, TRAINED_ON, read_manifest
from mammo_lightning.tracking.servable import Servable, load_servable

__all__ = ["Member", "Servable", "load_servable", "pixel_codes", "save_servable"]

#: what is imported to score an image; naming them spares MLflow loading the model to find out
REQUIREMENTS = (
    *("mlflow", "numpy", "pandas", "torch", "torchvision", "safetensors", "pytorch-lightning", "optuna", "scipy"),
    *("scikit-learn", "PyWavelets", "opencv-python-headless", "pydantic"),
)


@dataclass(frozen=True)
class Member:
    """A member of an ensemble: folders of weights and configuration, and a calibrator for each.

    A calibrator is `{"slope", "intercept"}`, or what `evaluation.calibrators` writes; it was fitted on rows that the
    fit did not see.
    """

    name: str
    fits: Sequence[Path]
    calibrators: Sequence[Mapping[str, Any]]


def save_servable(
    folder: Path,
    *,
    members: Sequence[Member],
    classes: Sequence[str],
    threshold: float,
    scale: float,
    dtype: str,
    shape: tuple[int, int, int],
    example: NDArray[Any],
    combiner: Mapping[str, Any] | None = None,
    reading: Mapping[str, Any] | None = None,
    trained_on: NDArray[np.uint64] | None = None,
    extra: Mapping[str, Any],
) -> Path:
    """Write an ensemble as an MLflow model folder, replacing what stood there.

    Args:
        folder: The model folder to write.
        members: In the order of the combiner's weights.
        classes: Class names, the positive one last.
        threshold: A combined score that reaches it is called positive.
        scale: The value that stands for white.
        dtype: Native type of the pixels.
        shape: Channels, height and width.
        example: Two images, N x C x H x W in native type.
        combiner: What `Combiner.as_dict` gives; the mean of the members without one.
        reading: How a file becomes pixels, as keys of `manifest.Reading`.
        trained_on: Digests of the pixels that were seen, as `pixel_codes` gives them.
        extra: What else a reader should know: spacing, rule, level and thresholds of the operating points.
    """
    if not members:
        raise TrackingError("no member to serve; pass one or more")
    numbers: list[list[int]] = []
    sources: list[Path] = []
    for member in members:
        if not member.fits or len(member.fits) != len(member.calibrators):
            raise TrackingError(
                f"member {member.name!r} has {len(member.fits)} fits and {len(member.calibrators)} calibrators; pass "
                "one calibrator a fit"
            )
        numbers.append(list(range(len(sources), len(sources) + len(member.fits))))
        sources += member.fits
    manifest = {
        **extra,
        "classes": list(classes),
        "threshold": float(threshold),
        "scale": float(scale),
        "dtype": dtype,
        "shape": list(shape),
        "members": [
            {"name": member.name, "fits": fits, "calibrators": [dict(each) for each in member.calibrators]}
            for member, fits in zip(members, numbers, strict=True)
        ],
        "combiner": dict(combiner or {"rule": "mean", "weights": [1.0 / len(members)] * len(members)}),
        "reading": dict(reading or {}),
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.", suffix=PART) as scratch:
        ensemble = Path(scratch) / "servable"
        ensemble.mkdir()
        (ensemble / MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True))
        read_manifest(ensemble)  # what could not be read back is refused now
        if trained_on is not None:
            np.save(ensemble / TRAINED_ON, np.unique(trained_on))
        model = Path(scratch) / "model"
        _save(model, ensemble, classes=classes, dtype=dtype, shape=shape, example=example, manifest=manifest)
        for number, source in enumerate(sources):  # not by MLflow, which would copy the weights
            for name in ("model.safetensors", "config.json"):
                link_whole(source / name, model / "artifacts" / "servable" / "members" / str(number) / name)
        replace_tree(model, folder)
    return folder


def pixel_codes(digests: Iterable[str]) -> NDArray[np.uint64]:
    """Digests of pixels, 16 hex digits each, as numbers."""
    return np.array([int(each, 16) for each in digests], np.uint64)


def _save(
    model: Path,
    ensemble: Path,
    *,
    classes: Sequence[str],
    dtype: str,
    shape: tuple[int, int, int],
    example: NDArray[Any],
    manifest: dict[str, Any],
) -> None:
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import ColSpec, DataType, Schema, TensorSpec

    columns = [*(ColSpec(DataType.double, f"p_{name}") for name in classes), ColSpec(DataType.boolean, "positive")]
    signature = ModelSignature(Schema([TensorSpec(np.dtype(dtype), (-1, *shape))]), Schema(columns))
    mlflow.pyfunc.save_model(
        path=str(model),
        python_model=str(Path(__file__).with_name("served.py")),
        artifacts={"servable": str(ensemble)},
        signature=signature,
        input_example=np.asarray(example, dtype=dtype),
        pip_requirements=list(_requirements()),
        metadata=manifest,
    )
    description = Model.load(str(model))
    # where the files came from means nothing elsewhere; they are found by name beside this description
    description.flavors["python_function"]["model_code_path"] = "served.py"
    description.flavors["python_function"]["artifacts"]["servable"]["uri"] = "artifacts/servable"
    description.save(str(model / "MLmodel"))
    for cache in model.rglob("__pycache__"):
        shutil.rmtree(cache)


@functools.cache
def _requirements() -> tuple[str, ...]:
    found = []
    for name in REQUIREMENTS:
        try:
            found.append(f"{name}=={version(name).partition('+')[0]}")
        except PackageNotFoundError:
            continue
    return tuple(found)
