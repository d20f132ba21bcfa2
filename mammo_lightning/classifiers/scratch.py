"""The network trained from scratch on 150 x 150 patches of CBIS-DDSM."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, ClassVar

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from torch import Tensor, nn

from mammo_lightning.classifiers.base import Classifier
from mammo_lightning.errors import DataError, SettingsError
from mammo_lightning.registry import CLASSIFIERS

SMALLEST = 46  # four times: two pixels less, then half


@CLASSIFIERS.register("scratch")
class Scratch(Classifier):
    """Four blocks of unpadded 3 x 3 convolution, ReLU and pooling, then 512 dense units.

    From the CBIS-DDSM study of masses and calcifications (CNN-Medical-Imaging-Analysis): 32, 64, 128 and
    `last_filters` filters. Weights start Glorot-uniform.

    Tuned: the filters of the last block, dropout before the output, the L2 penalty on the dense kernel and the
    learning rate.
    """

    defaults: ClassVar[dict[str, Any]] = {"last_filters": 128, "dropout": 0.0, "l2": 0.0}
    ranges: ClassVar[dict[str, str]] = {"last_filters": "[1, 4096]", "dropout": "[0, 1)", "l2": "[0, 100]"}
    preferred: ClassVar[dict[str, Any]] = {"learning_rate": 1e-4, "batch_size": 20}
    search_space: ClassVar[dict[str, BaseDistribution]] = {
        "last_filters": CategoricalDistribution((128, 256)),
        "dropout": CategoricalDistribution((0.0, 0.5)),
        "l2": CategoricalDistribution((0.0, 0.001)),
        "learning_rate": FloatDistribution(1e-5, 1e-3, log=True),
    }

    def build(self) -> nn.Module:
        """The network."""
        last, dropout = self.settings["last_filters"], self.settings["dropout"]
        if not isinstance(last, int) or last < 1:
            raise SettingsError(f"last_filters is {last!r}; scratch needs a whole number, 1 or more (128 is usual)")
        if not 0 <= dropout < 1:
            raise SettingsError(f"dropout is {dropout!r}; scratch needs 0 <= dropout < 1")
        if not self.settings["l2"] >= 0:
            raise SettingsError(f"l2 is {self.settings['l2']!r}; scratch needs 0 or more (0.001 is usual)")
        channels, height, width = self.shape
        if min(height, width) < SMALLEST:
            raise DataError(
                f"images are {height}x{width}; scratch needs {SMALLEST}x{SMALLEST} or more. "
                "Resize them, or try --classifier hyper."
            )
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for block, filters in enumerate((32, 64, 128, last), start=1):
            layers[f"conv_{block}"] = nn.Conv2d(channels, filters, 3)
            layers[f"relu_{block}"] = nn.ReLU()
            layers[f"pool_{block}"] = nn.MaxPool2d(2)
            channels, height, width = filters, (height - 2) // 2, (width - 2) // 2
        layers["flatten"] = nn.Flatten()
        layers["dense"] = nn.Linear(channels * height * width, 512)
        layers["dense_relu"] = nn.ReLU()
        layers["drop"] = nn.Dropout(dropout)
        layers["output"] = nn.Linear(512, self.outputs)
        for layer in layers.values():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        return nn.Sequential(layers)

    def penalty(self) -> Tensor | float:
        """`l2` times the sum of squares of the dense kernel, which Adam's own weight decay is not."""
        if not self.settings["l2"]:
            return 0.0
        kernel: Tensor = self.network.get_submodule("dense").weight  # type: ignore[assignment]
        penalty: Tensor = self.settings["l2"] * kernel.square().sum()
        return penalty

    def embed(self, images: Tensor) -> Tensor:
        """What the 512 dense units give."""
        features: Tensor = self.network[:-1](self.standardise(images))  # type: ignore[index]
        return features

    @property
    def saliency_layer(self) -> nn.Module:
        """The fourth ReLU (15 x 15 for 150 x 150 pixels)."""
        return self.network.get_submodule("relu_4")
