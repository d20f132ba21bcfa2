"""Balancing inside a fit: what the network is shown, what it is scored on, and that a fit can be taken up again."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fakes import dataset

from mammo_lightning import training
from mammo_lightning.classifiers.hyper import Hyper
from mammo_lightning.datamodules.folds import make_splits
from mammo_lightning.datamodules.loaders import ArrayDataset, moments
from mammo_lightning.errors import SettingsError
from mammo_lightning.imbalance.strategies import MAKING, NAMES
from mammo_lightning.progress import Interrupted
from mammo_lightning.registry import CLASSIFIERS
from mammo_lightning.space import make_space, run_name
from mammo_lightning.training import Task, fit, train

SMALL = {"init": 4, "depth": 1, "epochs": 2, "batch_size": 16, "augmentation": "none", "imbalance_neighbours": 2}


def settings(name: str = "hyper", **changed: object) -> dict:
    chosen = SMALL if name == "hyper" else {"imbalance_neighbours": 2}
    return {**make_space(CLASSIFIERS.get(name), chosen={**chosen, **changed}).fixed}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    data = dataset("folder", tmp_path_factory.mktemp("task"), patients=24)
    return Task(data, make_splits(data, folds=3, test=0.3), "hyper")


@pytest.mark.parametrize("imbalance", MAKING)
def test_made_images_exist_in_the_training_set_of_the_fit_alone(
    task: Task, monkeypatch: pytest.MonkeyPatch, imbalance: str
) -> None:
    chosen = settings(imbalance=imbalance, imbalance_ratio=2.0, stopping="inner")
    rows = task.splits.rows(0, inner=True)
    images = task.prepared(chosen)
    marked = images.copy()
    outside = np.setdiff1d(np.arange(len(images)), rows.train)
    marked[outside] = 77.0  # planted: whatever is made of such a row shows it
    task = Task(task.data, task.splits, "hyper")
    monkeypatch.setattr(Task, "prepared", lambda self, _: marked)
    given: list[training.FitData] = []
    original = training.FitData

    def watched(**parts: object) -> training.FitData:
        given.append(original(**parts))
        return given[0]

    monkeypatch.setattr(training, "FitData", watched)
    network, _ = train(task, rows, settings=chosen, seed=1)
    data = given[0]
    shown, labels = data.train.__getitems__(list(range(len(data.train))))
    assert shown.max() < 10, "an image from outside the training rows was used"
    assert len(shown) > len(rows.train)
    np.testing.assert_array_equal(shown[: len(rows.train)], images[rows.train])
    np.testing.assert_array_equal(labels[: len(rows.train)], task.targets[rows.train])
    assert float(labels.sum() / (1 - labels).sum()) == pytest.approx(2.0, abs=0.5 if imbalance == "adasyn" else 0.1)
    assert len({each.tobytes() for each in shown.numpy()}) > len(rows.train), "made images are new ones"
    assert data.inner is not None
    inner, _ = data.inner.__getitems__(list(range(len(data.inner))))
    assert len(inner) == len(rows.inner)
    assert (inner == 77.0).all(), "the inner slice is as it was"
    np.testing.assert_array_equal(network.mean.flatten(), moments(images, rows.train)[0])


@pytest.mark.parametrize("imbalance", [name for name in NAMES if name != "none"])
@pytest.mark.parametrize("name", ["hyper", "linear"])
def test_the_same_rows_are_scored_and_the_seed_decides(task: Task, tmp_path: Path, imbalance: str, name: str) -> None:
    one = Task(task.data, task.splits, name)
    chosen = settings(name, imbalance=imbalance, imbalance_ratio=1.5)
    done = [fit(one, fold=0, settings=chosen, seed=seed, folder=tmp_path / str(n)) for n, seed in enumerate((5, 5, 6))]
    plain = fit(one, fold=0, settings=settings(name), seed=5, folder=tmp_path / "plain")
    assert done[0].predictions.frame["image"].tolist() == plain.predictions.frame["image"].tolist()
    np.testing.assert_array_equal(done[0].predictions.labels, plain.predictions.labels)
    np.testing.assert_array_equal(done[0].predictions.scores, done[1].predictions.scores)
    assert not np.array_equal(done[0].predictions.scores, plain.predictions.scores)
    if not (name == "linear" and imbalance == "weights"):
        assert not np.array_equal(done[0].predictions.scores, done[2].predictions.scores)


@pytest.mark.parametrize("imbalance", MAKING)
def test_a_fit_stopped_after_an_epoch_ends_in_the_same(task: Task, tmp_path: Path, imbalance: str) -> None:
    chosen = settings(imbalance=imbalance, imbalance_ratio=2.0, epochs=4, augmentation="d4")

    def stop(epoch: int, row: dict[str, float]) -> None:
        if epoch == 1:
            raise Interrupted

    whole = fit(task, fold=0, settings=chosen, seed=5, folder=tmp_path / "whole")
    with pytest.raises(Interrupted, match=""):
        fit(task, fold=0, settings=chosen, seed=5, folder=tmp_path / "broken", on_epoch=stop)
    epochs: list[int] = []
    again = fit(
        task, fold=0, settings=chosen, seed=5, folder=tmp_path / "broken", on_epoch=lambda e, _: epochs.append(e)
    )
    assert epochs == [2, 3]
    pd.testing.assert_frame_equal(whole.curve, again.curve)
    np.testing.assert_array_equal(whole.predictions.scores, again.predictions.scores)


def test_a_solved_classifier_has_the_features_of_made_images(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    one, solved = Task(task.data, task.splits, "linear"), CLASSIFIERS.get("linear")
    given: list[tuple[torch.Tensor, ...]] = []
    original = solved.solve_features
    monkeypatch.setattr(solved, "solve_features", lambda self, *all_: given.append(all_) or original(self, *all_))
    rows = one.splits.rows(0, inner=False)
    chosen = settings("linear", imbalance="smote", imbalance_ratio=2.0)
    classifier, _ = train(one, rows, settings=chosen, seed=0)
    features, labels, weights = given[0]
    assert len(features) == len(labels) == len(weights) > len(rows.train)
    known = one.features(classifier)
    assert len(known) == len(one.data.frame), "made images stay with the fit"
    torch.testing.assert_close(features[: len(rows.train)], known[rows.train])
    assert (labels[len(rows.train) :] == 1).all()
    assert len(torch.unique(torch.cat([known, features[len(rows.train) :]]), dim=0)) > len(known)


def test_rows_beyond_the_images_are_the_made_ones() -> None:
    images, made = (np.full((count, 1, 2, 2), value, np.float32) for count, value in ((5, 1), (3, 2)))
    images += np.arange(5, dtype=np.float32)[:, None, None, None] / 10
    labels = np.array([0, 1, 0, 1, 0, 1, 1, 1], np.float32)
    data = ArrayDataset(images, labels, np.array([0, 4, 5, 7]), made=made)
    shown, told = data.__getitems__([3, 0, 1, 2])
    np.testing.assert_allclose(shown[:, 0, 0, 0], [2, 1, 1.4, 2])
    assert told.tolist() == [1, 0, 0, 1]


def test_settings_of_balancing_are_searched_as_any_other() -> None:
    space = make_space(Hyper, search={"imbalance": "none,smote,adasyn", "imbalance_ratio": "0.5:2"})
    assert space.fixed["imbalance_neighbours"] == 5
    assert set(space.search) >= {"imbalance", "imbalance_ratio"}
    for bad in ({"imbalance_ratio": 0}, {"imbalance_ratio": 11}, {"imbalance_neighbours": 0}, {"imbalance": "gan"}):
        with pytest.raises(SettingsError, match=next(iter(bad))):
            make_space(Hyper, chosen=bad)


def test_settings_that_begin_alike_have_names_in_a_run() -> None:
    assert run_name(3, {"imbalance": "smote", "imbalance_ratio": 1.5, "init": 20}) == "t003 imsmot ir1.5 in20"
    assert run_name(3, {"wavelet": "haar", "wavelet_threshold": 2.0}) == "t003 wahaar wt2"
    assert run_name(0, {"a_b": 1, "ab": 2}) == "t000 a_b1 ab2"
