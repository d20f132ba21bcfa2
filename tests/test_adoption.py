"""A machine finishes a trial and is gone before it has published it: the lead tells of it."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fakes import dataset
from sqlalchemy import create_engine, update

from mammo_lightning import adoption
from mammo_lightning import ledger as ledger_module
from mammo_lightning.adoption import adopt
from mammo_lightning.datamodules.folds import make_splits
from mammo_lightning.elsewhere import Elsewhere
from mammo_lightning.engine.inline import Inline
from mammo_lightning.ledger import LEASES, Ledger
from mammo_lightning.progress import Progress
from mammo_lightning.registry import CLASSIFIERS
from mammo_lightning.space import make_space
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.training import Task
from mammo_lightning.trials import Trials
from mammo_lightning.tuning import Goal, Search
from mammo_lightning.types import Level, Outcome

GOAL = Goal("val_auc", Level.patch, "youden")


def machine(folder: Path, storage: str) -> tuple[Trials, Ledger]:
    data = dataset("folder", folder, patients=18)
    task = Task(data, make_splits(data, folds=3, test=0.3), "linear")
    space = make_space(CLASSIFIERS.get("linear"), search={"regularisation": "0.1,1.0"})
    ledger = Ledger(storage, data.mlruns)
    search = Search(storage=storage, name="s-1", goal=GOAL, space=space, seed=0, prune=None, ledger=ledger)
    nowhere = Elsewhere(task, lambda *_: False, Progress())
    trials = Trials(
        search, task, GOAL, space, Journal(data.mlruns), "s-1", {"study": "s"}, 0, Progress(), Inline(), nowhere
    )
    trials.shares = True
    return trials, ledger


@pytest.mark.parametrize("state", ["", "RUNNING", "FINISHED", None])
def test_what_nobody_told_is_told_from_the_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str | None
) -> None:
    monkeypatch.setattr(adoption, "PATIENCE_SECONDS", 0.0)
    storage = f"sqlite:///{tmp_path / 'shared.db'}"
    gone, _ = machine(tmp_path / "a", storage)
    gone.run(2)
    lead, ledger = machine(tmp_path / "b", storage)
    fetch = SimpleNamespace(state=lambda run_id: state)
    adopted = adopt(lead, ledger, fetch, Progress())
    if state not in ("", "RUNNING"):
        assert not adopted, "it has been told, or a server that is away may still be told"
        return
    assert adopted == [0, 1]
    for slot in adopted:
        here, there = lead.open(slot), gone.open(slot)
        assert here.outcome is Outcome.completed
        assert here.read_tags()["attempt"] == "1"
        assert here.read_params() == there.read_params()
        ours, theirs = here.read_metrics(), there.read_metrics()
        assert ours == {name: theirs[name] for name in ours}
        assert {"val_auc", "objective", "fold/val_auc"} <= set(ours)
        assert np.array_equal(lead.predictions(slot).scores, gone.predictions(slot).scores)
    assert adopt(lead, ledger, fetch, Progress()) == []


def test_a_machine_that_died_between_the_last_word_and_its_lease_is_told_of_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adoption, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(ledger_module, "GRACE_SECONDS", 0.5)
    storage = f"sqlite:///{tmp_path / 'shared.db'}"
    gone, _ = machine(tmp_path / "a", storage)
    gone.run(1)
    engine = create_engine(storage)
    with engine.begin() as connection:
        held = connection.execute(update(LEASES).where(LEASES.c.key == "s-1.t000").values(owner="far/boot/space|7|8"))
    assert held.rowcount == 1
    lead, ledger = machine(tmp_path / "b", storage)
    assert adopt(lead, ledger, SimpleNamespace(state=lambda run_id: "RUNNING"), Progress()) == [0]
    assert lead.open(0).outcome is Outcome.completed
