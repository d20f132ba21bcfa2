"""Write an ensemble as a model folder that MLflow can log, register and serve."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammo_lightning.errors import TrackingError
from mammo_lightning.tracking.files import PART, link_whole, replace_tree
from mammo_lightning.tracking.servable import MANIFEST, Servable, load_servable

__all__ = ["Servable", "load_servable", "save_servable"]

#: what is imported to score an image; naming them spares MLflow loading the model to find out
REQUIREMENTS = (
    *("mlflow", "numpy", "pandas", "torch", "torchvision", "safetensors", "pytorch-lightning", "optuna", "scipy"),
    *("scikit-learn", "PyWavelets", "opencv-python-headless"),
)


def save_servable(
    folder: Path,
    *,
    members: Sequence[Path],
    calibrators: Sequence[Mapping[str, float]],
    classes: Sequence[str],
    threshold: float,
    scale: float,
    dtype: str,
    shape: tuple[int, int, int],
    example: NDArray[Any],
    extra: Mapping[str, Any],
) -> Path:
    """Write an ensemble as an MLflow model folder, replacing what stood there.

    Args:
        folder: The model folder to write.
        members: Folders of weights and configuration.
        calibrators: Slope and intercept for each member, fitted on rows it did not see.
        classes: Class names, the positive one last.
        threshold: A mean score that reaches it is called positive.
        scale: The value that stands for white.
        dtype: Native type of the pixels.
        shape: Channels, height and width.
        example: Two images, N x C x H x W in native type.
        extra: What else a reader should know: spacing, rule and level of the operating point.
    """
    if not members or len(members) != len(calibrators):
        raise TrackingError(f"{len(members)} members and {len(calibrators)} calibrators; pass one calibrator a member")
    manifest = {
        **extra,
        "classes": list(classes),
        "threshold": float(threshold),
        "scale": float(scale),
        "dtype": dtype,
        "shape": list(shape),
        "calibrators": [dict(platt) for platt in calibrators],
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.", suffix=PART) as scratch:
        ensemble = Path(scratch) / "servable"
        ensemble.mkdir()
        (ensemble / MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True))
        model = Path(scratch) / "model"
        _save(model, ensemble, classes=classes, dtype=dtype, shape=shape, example=example, manifest=manifest)
        for number, member in enumerate(members):  # not by MLflow, which would copy the weights
            for name in ("model.safetensors", "config.json"):
                link_whole(member / name, model / "artifacts" / "servable" / "members" / str(number) / name)
        replace_tree(model, folder)
    return folder


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
