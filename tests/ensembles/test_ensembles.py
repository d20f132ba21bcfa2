"""Ensembles are judged on rows that nothing of them was fitted on; one of permuted labels is worth nothing."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fakes import predictions
from tracked import scores_of, study

from mammo_lightning.clearing import named
from mammo_lightning.ensembles.assemble import Ensemble, Wish, assemble, controls, gain, record_ensemble
from mammo_lightning.ensembles.members import BY_HAND, Pool, pool
from mammo_lightning.errors import SettingsError
from mammo_lightning.evaluation.combining import RULES, Combiner
from mammo_lightning.evaluation.metrics import auc
from mammo_lightning.evaluation.statistics import mean_fold_auc
from mammo_lightning.runs import Runs
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.types import Kind, Level, Outcome, Predictions

BASE = predictions(patients=90, folds=5, effect=1.2)


def made(tmp_path: Path, tables: list[Predictions], name: str = "s") -> Pool:
    study(tmp_path, name, tables)
    return pool(Runs(tmp_path).of_study(name))


def noisy(count: int, noise: float = 1.0) -> list[Predictions]:
    return [scores_of(BASE, noise=noise, seed=seed) for seed in range(count)]


@pytest.mark.parametrize("rule", RULES)
def test_a_fold_is_scored_by_what_was_chosen_and_fitted_without_it(tmp_path: Path, rule: str) -> None:
    """Labels of one fold are turned round: the scores of that fold stay, whatever they are of the others."""
    wish = Wish(rule, 3, calibration="platt", operating_point="youden")
    before = assemble(made(tmp_path / "a", noisy(5)), wish).predictions
    turned = [
        Predictions(each.frame.assign(label=each.frame["label"].where(each.folds != 1, 1 - each.frame["label"])))
        for each in noisy(5)
    ]
    after = assemble(made(tmp_path / "b", turned), wish).predictions
    mine = before.folds == 1
    np.testing.assert_array_equal(after.scores[mine], before.scores[mine])
    assert not np.array_equal(after.scores[~mine], before.scores[~mine]), "the others are chosen and calibrated by it"


@pytest.mark.parametrize("rule", ["mean", "weighted", "stacking", "greedy"])
def test_members_that_err_independently_are_better_together(tmp_path: Path, rule: str) -> None:
    many = predictions(patients=300, folds=5, effect=1.5)
    ensemble = assemble(made(tmp_path, [scores_of(many, noise=2.0, seed=seed) for seed in range(6)]), Wish(rule, 6))
    single = next(each for each in controls(ensemble) if each.key == "single")
    found = gain(ensemble, single.predictions)
    assert found.value > 0.03
    assert found.lo > 0
    assert found.value == pytest.approx(mean_fold_auc(ensemble.predictions) - mean_fold_auc(single.predictions))


@pytest.mark.parametrize("rule", RULES)
def test_nothing_can_be_learned_from_permuted_labels(tmp_path: Path, rule: str) -> None:
    """Scores without any bearing on the labels: choosing and weighing 20 of them must not help out of fold."""
    rng = np.random.default_rng(0)
    found = []
    for draw in range(4):
        tables = [BASE.with_scores(rng.random(len(BASE))) for _ in range(20)]
        ensemble = assemble(made(tmp_path, tables, f"s{draw}"), Wish(rule, 8))
        found.append(auc(ensemble.predictions.labels, ensemble.predictions.scores))
    assert np.mean(found) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("more", [{"rule": "stacking"}, {"rule": "mean", "calibration": "platt"}])
def test_two_folds_are_too_few_to_fit_what_is_calibrated_too(tmp_path: Path, more: dict[str, str]) -> None:
    halves = predictions(patients=60, folds=2)
    found = made(tmp_path, [scores_of(halves, noise=1.0, seed=seed) for seed in range(2)])
    with pytest.raises(SettingsError, match=r"of 2 folds: .*3 folds or more"):
        assemble(found, Wish(count=2, **more))
    assert assemble(found, Wish("mean", 2)).predictions.scores.std() > 0


def test_a_majority_that_is_calibrated_needs_another_threshold() -> None:
    with pytest.raises(SettingsError, match="--calibration of a majority"):
        Wish("majority", 4, calibration="platt")
    assert Wish("majority", 4, calibration="platt", operating_point="spec0.80").point_rule == "spec0.80"


def test_what_a_reader_must_know_is_said(tmp_path: Path) -> None:
    found = made(tmp_path, noisy(3))
    ensemble = assemble(found, Wish("weighted", 3, by=BY_HAND, level=Level.patient))
    run, summary = record_ensemble(Journal(tmp_path), ensemble, controls(ensemble))
    told = "\n".join(summary.lines)
    for words in ("members were named by hand", "fitted on patches; the figures are by patient", "95 % by itself"):
        assert words in told
    assert run.read_params()["by"] == BY_HAND


def test_the_best_by_all_rows_would_have_looked_better(tmp_path: Path) -> None:
    """What the cross-fitting takes away: of many useless members the best looks good on the rows it was chosen by."""
    rng, looked, honest = np.random.default_rng(1), [], []
    for draw in range(6):
        found = made(tmp_path, [BASE.with_scores(rng.random(len(BASE))) for _ in range(20)], f"s{draw}")
        best = found.ranked("val_auc", Level.patch)[0]
        looked.append(mean_fold_auc(found.members[best].predictions()))
        honest.append(mean_fold_auc(assemble(found, Wish("single", 1)).predictions))
    assert np.mean(looked) > 0.56
    assert np.mean(honest) == pytest.approx(0.5, abs=0.04)


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[Ensemble, Runs]:
    ensemble = assemble(made(tmp_path, noisy(5)), Wish("weighted", 3, calibration="platt", operating_point="sens0.95"))
    assert ensemble.name == "e3 weighted platt"
    record_ensemble(Journal(tmp_path), ensemble, controls(ensemble))
    return ensemble, Runs(tmp_path)


def test_an_ensemble_is_a_run_of_its_own(recorded: tuple[Ensemble, Runs]) -> None:
    ensemble, runs = recorded
    found = runs.get(f"ensemble-{ensemble.identity}")
    assert (found.kind, found.run.outcome, found.rule) == (Kind.ensemble, Outcome.completed, "sens0.95")
    pd.testing.assert_frame_equal(found.predictions().frame, ensemble.predictions.frame)
    assert found.metrics["val_auc"] == pytest.approx(mean_fold_auc(ensemble.predictions))
    assert found.metrics["gain_over_uniform_lo"] <= found.metrics["gain_over_uniform"]
    assert found.points[found.level].rule == "sens0.95"
    assert (found.run.artifacts / "figures" / "roc.png").is_file()
    manifest = json.loads((found.run.artifacts / "manifest.json").read_text())
    assert [each["run"] for each in manifest["members"]] == [each.run_id for each in ensemble.members]
    assert set(named(runs.journal)) >= {each.run_id for each in ensemble.members}, "their models are not to be freed"
    assert [each["digest"] for each in manifest["members"]] == [runs.get(m.run_id).digest() for m in ensemble.members]
    assert Combiner.from_dict(manifest["combiner"]) == ensemble.combiner
    assert sum(each["weight"] for each in manifest["members"]) == pytest.approx(1.0)


def test_said_again_it_is_the_same_run(recorded: tuple[Ensemble, Runs], tmp_path: Path) -> None:
    ensemble, _ = recorded
    before = (tmp_path / "journal" / f"ensemble-{ensemble.identity}" / "events.jsonl").read_text().count('"metrics"')
    again = assemble(ensemble.pool, ensemble.wish)
    run, _ = record_ensemble(Journal(tmp_path), again, controls(again))
    assert run.run_id == f"ensemble-{ensemble.identity}"
    assert run.events.read_text().count('"metrics"') == before


def test_a_majority_decides_by_more_than_half_of_the_votes(tmp_path: Path) -> None:
    ensemble = assemble(made(tmp_path, noisy(4)), Wish("majority", 4))
    _, summary = record_ensemble(Journal(tmp_path), ensemble, controls(ensemble))
    votes = (ensemble.pool.scores(ensemble.chosen) > 0.5).sum(axis=0)
    found = Runs(tmp_path).get(f"ensemble-{ensemble.identity}").metrics
    assert found["val_tpr"] == pytest.approx((votes[BASE.labels == 1] > 2).mean())
    assert found["val_fpr"] == pytest.approx((votes[BASE.labels == 0] > 2).mean())
    assert summary.rows[-1].what == "e4 majority"


def test_an_ensemble_of_two_studies_names_both(tmp_path: Path) -> None:
    study(tmp_path, "one", noisy(2))
    study(tmp_path, "two", noisy(2, noise=0.5))
    runs = Runs(tmp_path)
    ensemble = assemble(pool([*runs.of_study("one"), *runs.of_study("two")]), Wish("mean", 4))
    run, _ = record_ensemble(Journal(tmp_path), ensemble, [])
    assert set(run.read_tags()["studies"].split()) == {"one", "two"}
    assert run.identity["parent"] is None


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"rule": "vote", "count": 3}, "--rule 'vote' is not known; known: majority"),
        ({"rule": "mean", "count": 1}, "--members 1 is no ensemble"),
        ({"rule": "mean", "count": 0}, "--members 0 is no ensemble"),
        ({"rule": "mean", "count": 9}, "--members 9 of 4 candidates"),
        ({"rule": "mean", "count": 2, "operating_point": "best"}, "no rule 'best' for an operating point"),
        ({"rule": "mean", "count": 2, "calibration": "magic"}, "no calibration 'magic'"),
        ({"rule": "mean", "count": 2, "by": "accuracy"}, "--by 'accuracy' is not known"),
    ],
)
def test_wrong_wishes_are_refused(tmp_path: Path, wish: dict, message: str) -> None:
    found = made(tmp_path, noisy(4))
    with pytest.raises(SettingsError, match=message):
        assemble(found, Wish(**wish))


def test_one_fold_is_refused(tmp_path: Path) -> None:
    found = made(tmp_path, [Predictions(each.frame.assign(fold=0)) for each in noisy(2)])
    with pytest.raises(SettingsError, match="predictions of one fold"):
        assemble(found, Wish("mean", 2))
