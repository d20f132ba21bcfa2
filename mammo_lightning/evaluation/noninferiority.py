"""Is a challenger at least as good as the champion, up to a margin fixed beforehand?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from mammo_lightning.errors import SettingsError
from mammo_lightning.evaluation.paired import Counted, compare_rates, count_apart
from mammo_lightning.evaluation.resampling import Estimate

__all__ = ["ENOUGH", "Verdict", "noninferior"]

ENOUGH = 0.8  # power below which a bound that fails says nothing
Answer = Literal["shown", "not shown", "underpowered"]
_WORDS = {"tpr": "sensitivity", "tnr": "specificity"}


@dataclass(frozen=True)
class Verdict:
    """Whether non-inferiority was shown, and by what.

    Differences are challenger less champion; their lower limits are the one-sided 97.5 % bounds that are compared with
    minus the margin. Power is the probability to show it, were there no difference, with so many groups and so many
    rows on which the two differ.
    """

    answer: Answer
    margin: float
    tpr: Estimate
    tnr: Estimate
    power: dict[str, float]
    lines: tuple[str, ...]


def noninferior(
    labels: ArrayLike,
    groups: ArrayLike,
    challenger: NDArray[np.bool_],
    champion: NDArray[np.bool_],
    *,
    margin: float = 0.05,
) -> Verdict:
    """Compare sensitivity and specificity of two frozen sets of decisions on the same rows.

    Both must be non-inferior, each at one-sided 2.5 % (an intersection-union test, which needs no correction). The
    bounds are those of `paired.compare_rates`. `not shown` where a point difference is beyond the margin or the power
    was at least 0.8; `underpowered` where it was less.

    In simulations of 15 to 1600 groups with one to 20 rows a challenger that was worse by just the margin passed one
    bound in 0 to 4 %, the fewer groups the more rarely, and the power came true.

    Args:
        labels: 0 or 1, one a row.
        groups: what is kept together, one a row.
        challenger: called positive by the challenger at its threshold.
        champion: called positive by the champion at its own.
        margin: how much less is accepted, for each; fixed before looking.
    """
    if not 0 < margin < 1:
        raise SettingsError(f"margin {margin:g}; expected a share between 0 and 1, as 0.05")
    compare_rates(labels, groups, challenger, champion)  # refuses what cannot be compared
    truth, names = np.asarray(labels, np.int64), np.asarray(groups)
    new, old = np.asarray(challenger, bool), np.asarray(champion, bool)
    found, power = {}, {}
    for name, rows, sign in (("tpr", truth == 1, 1), ("tnr", truth == 0, 0)):
        counted = count_apart(names[rows], new[rows] == sign, old[rows] == sign)
        found[name], power[name] = counted.interval(), _power(counted, margin)
    failing = [name for name in found if found[name].lo <= -margin]
    answer: Answer = "shown"
    if failing:
        beyond = any(found[name].value <= -margin for name in failing)
        enough = any(power[name] >= ENOUGH for name in failing)
        answer = "not shown" if beyond or enough else "underpowered"
    lines = tuple(_line(name, found[name], power[name], margin) for name in found)
    return Verdict(answer, margin, found["tpr"], found["tnr"], power, lines)


def _power(counted: Counted, margin: float) -> float:
    """The probability that the bound passes, were there no difference: the least difference that passes, in errors."""
    apart = (counted.first_only + counted.second_only) / counted.of

    def above(difference: float) -> float:
        return counted.interval(difference).lo + margin

    if above(apart) <= 0:
        return 0.0
    if above(-apart) > 0:
        return 1.0
    least = float(brentq(above, -apart, apart, xtol=1e-6))
    return float(norm.sf(least / np.sqrt(apart / counted.of)))


def _line(name: str, difference: Estimate, power: float, margin: float) -> str:
    passes = difference.lo > -margin
    said = f"{_WORDS[name]} {difference.value:+.3f}, lower 97.5 % bound {difference.lo:+.3f}"
    against = f"{'above' if passes else 'not above'} -{margin:g}"
    if passes:
        return f"{said}: {against}, not inferior"
    if difference.value <= -margin:
        return f"{said}: {against}, and the difference itself is beyond the margin"
    return f"{said}: {against}; power to show it, were there no difference, {power:.2f}"
