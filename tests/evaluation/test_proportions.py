"""Intervals of shares and of their differences against published tables and by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from mammo_lightning.errors import DataError
from mammo_lightning.evaluation.proportions import clopper_pearson, effective_groups, share_of_groups, tango


@pytest.mark.parametrize(
    ("found", "of", "lo", "hi"),
    [(81, 263, 0.2527, 0.3676), (15, 148, 0.0578, 0.1617), (0, 20, 0.0, 0.1684), (1, 29, 0.0009, 0.1776)],
)
def test_clopper_pearson_of_newcombes_table(found: int, of: int, lo: float, hi: float) -> None:
    """Newcombe (1998), the exact method of his comparison of seven."""
    interval = clopper_pearson(found, of)
    assert (round(interval.lo, 4), round(interval.hi, 4)) == (lo, hi)
    assert interval.value == found / of


def test_clopper_pearson_refuses_what_is_no_share() -> None:
    with pytest.raises(DataError, match="3 found of 2"):
        clopper_pearson(3, 2)
    with pytest.raises(DataError, match="0 found of 0"):
        clopper_pearson(0, 0)


def test_share_of_lone_rows_is_clopper_pearson() -> None:
    decisions = np.arange(40) < 31
    assert share_of_groups(decisions, np.arange(40)) == clopper_pearson(31, 40)


@pytest.mark.parametrize("called", [True, False])
def test_all_or_none_is_the_interval_of_the_groups(called: bool) -> None:
    groups = np.repeat(np.arange(9), 5)
    assert share_of_groups(np.full(45, called), groups) == clopper_pearson(9 * called, 9)


def test_rows_that_are_alike_count_once() -> None:
    groups = np.repeat(np.arange(40), 6)
    alike, mixed = np.repeat(np.arange(40) < 30, 6), np.arange(240) % 4 < 3
    narrow, wide = share_of_groups(mixed, groups), share_of_groups(alike, groups)
    assert narrow.value == wide.value == 0.75
    assert wide.hi - wide.lo > 2 * (narrow.hi - narrow.lo)
    lone = clopper_pearson(30, 40)
    assert wide.lo == pytest.approx(lone.lo, abs=0.02)


def test_share_of_groups_covers() -> None:
    rng, missed = np.random.default_rng(1), 0
    groups = np.repeat(np.arange(40), rng.integers(1, 8, 40))
    for _ in range(300):
        latent = np.sqrt(0.5) * (rng.normal(size=40)[groups] + rng.normal(size=len(groups)))
        found = share_of_groups(latent < norm.ppf(0.85), groups)
        missed += not found.lo <= 0.85 <= found.hi
    assert missed / 300 < 0.08


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=30))
@settings(deadline=None)
def test_share_lies_in_its_interval(rows: list[tuple[int, bool]]) -> None:
    found = share_of_groups([called for _, called in rows], [group for group, _ in rows])
    assert 0 <= found.lo <= found.value <= found.hi <= 1
    assert found.hi - found.lo > 0.05  # thirty rows are no certainty


def test_share_refuses_other_lengths() -> None:
    with pytest.raises(DataError, match="2 decisions of 3 rows"):
        share_of_groups([True, False], [1, 2, 3])


def test_effective_groups() -> None:
    assert effective_groups([3, 3, 3, 3]) == 4
    assert effective_groups([100, 1, 1, 1]) == pytest.approx(1, abs=0.01)


def test_tango_of_published_examples() -> None:
    """Fagerland et al. (2014): 1 and 7 of 21; and `scoreci.mp(25, 28, 618)` of R's PropCIs at 90 %."""
    children = tango(1, 7, 21)
    assert (children.lo, children.hi) == pytest.approx((-0.517, -0.026), abs=5e-4)
    other = tango(28, 25, 618, norm.ppf(0.95))
    assert (round(other.lo, 4), round(other.hi, 4)) == (-0.0148, 0.0247)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 200))
@settings(deadline=None)
def test_tango_holds_its_difference_and_mirrors(one: int, two: int, alike: int) -> None:
    of = max(one + two + alike, 1)
    found, mirrored = tango(one, two, of), tango(two, one, of)
    assert -1 <= found.lo <= found.value <= found.hi <= 1
    assert (found.lo, found.hi) == pytest.approx((-mirrored.hi, -mirrored.lo), abs=1e-7)
    assert found.hi - found.lo > 1 / (of + 4)
    for bound in (found.lo, found.hi):  # the score statistic at its own bounds, by the likelihood's own maximum
        if abs(bound) < 0.999:
            only = np.linspace(max(0, -bound), (1 - bound) / 2, 20001)[1:-1]
            likelihood = one * np.log(only + bound) + two * np.log(only)
            likelihood += (of - one - two) * np.log1p(-2 * only - bound)
            best = only[np.nanargmax(likelihood)]
            error = np.sqrt((2 * best + bound * (1 - bound)) / of)
            assert abs(found.value - bound) / error == pytest.approx(1.96, abs=0.02)
