"""The microcalcification hypermodel: a small network whose width, dropout and depth are searched."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, ClassVar

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from torch import Tensor, nn

from mammo_lightning.classifiers.base import Classifier
from mammo_lightning.errors import DataError, SettingsError
from mammo_lightning.registry import CLASSIFIERS

SMALLEST = 8  # three halvings leave one pixel


@CLASSIFIERS.register("hyper")
class Hyper(Classifier):
    """Three blocks of convolution, ReLU, batch norm, pooling and dropout, then up to five dense layers.

    From the INFN study of microcalcification clusters (mammo_classifier), for 60 x 60 gray patches; any image of
    8 x 8 pixels or more is taken. Convolutions have init, 2 init and 4 init filters; dense layer i has
    256 / (i + 1) units. Weights start Glorot-normal.

    `norm_momentum` is the weight of a new batch in the running statistics of batch norm. The study's 0.01 needs some
    hundreds of steps to forget where it started; with fewer, predictions suffer and 0.1 is better.

    Tuned: `init` (filters of the first block), `dropout` (dense part: 0.1 more), `depth` (dense layers), and the
    learning rate.
    """

    defaults: ClassVar[dict[str, Any]] = {"init": 10, "dropout": 0.05, "depth": 1, "norm_momentum": 0.01}
    ranges: ClassVar[dict[str, str]] = {
        "init": "[1, 1024]",
        "dropout": "[0, 0.9)",
        "depth": "[1, 5]",
        "norm_momentum": "(0, 1]",
    }
    preferred: ClassVar[dict[str, Any]] = {"batch_size": 60, "learning_rate": 3e-3}
    search_space: ClassVar[dict[str, BaseDistribution]] = {
        "init": CategoricalDistribution((10, 20, 30)),
        "dropout": CategoricalDistribution((0.0, 0.05)),
        "depth": CategoricalDistribution((1, 2, 3)),
        "preprocessing": CategoricalDistribution(["none", "background"]),
        "learning_rate": FloatDistribution(3e-4, 1e-2, log=True),
    }

    def build(self) -> nn.Module:
        """The network, its layers named as in the study."""
        init, dropout, depth = (self.settings[key] for key in ("init", "dropout", "depth"))
        if not isinstance(init, int) or init < 1:
            raise SettingsError(f"init is {init!r}; hyper needs a whole number of filters, 1 or more (10 is usual)")
        if depth not in range(1, 6):
            raise SettingsError(f"depth is {depth!r}; hyper has 1 to 5 dense layers")
        if not 0 <= dropout < 0.9:
            raise SettingsError(f"dropout is {dropout!r}; hyper needs 0 <= dropout < 0.9 (the dense part adds 0.1)")
        momentum = self.settings["norm_momentum"]
        if not 0 < momentum <= 1:
            raise SettingsError(f"norm_momentum is {momentum!r}; hyper needs 0 < norm_momentum <= 1 (0.01 or 0.1)")
        channels, height, width = self.shape
        if min(height, width) < SMALLEST:
            raise DataError(f"images are {height}x{width}; hyper needs {SMALLEST}x{SMALLEST} or more. Resize them.")
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for block, filters in enumerate((init, 2 * init, 4 * init), start=1):
            layers[f"conv_{block}"] = nn.Conv2d(channels, filters, 3, padding=1)
            layers[f"relu_{block}"] = nn.ReLU()
            layers[f"norm_{block}"] = nn.BatchNorm2d(filters, momentum=momentum, eps=1e-3)
            layers[f"pool_{block}"] = nn.MaxPool2d(2)
            layers[f"drop_{block}"] = nn.Dropout(dropout)
            channels = filters
        layers["flatten"] = nn.Flatten()
        layers["drop"] = nn.Dropout(dropout + 0.1)
        features = channels * (height // 8) * (width // 8)
        for index in range(depth):
            units = 256 // (index + 1)
            layers[f"dense_{index + 1}"] = nn.Linear(features, units)
            layers[f"dense_relu_{index + 1}"] = nn.ReLU()
            features = units
        layers["output"] = nn.Linear(features, self.outputs)
        for layer in layers.values():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        return nn.Sequential(layers)

    def embed(self, images: Tensor) -> Tensor:
        """What the last dense layer gives."""
        features: Tensor = self.network[:-1](self.standardise(images))  # type: ignore[index]
        return features

    @property
    def saliency_layer(self) -> nn.Module:
        """The ReLU after the third convolution (15 x 15 for 60 x 60 pixels)."""
        return self.network.get_submodule("relu_3")
