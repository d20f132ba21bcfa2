"""No network: fixed statistics of intensity and wavelet details, weighed by a logistic regression."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, ClassVar

import numpy as np
import pywt
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from torch import Tensor, nn

from mammo_lightning.classifiers.base import Classifier
from mammo_lightning.errors import DataError, SettingsError, one_of
from mammo_lightning.registry import CLASSIFIERS

SETS = ("all", "intensity", "wavelet")
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
LEVELS = 3
ABSENT = -30.0
_BATCH_PIXELS = 2**20


@CLASSIFIERS.register("linear")
class Linear(Classifier):
    """Logistic regression on 28 fixed features of each channel: the reference every network has to beat.

    Intensity: mean, spread, extremes, skewness, kurtosis and quantiles. Wavelet (sym3, three levels, orientations
    pooled): spread, mean and greatest magnitude, kurtosis and 99th percentile of the magnitude, in logarithms.
    Solved in under a second, without gradient steps. Images are taken as they are: instead of pixels, the features
    are standardised, on the training rows.

    Tuned: the inverse strength of the L2 penalty (`regularisation`, scikit-learn's C) and the feature set.
    """

    gradient: ClassVar[bool] = False
    feature_settings: ClassVar[tuple[str, ...]] = ("features",)
    defaults: ClassVar[dict[str, Any]] = {"regularisation": 1.0, "features": "all"}
    ranges: ClassVar[dict[str, str]] = {"regularisation": "(0, 1e9]"}
    preferred: ClassVar[dict[str, Any]] = {}
    search_space: ClassVar[dict[str, BaseDistribution]] = {
        "regularisation": FloatDistribution(1e-3, 1e2, log=True),
        "features": CategoricalDistribution(SETS),
    }

    def build(self) -> nn.Module:
        """Features, their standardisation and one linear layer."""
        chosen, strength = self.settings["features"], self.settings["regularisation"]
        if chosen not in SETS:
            raise SettingsError(f"no features {chosen!r}; {one_of(SETS)}")
        if not strength > 0:
            raise SettingsError(f"regularisation is {strength!r}; linear needs a number above 0 (1.0 is usual)")
        statistics = Statistics(chosen)
        count = statistics.count * self.shape[0]
        output = nn.Linear(count, self.outputs)
        nn.init.zeros_(output.weight)
        nn.init.zeros_(output.bias)
        return nn.Sequential(OrderedDict(statistics=statistics, scale=Scale(count), output=output))

    def standardise(self, images: Tensor) -> Tensor:
        """Images as they are: so features can be computed once for all folds."""
        return images

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """The features of images (number x features), before standardisation; the same in every fold."""
        step = max(1, _BATCH_PIXELS // max(1, images[0].numel())) if len(images) else 1
        statistics = self.network.get_submodule("statistics")
        return torch.cat([statistics(part) for part in torch.split(images, step)])

    def solve_features(self, features: Tensor, labels: Tensor, weights: Tensor) -> None:
        """Fit on what `features` gave for the training images; `weights` has one number an image."""
        from sklearn.linear_model import LogisticRegression  # seconds

        targets = labels.cpu().numpy().astype(int)
        if len(np.unique(targets)) < 2:
            raise DataError(f"all {len(targets)} training labels are {targets[0]}; linear needs both classes")
        scale: Scale = self.network.get_submodule("scale")  # type: ignore[assignment]
        scale.fit(features)
        model = LogisticRegression(C=self.settings["regularisation"], max_iter=5000)
        model.fit(scale(features).cpu().double().numpy(), targets, sample_weight=weights.cpu().double().numpy())
        output: nn.Linear = self.network.get_submodule("output")  # type: ignore[assignment]
        with torch.no_grad():
            if not self.sides:
                output.weight.copy_(torch.from_numpy(model.coef_))
                output.bias.copy_(torch.from_numpy(model.intercept_))
                return
            output.weight.zero_()
            output.bias.fill_(ABSENT)  # a class that no training image has is never expected
            known = torch.from_numpy(model.classes_)
            sign = np.array([[-1.0], [1.0]]) / 2 if len(known) == 2 else np.ones((len(known), 1))
            output.weight[known] = torch.from_numpy(sign * model.coef_).float()
            output.bias[known] = torch.from_numpy(sign[:, 0] * model.intercept_).float()

    @torch.no_grad()
    def logits(self, features: Tensor) -> Tensor:
        """What the network ends in, for each row of what `features` gave."""
        result: Tensor = self.network[1:](features)  # type: ignore[index]
        return result

    def embed(self, images: Tensor) -> Tensor:
        """The standardised features."""
        result: Tensor = self.network[:-1](self.standardise(images))  # type: ignore[index]
        return result

    @property
    def saliency_layer(self) -> nn.Module:
        """The linear layer: the features have no place in the image."""
        return self.network.get_submodule("output")


class Scale(nn.Module):
    """Features in units of their spread over the training rows; a feature without spread is left at zero."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(count))
        self.register_buffer("spread", torch.ones(count))

    def fit(self, features: Tensor) -> None:
        """Take centre and spread from training rows."""
        spread = features.double().std(dim=0, correction=0)
        self.center: Tensor = features.double().mean(dim=0).float().to(self.center)
        self.spread: Tensor = torch.where(spread > 1e-6, spread, torch.inf).float().to(self.spread)

    def forward(self, features: Tensor) -> Tensor:
        """Standardised features."""
        return (features - self.center) / self.spread


class Statistics(nn.Module):
    """The fixed features of each channel: N x C x H x W to N x (C * count)."""

    bank: Tensor

    def __init__(self, chosen: str) -> None:
        super().__init__()
        self.intensity, self.wavelet = chosen != "wavelet", chosen != "intensity"
        self.count = self.intensity * (6 + len(QUANTILES)) + self.wavelet * LEVELS * 5
        low, high = (np.array(part[::-1]) for part in pywt.Wavelet("sym3").filter_bank[:2])
        # approximation, then horizontal, vertical and diagonal details as PyWavelets calls them
        pairs = [(low, low), (high, low), (low, high), (high, high)]
        bank = np.stack([np.outer(rows, columns) for rows, columns in pairs])[:, None]
        self.register_buffer("bank", torch.from_numpy(bank).float(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Features of a batch."""
        number, channels = images.shape[:2]
        planes = images.float().flatten(0, 1)
        parts = []
        if self.intensity:
            parts.append(_intensity(planes.flatten(1)))
        if self.wavelet:
            parts.extend(_detail(bands.flatten(1)) for bands in self.details(planes))
        return torch.cat(parts, dim=1).reshape(number, channels * self.count)

    def details(self, planes: Tensor) -> list[Tensor]:
        """Details of M x H x W planes from the finest level to the coarsest: M x 3 (horizontal, vertical, diagonal)."""
        result = []
        approximation = planes
        for _ in range(LEVELS):
            bands = nn.functional.conv2d(_mirrored(approximation, self.bank.shape[-1])[:, None], self.bank, stride=2)
            approximation = bands[:, 0]
            result.append(bands[:, 1:])
        return result


def _mirrored(planes: Tensor, length: int) -> Tensor:
    """Planes with the half-sample symmetric border that PyWavelets calls `symmetric`, as far as a filter reaches."""
    for axis in (-2, -1):
        size = planes.shape[axis]
        index = torch.arange(2 - length, size + length - 1, device=planes.device) % (2 * size)
        planes = planes.index_select(axis, torch.minimum(index, 2 * size - 1 - index))
    return planes


def _intensity(values: Tensor) -> Tensor:
    """Statistics of M x K pixels."""
    mean, spread, skewness, kurtosis = _moments(values)
    ordered = values.sort(dim=1).values
    places = torch.tensor(QUANTILES, device=values.device) * (values.shape[1] - 1)
    quantiles = ordered[:, places.round().long()]
    rest = [mean, spread, ordered[:, 0], ordered[:, -1], skewness, kurtosis]
    return torch.cat([torch.stack(rest, dim=1), quantiles], dim=1)


def _detail(values: Tensor) -> Tensor:
    """Statistics of M x K detail coefficients; logarithms, since what they measure acts by factors."""
    _, spread, _, kurtosis = _moments(values)
    size = values.abs()
    top = size.topk(max(1, round(0.01 * values.shape[1])), dim=1).values
    rest = torch.stack([spread, size.mean(dim=1), top[:, 0], top[:, -1]], dim=1)
    return torch.cat([rest.clamp(min=1e-6).log(), (kurtosis + 3).clamp(min=1e-3).log()[:, None]], dim=1)


def _moments(values: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean, standard deviation, skewness and excess kurtosis; the last two are zero without spread."""
    mean = values.mean(dim=1)
    centred = values - mean[:, None]
    spread = centred.square().mean(dim=1).sqrt()
    unit = centred / spread.clamp(min=1e-6)[:, None]
    skewness = unit.pow(3).mean(dim=1)
    kurtosis = torch.where(spread > 1e-6, unit.pow(4).mean(dim=1) - 3, 0.0)
    return mean, spread, skewness, kurtosis
