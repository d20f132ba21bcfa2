"""What every classifier shares: standardised input, a logit for each class, the losses and schedules of training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from optuna.distributions import BaseDistribution
from torch import Tensor, nn

from mammo_lightning.errors import SettingsError


class Classifier(pl.LightningModule, ABC):
    """One network, registered by name, that gives one logit an image: of the positive class.

    Where a task has finer classes, the network has an output for each, and the logit is that of all those together
    that count as positive.

    A subclass states its `defaults` (every setting it takes, with the value used when nobody says otherwise) and
    its `search_space` (Optuna distributions for those worth tuning), and builds its network from `self.settings`.
    The network never sees Optuna, and images reach it standardised by statistics of the training fold.
    """

    defaults: ClassVar[dict[str, Any]] = {}
    #: intervals that its numbers lie in, as {"dropout": "[0, 0.9)"}; without one, a number is 0 or more
    ranges: ClassVar[dict[str, str]] = {}
    search_space: ClassVar[dict[str, BaseDistribution]] = {}
    #: training settings that suit it better than the general defaults
    preferred: ClassVar[dict[str, Any]] = {}
    #: False for a classifier that is solved at once from all training images instead of by gradient steps
    gradient: ClassVar[bool] = True
    #: of a classifier that is solved: the settings its `features` depend on, beside those of the preprocessing
    feature_settings: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        settings: Mapping[str, Any] | None = None,
        sides: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.shape = shape
        #: the label (0 or 1) of each finer class; empty where there are just the two
        self.sides = tuple(sides)
        self.settings: dict[str, Any] = {**self.defaults, **(settings or {})}
        self.pos_weights: tuple[float, float] = (1.0, 1.0)
        self.steps = 1
        self.plateau: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None
        self.watched: list[tuple[Tensor, Tensor]] = []
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(shape[0], 1, 1))
        self.register_buffer("std", torch.ones(shape[0], 1, 1))
        self.network = self.build()

    @property
    def outputs(self) -> int:
        """How many logits the network ends in."""
        return len(self.sides) or 1

    @abstractmethod
    def build(self) -> nn.Module:
        """The network for images of `self.shape` (channels, height, width), ending in `self.outputs` logits."""

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """The features (batch x features) in front of the last layer, of images as `forward` takes them."""

    @property
    @abstractmethod
    def saliency_layer(self) -> nn.Module:
        """The layer whose activations a saliency map is drawn from."""

    def standardise(self, images: Tensor) -> Tensor:
        """Images in units of the training fold's spread about its mean."""
        standard: Tensor = (images - self.mean) / self.std
        return standard

    def forward(self, images: Tensor) -> Tensor:
        """One logit an image."""
        return self.positive(self.network(self.standardise(images)))

    def positive(self, raw: Tensor) -> Tensor:
        """From what the network ends in to one logit an image: the odds of the positive classes together."""
        if not self.sides:
            return raw.squeeze(-1)
        side = torch.tensor(self.sides, device=raw.device) > 0
        odds: Tensor = raw[:, side].logsumexp(1) - raw[:, ~side].logsumexp(1)
        return odds

    def shares(self, images: Tensor) -> Tensor:
        """The probability of each finer class, one row an image."""
        shares: Tensor = torch.softmax(self.network(self.standardise(images)).float(), 1)
        return shares

    def loss(self, raw: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy; class weights multiply it and are not divided out again.

        Args:
            raw: What the network ends in.
            labels: 0 or 1; where there are finer classes, the number of one.
        """
        if self.sides:
            each = nn.functional.cross_entropy(raw.float(), labels.long(), reduction="none")
        else:
            each = nn.functional.binary_cross_entropy_with_logits(raw.squeeze(-1).float(), labels, reduction="none")
        negative, positive = self.pos_weights
        return (each * torch.where(self.side(labels) > 0.5, positive, negative)).mean() + self.penalty()

    def side(self, labels: Tensor) -> Tensor:
        """0 or 1 for labels that may number finer classes."""
        if not self.sides:
            return labels
        return torch.tensor(self.sides, dtype=torch.float32, device=labels.device)[labels.long()]

    def penalty(self) -> Tensor | float:
        """A penalty on weights that belongs to the loss; none by default."""
        return 0.0

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """Loss of one batch."""
        images, labels = batch
        return self.loss(self.network(self.standardise(images)), labels)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        """Keep logits and labels of the inner slice; what watches the training reads and clears them."""
        images, labels = batch
        self.watched.append((self(images), self.side(labels)))

    def configure_optimizers(self) -> Any:
        """The optimiser and schedule named in the settings; `self.steps` is the number of steps in all."""
        settings = self.settings
        rate, name = settings["learning_rate"], settings["optimizer"]
        match name:
            case "adam":
                betas = (0.9, settings["beta2"])
                optimizer: torch.optim.Optimizer = torch.optim.Adam(
                    self.parameters(), rate, betas=betas, eps=1e-7, fused=True
                )
            case "adamw":
                decay = settings["weight_decay"]
                betas = (0.9, settings["beta2"])
                optimizer = torch.optim.AdamW(self.parameters(), rate, betas, weight_decay=decay, fused=True)
            case "rmsprop":
                optimizer = torch.optim.RMSprop(self.parameters(), rate, alpha=0.9, eps=1e-7)
            case "sgd":
                optimizer = torch.optim.SGD(self.parameters(), rate, momentum=0.9)
            case _:
                raise SettingsError(f"no optimizer {name!r}; known: adam, adamw, rmsprop, sgd")
        match settings["schedule"]:
            case "constant":
                return optimizer
            case "plateau":
                plateau = torch.optim.lr_scheduler.ReduceLROnPlateau
                self.plateau = plateau(optimizer, patience=10, threshold=1e-4, threshold_mode="abs")
                return optimizer
            case "onecycle":
                cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=max(self.steps, 2))
                return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}
            case other:
                raise SettingsError(f"no schedule {other!r}; known: constant, plateau, onecycle")

    def features(self, images: Tensor) -> Tensor:
        """Where `gradient` is False: what is solved for, one row an image; it must not depend on the fold."""
        raise SettingsError(f"{type(self).__name__} is trained by gradient steps; it has no fixed features")

    def solve_features(self, features: Tensor, labels: Tensor, weights: Tensor) -> None:
        """Fit at once to the `features` of all training images; labels as in `loss`, a weight for each image."""
        raise SettingsError(f"{type(self).__name__} is trained by gradient steps, not solved")

    def logits(self, features: Tensor) -> Tensor:
        """What the network ends in, for each row of what `features` gave."""
        raise SettingsError(f"{type(self).__name__} is trained by gradient steps; it has no fixed features")

    def parameter_count(self) -> int:
        """Number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)
