"""The weights behind an ensemble are those whose predictions were combined, or there is no model and no read."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from registered import copied

from mammo_lightning.ensembles.assemble import Ensemble, Wish, assemble, record_ensemble
from mammo_lightning.ensembles.members import pool
from mammo_lightning.ensembles.networks import Networks, read_test_split, save_model
from mammo_lightning.errors import DataError
from mammo_lightning.progress import Progress
from mammo_lightning.runs import Runs
from mammo_lightning.tracking.fetch import Fetch
from mammo_lightning.tracking.store import Store, default_uri
from mammo_lightning.tracking.test_reads import READS

WEIGHTS = "model.safetensors"


@pytest.fixture
def mlruns(tmp_path: Path) -> Path:
    return copied(tmp_path / "mlruns")


def networks(mlruns: Path) -> Networks:
    return Networks(mlruns, None, lambda name: Fetch(Store(default_uri(mlruns), mlruns), name), Progress())


def ensemble(mlruns: Path) -> Ensemble:
    runs = Runs(mlruns)
    return assemble(pool(runs.of_study("first") + runs.of_study("second")), Wish("mean", 2))


def fits(mlruns: Path) -> list[Path]:
    return sorted(mlruns.glob("journal/first-*.t000/folds/f*"))


def replaced(path: Path, content: bytes) -> None:
    path.unlink()  # it may be one file with the copy in another folder
    path.write_bytes(content)


def cut(mlruns: Path) -> str:
    path = fits(mlruns)[0] / WEIGHTS
    replaced(path, path.read_bytes()[:500])
    return "is damaged"


def of_another_fold(mlruns: Path) -> str:
    first, second, *_ = fits(mlruns)
    replaced(first / WEIGHTS, (second / WEIGHTS).read_bytes())
    return "do not give back what run 'first-.*t000' predicted"


def other_settings(mlruns: Path) -> str:
    path = fits(mlruns)[0] / "config.json"
    replaced(path, b"{}")
    return "is damaged"


@pytest.mark.parametrize("spoil", [cut, of_another_fold, other_settings])
def test_weights_that_are_not_the_members_are_refused_before_anything_is_read(
    mlruns: Path, spoil: Callable[[Path], str]
) -> None:
    message, before = spoil(mlruns), (mlruns / READS).read_text()
    made = ensemble(mlruns)
    run, _ = record_ensemble(Runs(mlruns).journal, made, [])
    with pytest.raises(DataError, match=message):
        read_test_split(networks(mlruns), made, run)
    with pytest.raises(DataError, match=message):
        save_model(networks(mlruns), made, run)
    assert (mlruns / READS).read_text() == before
    assert not (run.folder / "models").exists()


def test_weights_that_were_lost_are_made_again_and_checked_alike(mlruns: Path) -> None:
    made = ensemble(mlruns)
    kept = networks(mlruns).predictor(made.members[0])
    images = networks(mlruns).plan(made.members[0]).data.images[:6]
    for folder in fits(mlruns):
        shutil.rmtree(folder)
    again = networks(mlruns).predictor(made.members[0])
    assert again.scores(images) == pytest.approx(kept.scores(images), abs=1e-6)
