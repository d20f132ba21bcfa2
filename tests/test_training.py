from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from fakes import dataset, patch

from mammo_lightning.classifiers import weights
from mammo_lightning.classifiers.hyper import Hyper
from mammo_lightning.datamodules import cache
from mammo_lightning.datamodules.folds import TEST, FitRows, make_splits
from mammo_lightning.datamodules.loaders import moments
from mammo_lightning.errors import LeakError
from mammo_lightning.hardware import Hardware, choose
from mammo_lightning.progress import Interrupted
from mammo_lightning.registry import CLASSIFIERS
from mammo_lightning.space import make_space
from mammo_lightning.training import Diverged, Task, fit, load_fit, predict, reason_of, settle_normalisation, train

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
    about = {"scale": task.data.scale, "classes": task.data.classes, "subgroups": [], "targets": (), "sides": ()}
    changed = SimpleNamespace(images=images, frame=frame, **about)
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
    settle_normalisation(network, images, np.arange(len(images)))
    seen: list[torch.Tensor] = []
    handle = norms[0].register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    predict(network, images)
    handle.remove()
    assert torch.allclose(norms[0].running_mean, seen[0].mean(dim=(0, 2, 3)), atol=1e-5)
    assert norms[0].momentum == 0.01
    before = [norm.running_mean.clone() for norm in norms]
    predict(network, images)
    assert all(torch.equal(norm.running_mean, kept) for norm, kept in zip(norms, before, strict=True))


def test_images_that_lie_together_are_spread_over_the_batches_of_normalisation() -> None:
    network = Hyper(shape=(1, 16, 16), settings=settings())
    ramp = np.linspace(0, 4, 200, dtype=np.float32)  # as when the images of a patient follow one another
    images = np.tile(ramp[:, None, None, None], (1, 1, 16, 16))
    norm = next(module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d))
    seen: list[torch.Tensor] = []
    handle = norm.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    settle_normalisation(network, images, np.arange(200))
    handle.remove()
    assert max(map(len, seen)) - min(map(len, seen)) <= 1  # a small last batch would count as much as the others
    assert len(seen) > 1
    everything = torch.cat(seen).var(dim=(0, 2, 3))
    assert torch.allclose(norm.running_var, everything, rtol=0.05)


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


def test_reference_features_are_computed_once_for_all_folds(task: Task, tmp_path: Path, monkeypatch) -> None:
    other = Task(task.data, task.splits, "linear")
    cls = CLASSIFIERS.get("linear")
    asked: list[int] = []
    original = cls.features
    monkeypatch.setattr(cls, "features", lambda self, images: asked.append(len(images)) or original(self, images))
    chosen = make_space(cls, chosen={}).fixed
    for fold in range(3):
        done = fit(other, fold=fold, settings=chosen, seed=0, folder=tmp_path / f"{fold}")
        rows = other.splits.rows(fold, inner=False).score
        loaded = predict(weights.load(tmp_path / f"{fold}"), other.prepared(chosen)[rows])
        np.testing.assert_allclose(loaded, done.predictions.scores, atol=1e-6)
    fit(other, fold=0, settings={**chosen, "features": "wavelet"}, seed=0, folder=tmp_path / "w")
    assert asked[0] == len(task.data.frame)
    assert len([count for count in asked if count == len(task.data.frame)]) == 2


def test_half_precision_learns_the_same_and_predicts_in_float32(task: Task, tmp_path: Path) -> None:
    plain = settings(epochs=4, learning_rate=1e-3, dropout=0.0)  # masks depend on the layout of memory
    half = Task(task.data, task.splits, "hyper", Hardware("cpu", None, "bf16-mixed", True, 1))
    before = torch.get_num_threads()
    one = fit(task, fold=0, settings=plain, seed=5, folder=tmp_path / "a")
    two = fit(half, fold=0, settings=plain, seed=5, folder=tmp_path / "b")
    assert torch.get_num_threads() == before
    assert not np.array_equal(one.predictions.scores, two.predictions.scores)
    assert one.curve["train_loss"].to_numpy() == pytest.approx(two.curve["train_loss"].to_numpy(), rel=0.05)
    kept = weights.load(tmp_path / "b")
    assert {value.dtype for value in kept.state_dict().values()} <= {torch.float32, torch.int64}
    rows = half.splits.rows(0, inner=False).score
    np.testing.assert_array_equal(predict(kept, half.prepared(plain)[rows]), two.predictions.scores)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "oom"),
        (torch.OutOfMemoryError("CUDA out of memory"), "oom"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"), "oom"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), "oom"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "oom"),
        (OSError(12, "Cannot allocate memory"), "oom"),
        (Diverged("the training loss is nan"), "nan"),
        (RuntimeError("shapes differ\nsecond line"), "exception: RuntimeError: shapes differ"),
        (ValueError("out of memory of words"), "exception: ValueError: out of memory of words"),
        (KeyError(), "exception: KeyError"),
    ],
)
def test_reasons_are_told_apart(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason


def test_a_real_allocation_that_fails_is_out_of_memory() -> None:
    with pytest.raises(RuntimeError, match="memory") as caught:
        torch.empty(2**50)
    assert reason_of(caught.value) == "oom"


def test_moments_are_those_of_the_rows_alone() -> None:
    images = np.random.default_rng(0).normal(3, 2, (30, 2, 9, 7)).astype(np.float32)
    rows = np.arange(0, 30, 2)
    mean, std = moments(images, rows, chunk=4)
    np.testing.assert_allclose(mean, images[rows].mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(std, images[rows].std(axis=(0, 2, 3)), rtol=1e-6)


@pytest.mark.parametrize(
    "more",
    [{}, {"stopping": "inner", "schedule": "plateau", "dropout": 0.05, "augmentation": "affine"}],
    ids=["plain", "everything with a memory"],
)
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_fit_stopped_after_an_epoch_goes_on_there_and_ends_in_the_same(
    task: Task, tmp_path: Path, precision: str, more: dict
) -> None:
    one = replace(task, hardware=choose("cpu", precision))
    chosen, epochs = settings(epochs=6, **more), []

    def stop(epoch: int, row: dict[str, float]) -> None:
        if epoch == 2:
            raise Interrupted

    whole = fit(one, fold=0, settings=chosen, seed=5, folder=tmp_path / "whole")
    with pytest.raises(Interrupted, match=""):
        fit(one, fold=0, settings=chosen, seed=5, folder=tmp_path / "broken", on_epoch=stop)
    again = fit(
        one,
        fold=0,
        settings=chosen,
        seed=5,
        folder=tmp_path / "broken",
        on_epoch=lambda epoch, row: epochs.append(epoch),
    )
    assert epochs == [3, 4, 5]
    pd.testing.assert_frame_equal(whole.curve, again.curve)
    assert np.array_equal(whole.predictions.scores, again.predictions.scores)
    assert not list((tmp_path / "broken").glob("*.ckpt")), "it is needed no more"


@pytest.mark.parametrize("damage", ["torn", "other settings"])
def test_a_state_that_cannot_be_taken_up_is_not(task: Task, tmp_path: Path, damage: str) -> None:
    def stop(epoch: int, row: dict[str, float]) -> None:
        raise Interrupted

    whole = fit(task, fold=0, settings=settings(), seed=5, folder=tmp_path / "whole")
    with pytest.raises(Interrupted, match=""):
        fit(task, fold=0, settings=settings(), seed=5 if damage == "torn" else 6, folder=tmp_path / "a", on_epoch=stop)
    state = tmp_path / "a" / "epoch.ckpt"
    if damage == "torn":
        state.write_bytes(state.read_bytes()[: state.stat().st_size // 2])
    again = fit(task, fold=0, settings=settings(), seed=5, folder=tmp_path / "a")
    assert np.array_equal(whole.predictions.scores, again.predictions.scores)


def test_large_prepared_images_are_shared_by_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: Task
) -> None:
    monkeypatch.setattr("mammo_lightning.task.SHARED_BYTES", 0)
    chosen = settings(preprocessing="background")
    held = task.prepared(chosen)
    one, two = (Task(task.data, task.splits, "hyper").prepared(chosen) for _ in range(2))
    assert isinstance(one, np.memmap)
    assert one.filename == two.filename
    np.testing.assert_array_equal(one, held)
    folder = Path(one.filename).parent
    for size in range(3, 9):
        Task(task.data, task.splits, "hyper").prepared(settings(preprocessing="background", background_size=size))
    assert len(list(folder.glob("*.npy"))) == cache.KEPT
    np.testing.assert_array_equal(one, held, "what was thrown away is still read by whoever had it")


def test_prepared_images_cut_short_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: Task) -> None:
    monkeypatch.setattr("mammo_lightning.task.SHARED_BYTES", 0)
    chosen = settings(preprocessing="background", background_size=11)
    whole = np.array(Task(task.data, task.splits, "hyper").prepared(chosen))
    (path,) = (
        p
        for p in Path(task.data.images.filename).parent.glob("prepared/*.npy")
        if p.stat().st_mtime > 0 and np.array_equal(np.load(p), whole)
    )
    path.write_bytes(path.read_bytes()[:1000])
    np.testing.assert_array_equal(Task(task.data, task.splits, "hyper").prepared(chosen), whole)


def test_a_training_that_had_enough_does_not_go_on_when_taken_up(task: Task, tmp_path: Path) -> None:
    chosen = settings(stopping="inner", epochs=30, patience=1, learning_rate=0.02, schedule="constant")
    whole = fit(task, fold=0, settings=chosen, seed=1, folder=tmp_path / "whole")
    last = len(whole.curve) - 1
    assert last < 29, "it stopped by itself"

    def stop(epoch: int, row: dict[str, float]) -> None:
        if epoch == last:
            raise Interrupted

    with pytest.raises(Interrupted, match=""):
        fit(task, fold=0, settings=chosen, seed=1, folder=tmp_path / "broken", on_epoch=stop)
    again = fit(task, fold=0, settings=chosen, seed=1, folder=tmp_path / "broken")
    pd.testing.assert_frame_equal(whole.curve, again.curve)
    assert np.array_equal(whole.predictions.scores, again.predictions.scores)
