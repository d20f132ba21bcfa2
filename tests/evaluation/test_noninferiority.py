"""Non-inferiority: who is let pass, and what is said of those who are not."""

import numpy as np
import pytest
from scipy.stats import norm

from mammo_lightning.errors import DataError, SettingsError
from mammo_lightning.evaluation.noninferiority import noninferior


def readings(
    rng: np.random.Generator, groups: int, loss: float, *, rows: int = 3, rate: float = 0.88
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Decisions of a challenger and a champion that err alike and in groups; the challenger finds `loss` less."""
    group = np.repeat(np.arange(groups), rows)
    labels = (group % 2).astype(int)
    common = np.sqrt(0.8) * (rng.normal(size=groups)[group] + rng.normal(size=len(group)))
    right = [
        common + np.sqrt(0.2) * (rng.normal(size=groups)[group] + rng.normal(size=len(group)))
        < norm.ppf(each) * np.sqrt(2)
        for each in (rate - loss, rate)
    ]
    challenger, champion = (each == (labels == 1) for each in right)
    return labels, group, challenger, champion


def shown(replicates: int, groups: int, loss: float, seed: int) -> float:
    rng = np.random.default_rng(seed)
    return np.mean([noninferior(*readings(rng, groups, loss)).answer == "shown" for _ in range(replicates)])


def test_equal_and_large_is_shown() -> None:
    verdict = noninferior(*readings(np.random.default_rng(0), 3000, 0.0))
    assert verdict.answer == "shown"
    assert min(verdict.power.values()) > 0.99
    assert verdict.tpr.lo > -0.05
    assert [line.split()[0] for line in verdict.lines] == ["sensitivity", "specificity"]
    assert all("not inferior" in line for line in verdict.lines)


def test_inferior_by_the_margin_is_seldom_shown() -> None:
    rng, passed = np.random.default_rng(4), {"tpr": 0, "tnr": 0}
    for _ in range(200):
        verdict = noninferior(*readings(rng, 300, 0.05))
        for name in passed:
            passed[name] += getattr(verdict, name).lo > -0.05
    assert max(passed.values()) / 200 < 0.05
    assert min(passed.values()) > 0  # the test is no wall either


def test_equal_is_nearly_always_shown_where_there_is_enough() -> None:
    assert shown(40, 1600, 0.0, seed=2) > 0.9


@pytest.mark.proof
@pytest.mark.parametrize("groups", [40, 150, 600])
def test_level_and_power_in_many_simulations(groups: int) -> None:
    rng, passed, held, promised = np.random.default_rng(6), 0, 0, 0.0
    for _ in range(800):
        passed += noninferior(*readings(rng, groups, 0.05)).tpr.lo > -0.05
        equal = noninferior(*readings(rng, groups, 0.0))
        held += equal.tpr.lo > -0.05
        promised += equal.power["tpr"]
    assert passed / 800 < 0.04
    assert promised / 800 == pytest.approx(held / 800, abs=0.08)


def test_few_groups_are_underpowered_even_where_nothing_differs() -> None:
    labels, groups = np.repeat([1, 0], 40), np.repeat(np.arange(20), 4)
    verdict = noninferior(labels, groups, labels == 1, labels == 1)
    assert verdict.answer == "underpowered"
    assert verdict.power == {"tpr": 0.0, "tnr": 0.0}
    assert verdict.lines[0].endswith("power to show it, were there no difference, 0.00")
    assert noninferior(labels, groups, labels == 1, labels == 1, margin=0.4).answer == "shown"


def test_worse_than_the_margin_is_not_shown_however_few() -> None:
    labels, groups = np.repeat([1, 0], 20), np.arange(40)
    worse = labels == 1
    worse[:4] = False
    verdict = noninferior(labels, groups, worse, labels == 1)
    assert verdict.answer == "not shown"
    assert verdict.tpr.value == pytest.approx(-0.2)
    assert verdict.tnr.value == 0
    assert "beyond the margin" in verdict.lines[0]


def test_enough_power_and_yet_worse_is_not_shown() -> None:
    labels, groups = np.repeat([1, 0], 1000), np.arange(2000)
    challenger = labels == 1
    challenger[:42] = False  # 4.2 points worse: within the margin, but not surely
    verdict = noninferior(labels, groups, challenger, labels == 1)
    assert verdict.power["tpr"] > 0.8
    assert verdict.answer == "not shown"


def test_specificity_counts_as_much() -> None:
    labels, groups = np.repeat([1, 0], 1000), np.arange(2000)
    challenger = labels == 1
    challenger[-200:] = True
    verdict = noninferior(labels, groups, challenger, labels == 1)
    assert verdict.answer == "not shown"
    assert verdict.tnr.value == pytest.approx(-0.2)
    assert verdict.tpr.lo > -0.05


def test_better_is_shown_with_less() -> None:
    labels, groups = np.repeat([1, 0], 150), np.arange(300)
    champion = labels == 1
    champion[:15] = False
    verdict = noninferior(labels, groups, labels == 1, champion)
    assert verdict.answer == "shown"
    assert verdict.tpr.value == pytest.approx(0.1)


def test_refusals() -> None:
    called = np.ones(4, bool)
    with pytest.raises(SettingsError, match="margin 0; expected"):
        noninferior([1, 1, 0, 0], [1, 2, 3, 4], called, called, margin=0)
    with pytest.raises(DataError, match="4 positive of 4 rows"):
        noninferior([1, 1, 1, 1], [1, 2, 3, 4], called, called)
