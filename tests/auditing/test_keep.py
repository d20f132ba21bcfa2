"""An audit in the journal: what is kept of it, and that a run which did not get to its end says so."""

from pathlib import Path

import pytest
from fakes import dataset

from mammo_lightning.auditing.keep import NOTED, keep_look
from mammo_lightning.auditing.look import Look
from mammo_lightning.errors import TrackingError
from mammo_lightning.recipe import Recipe
from mammo_lightning.tracking.journal import Journal, RunJournal
from mammo_lightning.types import Outcome


@pytest.fixture
def found(tmp_path: Path) -> Look:
    return Look(dataset("synthetic", tmp_path, patients=20), "synthetic")


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return Recipe(patients=20, folds=3, mlruns=tmp_path / "runs")


def only_run(recipe: Recipe) -> RunJournal:
    journal = Journal(recipe.mlruns)
    (run_id,) = journal.runs()
    return journal.run(run_id)


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (TrackingError("no space"), Outcome.failed, "exception: TrackingError: no space"),
        (KeyboardInterrupt(), Outcome.interrupted, "signal"),
    ],
)
def test_a_run_that_breaks_off_says_how_and_can_be_made_again(
    found: Look, recipe: Recipe, error: BaseException, outcome: Outcome, reason: str
) -> None:
    write = RunJournal.write

    def refuse(self: RunJournal, name: str, data: bytes | str) -> Path:
        if name == "audit.md":
            raise error
        return write(self, name, data)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(RunJournal, "write", refuse)
        with pytest.raises(type(error), match=str(error)):
            keep_look(found, recipe)
    run = only_run(recipe)
    assert (run.outcome, run.reason) == (outcome, reason)
    assert "counts.csv" in run.files()
    keep_look(found, recipe)
    assert only_run(recipe).outcome is Outcome.completed
    assert "audit.md" in only_run(recipe).files()


def test_it_is_an_audit_of_the_dataset_as_it_is(found: Look, recipe: Recipe) -> None:
    run = keep_look(found, recipe)
    assert run.run_id == f"audit-synthetic-{found.data.digest}"
    assert run.identity["kind"] == "audit"
    assert run.read_tags()["synthetic"] == "true"
    assert run.read_params() == {"folds": "3", "patients": "20"}
    assert run.read_metrics()["count/patients"] == 20
    assert run.outcome is Outcome.completed


def test_rows_that_were_flagged_and_pictures_are_kept_under_plain_names(found: Look, recipe: Recipe) -> None:
    found.data.frame.loc[found.data.frame.index[1], "flags"] = "bright"
    found.sheets = {"a/../b <c>": b"\x89PNG"}
    run = keep_look(found, recipe)
    assert (run.artifacts / "flagged.csv").read_text().splitlines()[1:] == [
        f"{found.data.frame['image'].iloc[1]},{found.data.frame['patient'].iloc[1]},bright"
    ]
    assert [path.name for path in (run.artifacts / "contact").iterdir()] == ["0-a____b__c_.png"]


def test_the_page_of_the_run_says_how_many_warnings_and_the_first_of_them(found: Look, recipe: Recipe) -> None:
    found.lines = ["note: nothing", *(f"leak: {number}\n# <b>" for number in range(NOTED + 2))]
    note = keep_look(found, recipe).read_tags()["mlflow.note.content"]
    assert note.split("\n\n") == [
        f"warnings: {NOTED + 2}", *(f"leak: {number} # &lt;b>" for number in range(NOTED))
    ]  # fmt: skip
