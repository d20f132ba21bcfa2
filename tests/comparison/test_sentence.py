"""What the sentence says: every real difference or that there are more, and in whose favour a test leans."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from side_by_side import finished, table

from mammo_lightning.comparison.compare import compare
from mammo_lightning.comparison.entries import entries_of
from mammo_lightning.comparison.pairs import COLUMNS
from mammo_lightning.comparison.sentence import sentence
from mammo_lightning.ensembles.members import BY_HAND
from mammo_lightning.runs import Runs
from mammo_lightning.tracking.journal import Journal

NOTHING = {"auc": (0.001, 1.0), "tpr": (0.001, 1.0), "fpr": (-0.001, 1.0)}


def told(runs: dict, chosen=()):
    """The sentence of runs with these differences and Holm p, against `linear`."""
    rows = [
        dict.fromkeys(COLUMNS, "")
        | {"name": name, "reference": "linear", "figure": figure, "difference": difference}
        | {"lo": difference - 0.01, "hi": difference + 0.01, "p": holm / 10, "holm": holm}
        for name, figures in runs.items()
        for figure, (difference, holm) in (NOTHING | figures).items()
    ]
    entries = [SimpleNamespace(name=name, reference=name == "linear") for name in (*runs, "linear")]
    return sentence(entries, pd.DataFrame(rows, columns=list(COLUMNS)), chosen)


def of_study(mlruns, predictions, *, kind, trials, scheme="cv", study="tuned"):
    """A run of a study that tried so many."""
    journal = Journal(mlruns)
    above = journal.run(f"{study}-000000")
    above.begin(kind="study", name=study, study=study, parent=None, experiment="planted", tags={})
    above.write("recipe.json", json.dumps({"trials": trials, "scheme": scheme}))
    run = journal.run(f"{above.run_id}.{kind}")
    tags = {"dataset": "planted", "level": "patch", "operating_point": "youden", "classifier": "hyper"}
    run.begin(kind=kind, name=kind, study=study, parent=above.run_id, experiment="planted", tags=tags)
    run.write("predictions.parquet", predictions.frame.to_parquet(index=False))
    run.metrics({"val_patch/auc": 0.5})
    run.end("completed")
    return Runs(mlruns).get(run.run_id)


def test_rates_of_a_run_whose_area_differs_are_told_too():
    lower = "a lower TPR (−0.120, Holm p < 0.001)"
    assert told({"A": {"auc": (0.03, 0.0015), "tpr": (-0.12, 4e-5)}}) == (
        f"A beats linear by +0.030 AUC (+0.020 to +0.040, Holm p = 0.002), but with {lower}; "
        "no other difference is shown."
    )
    found = told({"A": {"auc": (-0.03, 0.0015), "tpr": (-0.12, 4e-5), "fpr": (0.1, 0.01)}})
    assert f"Holm p = 0.002), with {lower} and a higher FPR (+0.100, Holm p = 0.010); no other" in found
    found = told({"A": {"auc": (0.03, 0.0015), "tpr": (0.2, 4e-5), "fpr": (0.1, 0.01)}})
    assert "), calling more rows positive (TPR +0.200, FPR +0.100; Holm p up to 0.010); no other" in found


def test_what_is_left_out_is_counted_whether_or_not_an_area_differs():
    worse = {"tpr": (-0.12, 4e-4)}
    found = told(dict.fromkeys("BCDEFG", worse))
    assert found.startswith("No difference in AUC from linear is shown (6 tests, ")
    assert found.count("has a lower TPR") == 4
    assert found.endswith("; 2 more are in the table of tests.")
    assert "no other" not in found
    found = told({"A": {"auc": (0.03, 0.001)}} | dict.fromkeys("BCDE", worse))
    assert found.endswith("; 1 more is in the table of tests.")
    assert told({"B": worse}).endswith("; no other difference is shown.")


def test_rates_that_move_one_way_are_another_threshold_only_where_both_differ():
    found = told({"A": {"tpr": (0.1, 0.001), "fpr": (0.2, 0.02)}})
    assert "; at their operating points A calls more rows positive than linear" in found
    assert "(TPR +0.100, FPR +0.200; Holm p up to 0.020)" in found
    found = told({"A": {"tpr": (-0.1, 0.001), "fpr": (-0.001, 0.9)}})
    assert "A has a lower TPR than linear" in found
    assert "rows positive" not in found
    several = {"tpr": (-0.1, 1e-4), "fpr": (-0.2, 1e-5)}
    found = told({"A": several, "B": several})
    assert "A and B call fewer rows positive than linear" in found
    assert "(A FPR −0.200, TPR −0.100; B FPR −0.200, TPR −0.100; Holm p < 0.001)" in found


def test_a_pooled_area_is_told_only_where_it_says_more():
    assert "pooled" not in told({"A": {"auc": (0.03, 0.001), "pooled_auc": (0.03, 0.001)}})
    assert "by −0.030 pooled AUC" in told({"A": {"auc": (0.03, 0.001), "pooled_auc": (-0.03, 0.001)}})
    assert "A beats linear by +0.030 pooled AUC" in told({"A": {"pooled_auc": (0.03, 0.001)}})


def test_a_run_chosen_on_these_rows_is_said_to_lean():
    better, worse = {"auc": (0.03, 0.001)}, {"auc": (-0.03, 0.001)}
    was = " A was chosen on these rows: a p in its favour is too small (--test)."
    assert told({"A": better}, ["A"]).endswith(f"no other difference is shown.{was}")
    assert told({"A": better, "B": better}, ["A", "B"]).endswith(
        " A and B were chosen on these rows: a p in their favour is too small (--test)."
    )
    assert "chosen" not in told({"A": better}, ["B"])
    assert "chosen" not in told({"A": worse}, ["A"]), "choosing the best does not make it worse"
    assert "linear was chosen on these rows" in told({"A": worse}, ["linear"])
    assert told({"A": {"fpr": (-0.1, 0.001)}}, ["A"]).endswith(was)
    assert told({"A": worse | {"tpr": (0.1, 0.001)}}, ["A"]).endswith(was)
    assert "chosen" not in told({"A": {"fpr": (0.1, 0.001)}}, ["A"])
    assert "chosen" not in told({"A": {}}, ["A"])


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"kind": "trial", "trials": 20}, True),
        ({"kind": "final", "trials": 20}, True),
        ({"kind": "final", "trials": 1}, False),
        ({"kind": "reference", "trials": 20}, False),
        ({"kind": "final", "trials": 20, "scheme": "nested"}, False),
    ],
)
def test_which_runs_of_a_study_were_chosen_on_these_rows(tmp_path, how, expected):
    (entry,) = entries_of([of_study(tmp_path, table(skill=1.0), **how)])
    assert entry.chosen is expected


def test_an_ensemble_of_members_named_by_hand_was_chosen_on_these_rows_and_one_by_other_folds_was_not(tmp_path):
    rows = table(skill=2.5)
    named = finished(tmp_path, "named", rows, kind="ensemble", params={"by": BY_HAND}, test=rows)
    ranked = finished(tmp_path, "ranked", rows, kind="ensemble", params={"by": "val_auc"})
    found = compare([named, ranked], reference=finished(tmp_path, "weak", table(skill=0.3)), replicates=30)
    assert found.sentence.endswith(" named was chosen on these rows: a p in its favour is too small (--test).")
    optimistic = next(line for line in found.lines if "are optimistic" in line)
    assert optimistic.startswith(
        "Out-of-fold figures of a run that was chosen on these images are optimistic: named, weak"
    )
    (entry,) = entries_of([named], split="test")
    assert not entry.chosen


def views(skill: float):
    """Each patch of a patient is of another view."""
    found = table(skill=skill)
    return type(found)(found.frame.assign(view=np.where(np.arange(len(found)) % 2, "MLO", "CC")))


def test_patients_seen_by_other_images_are_not_the_same_rows(tmp_path):
    rows = views(1.0)
    side = rows.frame["view"].to_numpy()
    craniocaudal = finished(tmp_path, "cc", rows.where(side == "CC"))
    oblique = finished(tmp_path, "mlo", rows.where(side == "MLO"))
    both = finished(tmp_path, "both", rows)
    found = compare([craniocaudal, both], reference=oblique, level="patient", replicates=30)
    assert found.tests.empty
    assert "cc is not tested against mlo: other images (180 are in one of the two only)." in found.lines
    assert "both is not tested against mlo: other images (90 are in one of the two only)." in found.lines
    found = compare([both], reference=finished(tmp_path, "again", views(0.2)), level="patient", replicates=30)
    assert len(found.tests)


def test_without_a_reference_runs_on_other_images_are_named(tmp_path):
    rows = table(skill=1.0)
    runs = [finished(tmp_path, "one", rows), finished(tmp_path, "two", table(skill=0.5))]
    fewer = [finished(tmp_path, name, rows.where(np.arange(len(rows)) >= 6)) for name in ("three", "four")]
    assert "Not on the same images as one: three, four." in compare([*runs, *fewer], replicates=30).lines
    assert not any("same images" in line for line in compare(runs, replicates=30).lines)


def test_runs_that_do_not_say_how_they_were_made_are_no_seeds(tmp_path):
    made = [
        finished(tmp_path, f"{kind}{number}", table(skill=1.0, seed=number), kind=kind, params={"rule": "mean"})
        for kind in ("external", "ensemble", "reference")
        for number in range(2)
    ]
    journal = Journal(tmp_path)
    for number in range(2):  # a final of a nested study has no settings of its own
        run = journal.run(f"nested{number}-000000")
        run.begin(kind="final", name=f"nested{number}", study="", parent=None, experiment="planted", tags={})
        run.write("predictions.parquet", table(skill=1.0).frame.to_parquet(index=False))
        run.metrics({"val_patch/auc": 0.5})
        run.end("completed")
    nested = [Runs(tmp_path).get(f"nested{number}-000000") for number in range(2)]
    found = compare([*made, *nested], replicates=30).table.set_index("name")["spread"]
    assert found[found != ""].index.tolist() == ["reference0", "reference1"]
    assert found["reference0"].startswith("2 seeds: ")
