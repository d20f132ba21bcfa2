from pathlib import Path

import optuna
import pytest
from fakes import predictions
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from mammo_lightning.errors import TrackingError
from mammo_lightning.ledger import Ledger
from mammo_lightning.owner import Owner
from mammo_lightning.space import Space, run_name
from mammo_lightning.tuning import Goal, Search
from mammo_lightning.types import Level

SPACE = Space({"x": 9.0}, {"x": FloatDistribution(0, 1)})
GOAL = Goal("val_auc", Level.patch, "youden")


def search(tmp_path: Path, *, seed: int = 0, prune: str | None = None, goal: Goal = GOAL) -> Search:
    storage = f"sqlite:///{tmp_path / 'studies.db'}"
    return Search(storage=storage, name="s", goal=goal, space=SPACE, seed=seed, prune=prune)


def value(x: float) -> float:
    return 1 - (x - 0.3) ** 2


def take(one: Search, slot: int) -> optuna.Trial:
    taken = one.next(slot + 1)
    assert taken is not None
    assert taken[0].number == slot
    return taken[0]


def finish(one: Search, slots: range) -> list[float]:
    tried = []
    for slot in slots:
        trial = take(one, slot)
        tried.append(trial.params["x"])
        one.finish(trial, [value(trial.params["x"])])
    return tried


def test_an_interrupted_search_tries_what_an_uninterrupted_one_tries(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    whole = finish(search(tmp_path / "a"), range(9))
    broken = finish(search(tmp_path / "b"), range(6))
    left = take(search(tmp_path / "b"), 6)  # and killed here: neither told nor released
    again = search(tmp_path / "b")
    assert take(again, 6).params == left.params
    broken.append(left.params["x"])
    again.finish(optuna.trial.Trial(again._study, left._trial_id), [value(left.params["x"])])
    broken += finish(search(tmp_path / "b"), range(7, 9))
    assert broken == whole
    assert len(set(whole)) == 9


def test_slots_are_numbers_and_none_is_lost(tmp_path: Path) -> None:
    one = search(tmp_path)
    finish(one, range(3))
    trial = take(one, 3)
    one.finish(trial, None)
    pruned = take(one, 4)
    one.finish(pruned, None, pruned=True)
    states = {slot: trial.state for slot, trial in one.finished().items()}
    assert states == {
        0: TrialState.COMPLETE,
        1: TrialState.COMPLETE,
        2: TrialState.COMPLETE,
        3: TrialState.FAIL,
        4: TrialState.PRUNED,
    }
    assert one.best().number in (0, 1, 2)
    assert len(one.completed()) == 3


def test_another_seed_searches_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert finish(search(tmp_path), range(2)) != finish(search(tmp_path / "other", seed=1), range(2))


def test_a_trial_worse_on_every_fold_is_pruned_and_a_better_one_is_not(tmp_path: Path) -> None:
    one = search(tmp_path, prune="folds")
    best = take(one, 0)
    assert not any(one.hopeless(best, 0.9 + fold / 100, fold) for fold in range(5))
    one.finish(best, [0.92])
    worse, better = take(one, 1), None
    assert any([one.hopeless(worse, 0.6 + fold / 100, fold) for fold in range(5)])
    one.finish(worse, None, pruned=True)
    better = take(one, 2)
    assert not any(one.hopeless(better, 0.93 + fold / 100, fold) for fold in range(5))


def test_a_storage_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=r"study storage .* cannot be opened"):
        Search(storage=f"sqlite:///{tmp_path}/absent/s.db", name="s", goal=GOAL, space=SPACE, seed=0, prune=None)


def test_objectives(tmp_path: Path) -> None:
    good, bad = predictions(effect=3), predictions(effect=0.3)
    for objective in ("val_auc", "val_pauc", "tpr@fpr0.2"):
        goal = Goal(objective, Level.patch, "youden")
        assert goal.fold(good) > goal.fold(bad)
    tpr, fpr = Goal("tpr,fpr", Level.patch, "youden").values([], good)
    assert 0 <= fpr < tpr <= 1
    assert Goal("val_auc", Level.patient, "youden").fold(good) != GOAL.fold(good)


def test_tpr_at_fpr_counts_exactly() -> None:
    table = predictions(patients=30, per_patient=1, folds=1)
    at = table.with_scores((table.labels * 0.5) + table.frame.index.to_numpy() / 1000)
    assert Goal("tpr@fpr0.2", Level.patch, "youden").fold(at) == 1.0
    tied = table.with_scores((table.labels * 0.0) + 0.5)
    assert Goal("tpr@fpr0.2", Level.patch, "youden").fold(tied) == 0.0


def test_a_pareto_study_ends_in_the_highest_tpr_allowed(tmp_path: Path) -> None:
    goal = Goal("tpr,fpr", Level.patch, "youden")
    one = search(tmp_path, goal=goal, prune="folds")
    assert one.prune is None
    for slot, values in enumerate([(0.99, 0.5), (0.8, 0.1), (0.9, 0.2), (0.7, 0.05)]):
        one.finish(take(one, slot), list(values))
    assert one.best().number == 2


def test_names_of_runs_are_short_and_tell_trials_apart() -> None:
    params = {"init": 10, "dropout": 0.05, "depth": 2, "preprocessing": "background", "learning_rate": 0.003}
    assert run_name(1, params) == "t001 i10 dr0.05 de2 pback"
    assert run_name(11, {"depth": 3, "learning_rate": 0.00012}) == "t011 d3 l1e-4"
    assert run_name(0, {}) == "t000 defaults"


def machines(tmp_path: Path, prune: str | None = None) -> tuple[Search, Search]:
    """Two machines on one storage, as far as their ledgers know."""
    storage = f"sqlite:///{tmp_path / 'studies.db'}"
    found = []
    for name in ("a", "b"):
        ledger = Ledger(storage, tmp_path / name)
        ledger.owner = str(Owner(f"{name}/1/2", 1, "3"))
        found.append(Search(storage=storage, name="s", goal=GOAL, space=SPACE, seed=0, prune=prune, ledger=ledger))
    return found[0], found[1]


def test_machines_take_different_slots_and_one_takes_over_from_the_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = machines(tmp_path)
    (first, _), (second, _) = a.next(4), b.next(4)
    assert (first.number, second.number) == (0, 1)
    monkeypatch.setattr("mammo_lightning.ledger.GRACE_SECONDS", -1.0)
    taken, attempt = b.next(4)  # it has looked at the counter before
    assert (taken.number, attempt, taken.params) == (0, 1, first.params)


@pytest.mark.parametrize("end", ["finish", "release", "hopeless"])
def test_a_machine_that_slept_too_long_changes_nothing_and_can_take_the_slot_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    a, b = machines(tmp_path, prune="epochs")
    slept, _ = a.next(1)
    monkeypatch.setattr("mammo_lightning.ledger.GRACE_SECONDS", -1.0)
    assert b.next(1) is None, "it has only looked once"
    taken, _ = b.next(1)
    assert taken.number == slept.number
    if end == "hopeless":
        b.finish(taken, [0.7])
        assert a.hopeless(slept, 0.5, 3)
        return
    a.finish(slept, [0.1]) if end == "finish" else a.release(slept)
    assert a.finished() == {}
    b.release(taken)
    again, _ = a.next(1)
    assert again.number == 0
    a.finish(again, [0.9])
    assert a.best().values == [0.9]
