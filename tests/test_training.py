from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from fakes import dataset, patch

from mammo_lightning.classifiers.hyper import Hyper
from mammo_lightning.datamodules.folds import TEST, FitRows, make_splits
from mammo_lightning.errors import LeakError
from mammo_lightning.registry import CLASSIFIERS
from mammo_lightning.space import make_space
from mammo_lightning.training import Diverged, Task, fit, load_fit, predict, settle_normalisation, train

SMALL = {"init": 4, "depth": 1, "epochs": 2, "batch_size": 16}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    data = dataset("folder", tmp_path_factory.mktemp("task"), patients=18)
    return Task(data, make_splits(data, folds=3, test=0.3), "hyper")


def settings(**changed: object) -> dict:
    return {**make_space(Hyper, chosen=SMALL).fixed, **changed}


def test_a_fit_is_repeatable_to_the_last_digit_and_kept(task: Task, tmp_path: Path) -> None:
    one = fit(task, fold=0, settings=settings(), seed=5, folder=tmp_path / "a")
    two = fit(task, fold=0, settings=settings(), seed=5, folder=tmp_path / "b")
    other = fit(task, fold=0, settings=settings(), seed=6, folder=tmp_path / "c")
    pd.testing.assert_frame_equal(one.predictions.frame, two.predictions.frame)
    assert not np.array_equal(one.predictions.scores, other.predictions.scores)
    kept = load_fit(tmp_path / "a")
    assert kept is not None
    pd.testing.assert_frame_equal(kept.predictions.frame, one.predictions.frame)
    assert set(one.predictions.frame["fold"]) == {0}
    assert sorted(one.predictions.frame["image"]) == sorted(task.splits.frame.loc[task.splits.fold == 0, "image"])


def test_an_unfinished_fit_starts_again_and_a_finished_one_is_only_read(task: Task, tmp_path: Path) -> None:
    def stop(epoch: int, row: dict[str, float]) -> None:
        raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(task, fold=0, settings=settings(), seed=5, folder=tmp_path / "a", on_epoch=stop)
    assert load_fit(tmp_path / "a") is None
    whole = fit(task, fold=0, settings=settings(), seed=5, folder=tmp_path / "a")
    again = fit(task, fold=0, settings=settings(), seed=5, folder=tmp_path / "a", on_epoch=stop)
    assert np.array_equal(whole.predictions.scores, again.predictions.scores)


def test_rows_behind_the_wall_stop_the_training(task: Task) -> None:
    tested = np.flatnonzero(task.splits.fold == TEST)
    empty = np.array([], dtype=np.int64)
    rows = task.splits.rows(0, inner=False)
    with pytest.raises(LeakError, match="of the test split or reserve is in train"):
        train(task, FitRows(np.concatenate([rows.train, tested[:1]]), empty, rows.score), settings=settings(), seed=0)


def test_the_scored_fold_changes_nothing_that_is_learned(task: Task) -> None:
    """Other pixels and labels in the scored fold and the test split: the same weights, for every strategy."""
    rows = task.splits.rows(0, inner=True)
    hidden = np.concatenate([rows.score, np.flatnonzero(task.splits.fold == TEST)])
    images = np.array(task.data.images)
    images[hidden] = 255 - images[hidden]
    frame = task.data.frame.copy()
    frame.loc[hidden, "label"] = 1 - frame.loc[hidden, "label"]
    changed = SimpleNamespace(
        images=images, frame=frame, scale=task.data.scale, classes=task.data.classes, subgroups=[]
    )
    for imbalance in ("weights", "undersample", "oversample"):
        chosen = settings(stopping="inner", imbalance=imbalance, preprocessing="background")
        one, curve = train(task, rows, settings=chosen, seed=3)
        two, other = train(Task(changed, task.splits, "hyper"), rows, settings=chosen, seed=3)
        pd.testing.assert_frame_equal(curve, other)
        for name, value in one.state_dict().items():
            assert torch.equal(value, two.state_dict()[name]), name


def test_stopping_reads_the_inner_slice_and_keeps_its_best_weights(task: Task, tmp_path: Path) -> None:
    chosen = settings(stopping="inner", epochs=30, patience=2, learning_rate=0.01, schedule="plateau")
    done = fit(task, fold=1, settings=chosen, seed=0, folder=tmp_path / "a")
    lowest, best = np.inf, 0
    for epoch, loss in enumerate(done.curve["inner_loss"]):
        if loss < lowest - 1e-4:
            lowest, best = loss, epoch
    assert len(done.curve) == min(30, best + 3)
    assert done.inner is not None
    assert not set(done.inner.frame["group"]) & set(done.predictions.frame["group"])


def test_a_loss_that_is_no_number_stops_the_fit(task: Task, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="training loss is"):
        fit(
            task,
            fold=0,
            settings=settings(learning_rate=1e30, optimizer="sgd", schedule="constant", epochs=6),
            seed=0,
            folder=tmp_path / "a",
        )


def test_normalisation_is_estimated_again_on_the_training_images() -> None:
    torch.manual_seed(0)
    network = Hyper(shape=(1, 32, 32), settings=settings(dropout=0.5))
    images = np.stack([patch(np.random.default_rng(n), n % 2)[None] for n in range(40)]).astype(np.float32) / 255
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    settle_normalisation(network, images)
    seen: list[torch.Tensor] = []
    handle = norms[0].register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    predict(network, images)
    handle.remove()
    assert torch.allclose(norms[0].running_mean, seen[0].mean(dim=(0, 2, 3)), atol=1e-5)
    assert norms[0].momentum == 0.01
    before = [norm.running_mean.clone() for norm in norms]
    predict(network, images)
    assert all(torch.equal(norm.running_mean, kept) for norm, kept in zip(norms, before, strict=True))


@pytest.mark.parametrize("rows", [1, 255, 257])
def test_every_row_is_scored_whatever_the_batch(rows: int) -> None:
    network = Hyper(shape=(1, 16, 16), settings=settings()).eval()
    images = np.random.default_rng(0).random((rows, 1, 16, 16), dtype=np.float32)
    assert np.allclose(predict(network, images), predict(network, images, batch_size=7), atol=1e-6)
    assert len(predict(network, images)) == rows


def test_class_weights_are_not_divided_out_again() -> None:
    network = Hyper(shape=(1, 16, 16), settings=settings())
    logits, labels = torch.zeros(4), torch.tensor([0.0, 0.0, 0.0, 1.0])
    network.pos_weights = (2.0, 4.0)
    assert network.loss(logits, labels).item() == pytest.approx(np.log(2) * (3 * 2 + 4) / 4, rel=1e-6)


@pytest.mark.parametrize("preprocessing", ["none", "wavelet", "gcn", "background"])
def test_linear_needs_no_epochs(task: Task, tmp_path: Path, preprocessing: str) -> None:
    other = Task(task.data, task.splits, "linear")
    chosen = make_space(CLASSIFIERS.get("linear"), chosen={"preprocessing": preprocessing}).fixed
    done = fit(other, fold=0, settings=chosen, seed=0, folder=tmp_path / "l")
    assert len(done.predictions) == len(other.splits.rows(0, inner=False).score)
