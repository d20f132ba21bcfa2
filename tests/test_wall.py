"""Two machines, two folders, one storage: one test split, and one count of its reads."""

from pathlib import Path

import pandas as pd
import pytest
from fakes import dataset

from mammo_lightning.datamodules.folds import TEST, freeze, make_splits
from mammo_lightning.errors import TrackingError
from mammo_lightning.ledger import Ledger
from mammo_lightning.wall import bring_split, read_shared_test, share_split


@pytest.fixture
def machines(tmp_path: Path) -> list[tuple[Ledger, object]]:
    storage = f"sqlite:///{tmp_path / 'shared.db'}"
    found = []
    for name in ("a", "b"):
        data = dataset("folder", tmp_path / name, patients=18)
        found.append((Ledger(storage, data.mlruns), data))
    return found


def test_what_one_machine_froze_holds_for_the_others(machines) -> None:
    (one, first), (two, second) = machines
    assert first.source == second.source
    assert first.split_file != second.split_file
    splits = make_splits(first, folds=3, test=0.3)
    freeze(first, splits, 0.3)
    share_split(one, first)
    bring_split(two, second)
    pd.testing.assert_frame_equal(make_splits(second, folds=3).frame, splits.frame)


def test_patients_that_another_machine_trained_on_cannot_be_tested_on(machines) -> None:
    (one, first), (two, second) = machines
    freeze(first, make_splits(first, folds=3, test=0.0), 0.0)
    share_split(one, first)
    freeze(second, make_splits(second, folds=3, test=0.3), 0.3)
    with pytest.raises(TrackingError, match=r"is not the one that the machines of --storage share"):
        share_split(two, second)


def test_reads_are_counted_over_all_machines(machines) -> None:
    (one, first), (two, second) = machines
    splits = make_splits(first, folds=3, test=0.3)
    assert str(read_shared_test(one, first.mlruns, splits, study="s", run="s-1.final")) == (
        "test split read once, by 1 study"
    )
    read = read_shared_test(two, second.mlruns, splits, study="t", run="t-1.final")
    assert str(read) == "test split read 2 times, by 2 studies"
    again = read_shared_test(one, first.mlruns, splits, study="s", run="s-1.final")
    assert (again.count, list(again.rows)) == (2, list((splits.fold == TEST).nonzero()[0]))
