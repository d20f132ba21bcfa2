"""One flat namespace of settings: which there are, their defaults, and which of them a study searches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from mammo_lightning.classifiers.base import Classifier
from mammo_lightning.errors import SettingsError, one_of
from mammo_lightning.imbalance import strategies
from mammo_lightning.preprocessing import augment, prepare

DATA: dict[str, Any] = {**prepare.DEFAULTS, "augmentation": "d4", "imbalance": "none"}
TRAINING: dict[str, Any] = {
    "learning_rate": 1e-3,
    "optimizer": "adam",
    "beta2": 0.999,
    "weight_decay": 0.01,
    "schedule": "onecycle",
    "batch_size": 60,
    "epochs": 20,
    "stopping": "last",
    "patience": 20,
}
CHOICES: dict[str, tuple[str, ...]] = {
    "preprocessing": tuple(prepare.NAMES),
    "wavelet": ("sym3", "haar"),
    "augmentation": tuple(augment.NAMES),
    "imbalance": tuple(strategies.NAMES),
    "optimizer": ("adam", "adamw", "rmsprop", "sgd"),
    "schedule": ("constant", "plateau", "onecycle"),
    "stopping": ("last", "inner"),
}


@dataclass(frozen=True)
class Space:
    """Fixed settings and searched ones; together every key a fit takes."""

    fixed: dict[str, Any]
    search: dict[str, BaseDistribution]

    def settings(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The flat settings of one trial."""
        return {**self.fixed, **params}

    def describe(self) -> dict[str, str]:
        """The search as text, to be compared when a study is continued."""
        return {name: repr(distribution) for name, distribution in sorted(self.search.items())}

    def default_params(self) -> dict[str, Any] | None:
        """The classifier's own defaults, if each lies in what is searched: the first trial tries them."""
        params = {name: self.fixed[name] for name in self.search}
        return params if params and all(_contains(self.search[name], params[name]) for name in params) else None


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    return bool(distribution.low <= value <= distribution.high)


def flatten(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """One dict of several; a key that two of them claim raises."""
    flat: dict[str, Any] = {}
    for part in parts:
        if doubled := sorted(set(flat) & set(part)):
            raise SettingsError(f"setting {doubled[0]!r} is declared twice; give one of them another name")
        flat.update(part)
    return flat


def make_space(
    classifier: type[Classifier],
    *,
    chosen: Mapping[str, Any] | None = None,
    search: Mapping[str, str] | None = None,
) -> Space:
    """The space of a classifier, with some settings chosen and some searches replaced."""
    training = {**TRAINING, **classifier.preferred}
    fixed = flatten(classifier.defaults, DATA, training)
    space = dict(classifier.search_space)
    for name, value in (chosen or {}).items():
        fixed[name] = _typed(name, value, _known(name, fixed))
        space.pop(name, None)
    for name, text in (search or {}).items():
        space[name] = parse(name, text, _known(name, fixed))
        if chosen and name in chosen:
            raise SettingsError(
                f"{name} is both set and searched; pass one of --set {name}=... and --search {name}=..."
            )
    return Space(fixed, space)


def parse(name: str, text: str, default: Any) -> BaseDistribution:
    """A search: `1,3,5` (choices), `0:0.5` (range), `1e-5:1e-2:log`, `0:0.5:0.1` (steps)."""
    form = f"search {name}={text!r} is not understood; write {name}=1,3,5 or {name}=0:0.5 or {name}=1e-5:1e-2:log"
    if ":" not in text:
        return CategoricalDistribution([_typed(name, part.strip(), default) for part in text.split(",")])
    low, high, *rest = text.split(":")
    log = rest == ["log"]
    try:
        if isinstance(default, bool) or not isinstance(default, int | float) or len(rest) > 1:
            raise ValueError
        if isinstance(default, int):
            return IntDistribution(int(low), int(high), log=log, step=int(rest[0]) if rest and not log else 1)
        return FloatDistribution(float(low), float(high), log=log, step=float(rest[0]) if rest and not log else None)
    except ValueError:
        raise SettingsError(form) from None


def _known(name: str, fixed: Mapping[str, Any]) -> Any:
    if name not in fixed:
        raise SettingsError(f"no setting {name!r}; {one_of(list(fixed))}")
    return fixed[name]


def _typed(name: str, value: Any, default: Any) -> Any:
    if name in CHOICES and value not in CHOICES[name]:
        raise SettingsError(f"{name}={value!r} is not known; {one_of(CHOICES[name])}")
    wanted = type(default)
    try:
        if wanted is bool and str(value).lower() not in ("true", "false"):
            raise ValueError
        typed = str(value).lower() == "true" if wanted is bool else wanted(str(value))
    except ValueError:
        raise SettingsError(f"{name}={value!r} is not {wanted.__name__}; the default is {default!r}") from None
    if isinstance(typed, int | float) and not isinstance(typed, bool) and (typed < 0 or typed != typed):
        raise SettingsError(f"{name}={value!r} must be a number of 0 or more; the default is {default!r}")
    return typed
