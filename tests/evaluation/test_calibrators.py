"""Calibrators by name: each does what its name says, on other rows than it was fitted on."""

import json

import numpy as np
import pytest
from fakes import predictions
from sklearn.isotonic import IsotonicRegression

from mammo_lightning.errors import DataError, SettingsError
from mammo_lightning.evaluation.calibrators import CALIBRATORS, calibrated_across, calibrator_from, fit_calibrator
from mammo_lightning.evaluation.metrics import measure
from mammo_lightning.types import Predictions


def sure(temperature: float, rows: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose log-odds are `temperature` times too large."""
    rng = np.random.default_rng(0)
    odds = rng.normal(scale=1.5, size=rows)
    labels = (rng.random(rows) < 1 / (1 + np.exp(-odds))).astype(int)
    return labels, 1 / (1 + np.exp(-temperature * odds))


def test_the_temperature_is_found() -> None:
    labels, scores = sure(3.0)
    found = fit_calibrator("temperature", labels, scores)
    assert found.as_dict()["temperature"] == pytest.approx(3.0, rel=0.05)
    assert found([0.5])[0] == pytest.approx(0.5)


def test_isotonic_is_scikit_learns() -> None:
    labels, scores = sure(2.0, rows=300)
    ours = fit_calibrator("isotonic", labels, scores)
    theirs = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores, labels)
    asked = np.linspace(0, 1, 101)
    np.testing.assert_allclose(ours(asked), theirs.predict(asked))


@pytest.mark.parametrize("name", CALIBRATORS)
def test_sure_scores_become_honest_and_stay_in_order(name: str) -> None:
    labels, scores = sure(3.0)
    found = fit_calibrator(name, labels[::2], scores[::2])
    after = found(scores[1::2])
    before = measure(labels[1::2], scores[1::2], scores[1::2] > 0.5)
    done = measure(labels[1::2], after, after > 0.5)
    assert done["ece"][0] < 0.03 < before["ece"][0]
    assert done["calibration_slope"][0] == pytest.approx(1.0, abs=0.1)
    order = np.argsort(scores[1::2])
    assert (np.diff(after[order]) >= -1e-12).all()


@pytest.mark.parametrize("name", CALIBRATORS)
def test_written_down_and_read_again(name: str) -> None:
    labels, scores = sure(2.0, rows=200)
    found = fit_calibrator(name, labels, scores)
    again = calibrator_from(json.loads(json.dumps(found.as_dict())))
    np.testing.assert_array_equal(again(scores), found(scores))


@pytest.mark.parametrize("name", CALIBRATORS)
def test_a_fold_is_calibrated_by_the_others_alone(name: str) -> None:
    table = predictions(patients=60, folds=3)
    done = calibrated_across(name, table)
    mine = table.folds == 1
    turned = Predictions(table.frame.assign(label=table.frame["label"].where(~mine, 1 - table.frame["label"])))
    np.testing.assert_array_equal(calibrated_across(name, turned).scores[mine], done.scores[mine])
    assert not np.array_equal(calibrated_across(name, turned).scores[~mine], done.scores[~mine])


def test_bad_input_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="no calibration 'magic'; known: isotonic, platt, temperature"):
        fit_calibrator("magic", [0, 1], [0.1, 0.9])
    with pytest.raises(DataError, match="2 labels and 3 scores"):
        fit_calibrator("platt", [0, 1], [0.1, 0.9, 0.5])
    with pytest.raises(DataError, match="one fold cannot be calibrated"):
        calibrated_across("platt", predictions(folds=1))
    for broken in ({"name": "temperature", "temperature": -1}, {"name": "isotonic", "scores": [0], "values": []}, {}):
        with pytest.raises(DataError, match="cannot be read; expected one of platt, temperature, isotonic"):
            calibrator_from(broken)
