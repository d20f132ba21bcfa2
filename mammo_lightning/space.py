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

DATA: dict[str, Any] = {**prepare.DEFAULTS, "augmentation": "d4", **strategies.DEFAULTS}
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
#: where numbers may lie, as intervals; a classifier's own `ranges` come on top
RANGES: dict[str, str] = {
    "learning_rate": "(0, 100]",
    "beta2": "[0, 1)",
    "weight_decay": "[0, 100]",
    "batch_size": "[1, 65536]",
    "epochs": "[1, 10000]",
    "patience": "[1, 10000]",
    "wavelet_threshold": "[0, 1000]",
    "background_size": "[2, 4096]",
    "imbalance_ratio": "(0, 10]",
    "imbalance_neighbours": "[1, 1000]",
}
ANY = "[0, inf)"


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

    def corners(self) -> list[dict[str, Any]]:
        """Settings at the ends of the search, each parameter in turn: what can be built at all of them can be searched.

        The other parameters stay at their defaults, or at their first end where the default is not searched.
        """
        ends = {name: _ends(distribution) for name, distribution in self.search.items()}
        middle = {
            name: self.fixed[name] if _contains(self.search[name], self.fixed[name]) else ends[name][0] for name in ends
        }
        corners = [middle, *({**middle, name: end} for name in ends for end in ends[name] if end != middle[name])]
        return [self.settings(params) for params in corners]


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    return bool(distribution.low <= value <= distribution.high)


def _ends(distribution: BaseDistribution) -> tuple[Any, ...]:
    if isinstance(distribution, CategoricalDistribution):
        return tuple(distribution.choices)
    return distribution.low, distribution.high


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
    implied: Mapping[str, Any] | None = None,
) -> Space:
    """The space of a classifier.

    Args:
        classifier: Gives defaults, ranges and the search.
        chosen: Settings that a person fixed.
        search: Searches that a person asked for; they replace the classifier's own.
        implied: Settings that hold unless they are chosen or searched.
    """
    chosen, search, implied = chosen or {}, search or {}, implied or {}
    fixed = flatten(classifier.defaults, DATA, {**TRAINING, **classifier.preferred})
    ranges = {**RANGES, **classifier.ranges}
    space = dict(classifier.search_space)
    for name, value in {**implied, **chosen}.items():
        fixed[name] = _typed(name, value, _known(name, fixed), ranges.get(name, ANY))
        space.pop(name, None)
    for name, text in search.items():
        if name in chosen:
            raise SettingsError(
                f"{name} is both set and searched; pass one of --set {name}=... and --search {name}=..."
            )
        space[name] = parse(name, text, _known(name, fixed), ranges.get(name, ANY))
    return Space(fixed, space)


def run_name(slot: int, params: Mapping[str, Any]) -> str:
    """At most 25 characters, what distinguishes it from its siblings: `t011 de3 i20 l1e-3`."""

    def short(value: Any) -> str:
        if isinstance(value, float) and 0 < abs(value) < 0.01:
            return f"{value:.0e}".replace("e-0", "e-")
        return f"{value:.2g}" if isinstance(value, float) else str(value)[:4]

    def brief(name: str) -> str:  # imbalance_ratio is iratio, which does not begin as imbalance does
        *before, last = name.split("_")
        return "".join(word[:1] for word in before) + last

    def letters(name: str) -> str:
        mine, others = brief(name), [brief(other) for other in params if other != name]
        starts = (mine[:n] for n in range(1, len(mine) + 1))
        return next((start for start in starts if not any(each.startswith(start) for each in others)), name)

    words = [f"t{slot:03d}", *(f"{letters(name)}{short(value)}" for name, value in params.items())]
    while len(" ".join(words)) > 25:
        words.pop()
    return " ".join(words) if params else f"{words[0]} defaults"


def parse(name: str, text: str, default: Any, within: str = ANY) -> BaseDistribution:
    """A search: `1,3,5` (choices), `0:0.5` (range), `1e-5:1e-2:log`, `0:0.5:0.1` (steps)."""
    form = f"search {name}={text!r} is not understood; write {name}=1,3,5 or {name}=0:0.5 or {name}=1e-5:1e-2:log"
    if ":" not in text:
        return CategoricalDistribution([_typed(name, part.strip(), default, within) for part in text.split(",")])
    if isinstance(default, bool) or not isinstance(default, int | float):
        raise SettingsError(f"search {name}={text!r}: {name} is no number; write {name}=A,B with its choices")
    low, high, *rest = (part.strip() for part in text.split(":"))
    if not (low and high) or len(rest) > 1:
        raise SettingsError(form)
    ends = [_typed(name, end, default, within) for end in (low, high)]
    if not ends[0] < ends[1]:
        raise SettingsError(f"search {name}={text!r} holds nothing between its ends; write the lower one first")
    log = rest == ["log"]
    if log and not ends[0] > 0:
        raise SettingsError(f"search {name}={text!r}: a log search begins above 0; write {name}=1e-5:{high}:log")
    kind = type(default)
    try:
        step = kind(rest[0]) if rest and not log else None
    except ValueError:
        raise SettingsError(form) from None
    if step is not None and not 0 < step <= ends[1] - ends[0]:
        raise SettingsError(
            f"search {name}={text!r}: no step of {rest[0]} fits; it must be above 0 and within the ends"
        )
    if kind is int:
        return IntDistribution(*ends, log=log, step=step or 1)
    return FloatDistribution(*ends, log=log, step=step)


def _known(name: str, fixed: Mapping[str, Any]) -> Any:
    if name not in fixed:
        raise SettingsError(f"no setting {name!r}; {one_of(list(fixed))}")
    return fixed[name]


def _typed(name: str, value: Any, default: Any, within: str) -> Any:
    if name in CHOICES and value not in CHOICES[name]:
        raise SettingsError(f"{name}={value!r} is not known; {one_of(CHOICES[name])}")
    wanted = type(default)
    try:
        if wanted is bool and str(value).lower() not in ("true", "false"):
            raise ValueError
        typed = str(value).lower() == "true" if wanted is bool else wanted(str(value))
    except ValueError:
        raise SettingsError(f"{name}={value!r} is not {wanted.__name__}; the default is {default!r}") from None
    if isinstance(typed, int | float) and not isinstance(typed, bool) and not _inside(typed, within):
        raise SettingsError(f"{name}={value} is not possible; it must lie in {within}. The default is {default!r}")
    return typed


def _inside(value: float, interval: str) -> bool:
    """Whether a number lies in `[low, high]`, a round bracket leaving its end out; not-a-number lies nowhere."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value > low if interval[0] == "(" else value >= low
    return above and (value < high if interval[-1] == ")" else value <= high)
