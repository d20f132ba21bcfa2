"""Decision curves against the formula by hand and against populations built to have the prevalence."""

import numpy as np
import pytest
from scipy.special import expit, logit

from mammo_lightning.errors import DataError, SettingsError
from mammo_lightning.evaluation.benefit import net_benefit

LABELS = np.repeat([1, 0], [4, 6])
SCORES = np.array([0.9, 0.6, 0.5, 0.1, 0.7, 0.5, 0.2, 0.2, 0.1, 0.05])


def test_net_benefit_by_hand() -> None:
    found = net_benefit(LABELS, SCORES, None, [0.0, 0.2, 0.5]).set_index("threshold")
    # at 0.2: three found and four false alarms in ten, at odds of 1 to 4; at 0.5 three and two, at even odds
    assert found["model"].to_list() == pytest.approx([0.4, 3 / 10 - 4 / 10 / 4, 3 / 10 - 2 / 10])
    assert found["all"].to_list() == pytest.approx([0.4, 0.4 - 0.6 / 4, 0.4 - 0.6])
    assert found["none"].to_list() == [0, 0, 0]


def test_a_perfect_model_is_worth_the_prevalence() -> None:
    found = net_benefit(LABELS, LABELS.astype(float), 0.01, [0.001, 0.01, 0.3])
    assert found["model"].to_list() == pytest.approx([0.01] * 3)


def test_stated_prevalence_is_that_of_a_population_with_more_negatives() -> None:
    times = 50
    labels = np.r_[np.ones(4, int), np.zeros(6 * times, int)]
    diluted = np.r_[SCORES[:4], np.repeat(SCORES[4:], times)]
    shifted = expit(logit(diluted) - np.log(times))
    thresholds = np.linspace(0.001, 0.05, 30)
    here = net_benefit(labels, shifted, None, thresholds)
    there = net_benefit(LABELS, SCORES, labels.mean(), thresholds)
    assert there["model"].to_list() == pytest.approx(here["model"].to_list())
    assert there["all"].to_list() == pytest.approx(here["all"].to_list())
    assert there["model"].max() > there["all"].clip(lower=0).to_numpy()[-1]


def test_stating_the_prevalence_of_the_rows_changes_nothing() -> None:
    thresholds = [0.15, 0.45, 0.65]
    stated = net_benefit(LABELS, SCORES, 0.4, thresholds)
    assert stated["model"].to_list() == pytest.approx(net_benefit(LABELS, SCORES, None, thresholds)["model"].to_list())


def test_refusals() -> None:
    with pytest.raises(SettingsError, match="prevalence 1.5"):
        net_benefit(LABELS, SCORES, 1.5, [0.1])
    with pytest.raises(SettingsError, match="thresholds 0.5 to 1"):
        net_benefit(LABELS, SCORES, None, [0.5, 1.0])
    with pytest.raises(DataError, match="scores outside 0 to 1"):
        net_benefit(LABELS, SCORES * 3, None, [0.5])
    with pytest.raises(DataError, match="0 positive of 6 labels"):
        net_benefit(LABELS[4:], SCORES[4:], None, [0.5])
