"""What a card says of runs that no study here made in one go: nested ones, references, ensembles, constant scores."""

import json
import math
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fakes import predictions

from experiments.data_options import OPTIONS
from mammo_lightning import record
from mammo_lightning.finish import Finish
from mammo_lightning.registration.card import limits, model_card
from mammo_lightning.registration.checklist import answers
from mammo_lightning.registration.cohort import cohort, subgroups
from mammo_lightning.registration.facts import Facts
from mammo_lightning.runs import Runs, Scored
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.types import Kind, Level, Predictions

STUDY = "s-000001"


def two_scanners(*, within: bool) -> Predictions:
    """Scores with a column that differs between the images of one patient, or between patients alone."""
    table = predictions(patients=60, per_patient=2)
    place = np.arange(len(table)) if within else np.arange(len(table)) // 2 // 3
    return Predictions(table.frame.assign(scanner=np.where(place % 2, "b", "a")))


def kept(
    mlruns: Path, kind: Kind = Kind.final, rows: Predictions | None = None, level: str = "patch", **recipe: Any
) -> Facts:
    """A run as its study leaves it, as far as a card reads it."""
    journal = Journal(mlruns)
    common: dict[str, Any] = {"study": "s", "experiment": "x", "tags": {"dataset": recipe.get("dataset", "folder")}}
    study = journal.run(STUDY)
    study.begin(kind=Kind.study, name="s", parent=None, **common)
    study.write("recipe.json", json.dumps({"dataset": "folder", "level": level, **recipe}))
    study.tags({"version.torch": "9.9"})
    run = journal.run(f"{STUDY}.r")
    run.begin(kind=kind, name="r", parent=STUDY, **common)
    run.dataset("folder", "0123", "somewhere")
    record.keep(run, "val", rows or predictions())
    run.end("completed")
    return Facts(Runs(mlruns).get(run.run_id))


def test_constant_scores_have_no_slope_among_the_metrics_and_a_row_on_the_card(tmp_path: Path) -> None:
    rows = predictions()
    rows = rows.with_scores(np.full(len(rows), 0.3))
    facts = kept(tmp_path, rows=rows)
    data = SimpleNamespace(levels=[Level.patch], synthetic=False)
    decide = lambda rows, at: (rows.at(at).scores >= 0.5, 0.5)  # noqa: E731
    found = record.record(facts.run, rows, split="val", level=Level.patch, data=data, decide=decide, title="r")
    assert math.isnan(found["calibration_slope"].value)
    metrics = facts.run.read_metrics()
    assert all(math.isfinite(value) for value in metrics.values())
    assert not [name for name in metrics if "calibration_slope" in name]
    assert {"val_patch/brier", "val_patch/calibration_intercept_lo", "val_auc"} <= metrics.keys()
    calibration = dict(model_card(Runs(tmp_path).get(facts.run.run_id)).sections)["Calibration"]
    assert "| out of fold | – | 0.154 (" in calibration


def test_an_end_that_is_not_known_is_not_made_up(tmp_path: Path) -> None:
    facts = kept(tmp_path)
    facts.metrics["val_patch/calibration_slope"] = 1.234
    assert str(facts.estimate("val", Level.patch, "calibration_slope")) == "1.23"


@pytest.mark.parametrize(
    ("within", "level", "told"), [(True, "patient", False), (True, "patch", True), (False, "patient", True)]
)
def test_a_patient_with_images_of_two_scanners_counts_as_of_neither(
    tmp_path: Path, within: bool, level: str, told: bool
) -> None:
    facts = kept(tmp_path, rows=two_scanners(within=within), level=level)
    section = subgroups(facts)
    assert ("| scanner | a | out of fold |" in section) is told
    assert ("Not by scanner: one patient may hold several values." in section) is not told
    assert bool(answers(facts)["subgroups"]) is told
    summary = SimpleNamespace(lines=[])
    task = SimpleNamespace(data=SimpleNamespace(subgroups=["scanner"], answers=()))
    finish: Any = SimpleNamespace(task=task, goal=SimpleNamespace(level=Level(level)))
    Finish._within(finish, summary, two_scanners(within=within))  # type: ignore[arg-type]
    assert any(line.startswith("AUC within scanner: a ") for line in summary.lines) is told


@pytest.mark.parametrize(
    ("kind", "recipe", "said"),
    [
        (Kind.final, {}, "The best of 7 trials by val_auc, out of fold"),
        (Kind.final, {"scheme": "holdout"}, "The best of 7 trials by val_auc, on the fold held out"),
        (Kind.final, {"scheme": "nested"}, "In each outer fold the best of 7 trials by val_auc on inner folds; "),
        (Kind.trial, {}, "One of 7 trials by val_auc, out of fold"),
        (Kind.reference, {}, "The best of 7 trials of its own"),
    ],
)
def test_how_it_was_chosen_is_told_as_it_was(tmp_path: Path, kind: Kind, recipe: dict[str, Any], said: str) -> None:
    facts = kept(tmp_path, kind, trials=7, **recipe)
    assert answers(facts)["choice"].startswith(said)
    optimistic = any("chosen among others by it" in line for line in limits(facts))
    assert optimistic is (kind is not Kind.reference and recipe.get("scheme") != "nested")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"rule": "mean", "by": "val_ap"}, "Members by val_ap, judged on other folds than chosen by"),
        ({"rule": "greedy", "by": "val_auc"}, "Members by the rule greedy, judged on other folds than chosen by"),
        ({"rule": "mean", "by": "named"}, "Members were named by hand; no figure is corrected for that choice"),
        ({"rule": "greedy", "by": "named"}, "Members were named by hand; no figure is corrected for that choice"),
    ],
)
def test_members_named_by_hand_are_said_to_be(tmp_path: Path, params: dict[str, str], said: str) -> None:
    facts = ensemble(tmp_path, params, f"{STUDY}.r")
    assert answers(facts)["choice"] == said


def ensemble(mlruns: Path, params: dict[str, str], member: str) -> Facts:
    kept(mlruns, patient_from=r"(p\d+)_")
    run = Journal(mlruns).run("ensemble-1")
    run.begin(kind=Kind.ensemble, name="e", study="", parent=None, experiment="x", tags={"dataset": "folder"})
    run.params(params)
    record.keep(run, "val", predictions())
    run.write("manifest.json", json.dumps({"members": [{"run": member, "digest": "0", "name": "m", "weight": 1.0}]}))
    run.end("completed")
    return Facts(Scored(run))


def test_the_audit_that_is_proposed_opens_the_same_images_and_names_no_folder(tmp_path: Path) -> None:
    private = tmp_path / "Mrs Jones"
    options = {"root": private, "patient_from": r"(p\d+)_ (.*)", "size": 64, "positive": "big one", "pairs": False}
    facts = kept(
        tmp_path / "mlruns", **json.loads(json.dumps(options, default=str)), data={"side": 3, "list": str(private)}
    )
    said = cohort(facts)
    assert "Mrs Jones" not in said
    command = shlex.split(said.rpartition("No audit of these images is kept: `")[2].partition("`")[0])
    assert command[:5] == ["python", "-m", "experiments.audit", "--dataset", "folder"]
    given = dict(zip(command[5::2], command[6::2], strict=True))
    assert given.items() >= {"--root": "ROOT", "--size": "64", "--patient-from": r"(p\d+)_ (.*)"}.items()
    assert {name.removeprefix("--").replace("-", "_") for name in given} <= OPTIONS.keys()
    assert "--data list=LIST" in " ".join(command)
    assert "--data side=3" in " ".join(command)


def test_a_table_is_told_as_one_and_predictions_made_elsewhere_have_no_audit(tmp_path: Path) -> None:
    facts = kept(tmp_path / "a", dataset="table", table="cohorts/mine.csv", positive="yes")
    assert "audit --dataset table --table TABLE --positive yes`." in cohort(facts)
    other = kept(tmp_path / "b", dataset="somebody's")
    assert "No audit of these images is kept." in cohort(other)


def test_a_study_that_is_on_another_machine_says_nothing_and_stops_nothing(tmp_path: Path) -> None:
    near = ensemble(tmp_path / "near", {}, f"{STUDY}.r")
    assert near.versions["torch"] == "9.9"
    assert "--patient-from" in cohort(near)
    far = ensemble(tmp_path / "far", {}, "elsewhere-000002.t001")
    assert "torch" not in far.versions
    assert "audit --dataset folder`." in cohort(far)
    assert model_card(far.scored).markdown("m").startswith("# m")
