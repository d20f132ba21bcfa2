"""A trained classifier on disk: weights as safetensors, everything else as JSON. Nothing is unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mammo_lightning.classifiers.base import Classifier
from mammo_lightning.errors import DataError
from mammo_lightning.registry import CLASSIFIERS

WEIGHTS, CONFIG = "model.safetensors", "config.json"


def save(classifier: Classifier, folder: Path, *, name: str, **more: Any) -> None:
    """Write weights and configuration; `more` is what serving needs (classes, scale ...)."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in classifier.state_dict().items()}, folder / WEIGHTS)
    config = {
        "classifier": name,
        "shape": list(classifier.shape),
        "settings": classifier.settings,
        "sides": list(classifier.sides),
        **more,
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True))


def load(folder: Path) -> Classifier:
    """Read what `save` wrote, ready to predict."""
    if not (folder / WEIGHTS).is_file() or not (folder / CONFIG).is_file():
        raise DataError(f"no model at '{folder}'; expected {WEIGHTS} and {CONFIG} of a finished fit")
    try:
        config = json.loads((folder / CONFIG).read_text())
        channels, height, width = config["shape"]
        cls = CLASSIFIERS.get(config["classifier"])
        classifier: Classifier = cls(
            shape=(channels, height, width), settings=config["settings"], sides=config.get("sides", ())
        )
        classifier.load_state_dict(load_file(folder / WEIGHTS))
    except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        told = str(error).partition("\n")[0]
        raise DataError(f"the model at '{folder}' is damaged ({told}); restore it, or remove it") from None
    classifier.eval()
    return classifier
