"""Planted runs: better, worse, equal, at chance; and what cannot be compared."""

import numpy as np
import pandas as pd
import pytest
from side_by_side import changed, finished, table, unfolded

from mammo_lightning.comparison.compare import compare
from mammo_lightning.comparison.hardest import hardest
from mammo_lightning.comparison.learning import learning_curves
from mammo_lightning.comparison.options import check_prevalence, points_of, reference_of
from mammo_lightning.comparison.recalibration import BEFORE, recalibrations
from mammo_lightning.comparison.sentence import signed
from mammo_lightning.errors import DataError, SettingsError, TrackingError
from mammo_lightning.evaluation.calibrators import calibrated_across
from mammo_lightning.evaluation.metrics import auc
from mammo_lightning.evaluation.paired import holm
from mammo_lightning.runs import Runs


def quick(runs, **how):
    return compare(runs, replicates=200, **how)


def test_a_planted_better_and_worse_run_is_named_and_an_equal_one_is_not(tmp_path):
    middle = finished(tmp_path, "middle", table(skill=0.7))
    runs = [
        finished(tmp_path, "strong", table(skill=1.6)),
        finished(tmp_path, "weak", table(skill=0.0)),
        finished(tmp_path, "equal", table(skill=0.7, seed=1)),
    ]
    found = quick(runs, reference=middle)
    assert "strong beats middle by +" in found.sentence
    assert "weak is worse than middle by −" in found.sentence
    assert "equal" not in found.sentence
    assert found.sentence.endswith(".")
    assert list(found.table["name"]) == ["strong", "weak", "equal", "middle"]
    assert found.tests["holm"].tolist() == pytest.approx(holm(found.tests["p"].tolist()))
    assert set(found.tests["figure"]) == {"auc", "pooled_auc", "tpr", "fpr"}
    pooled = found.tests[(found.tests["name"] == "strong") & (found.tests["figure"] == "pooled_auc")].iloc[0]
    mine, theirs = table(skill=1.6), table(skill=0.7)
    expected = auc(mine.labels, mine.scores) - auc(theirs.labels, theirs.scores)
    assert pooled["difference"] == pytest.approx(expected)
    assert pooled["method"] == "Obuchowski"
    row = found.table.iloc[0]
    assert row["tp"] + row["fn"] == row["positive"] == mine.labels.sum()
    assert row["tpr"] == pytest.approx(row["tp"] / row["positive"])
    assert row["auc_lo"] < row["auc"] < row["auc_hi"]


def test_equal_runs_show_no_difference(tmp_path):
    reference = finished(tmp_path, "one", table(skill=1.0), operating_point="fixed0.5")
    found = quick(
        [finished(tmp_path, "two", table(skill=1.0, seed=3), operating_point="fixed0.5")], reference=reference
    )
    assert found.sentence.startswith("No difference from one is shown (4 tests")


def test_another_threshold_of_the_same_scores_is_told_as_that(tmp_path):
    reference = finished(tmp_path, "one", table(skill=1.0), operating_point="fixed0.5")
    found = quick([finished(tmp_path, "eager", table(skill=1.0), operating_point="fixed0.2")], reference=reference)
    assert found.sentence.startswith("No difference in AUC from one is shown (2 tests")
    assert "eager calls more rows positive than one (FPR +" in found.sentence


def test_without_a_reference_nothing_is_tested_and_the_way_to_it_is_said(tmp_path):
    runs = [finished(tmp_path, name, table(skill=skill)) for name, skill in (("a", 1.0), ("b", 2.0))]
    found = quick(runs)
    assert "--reference" in found.sentence
    assert found.tests.empty
    assert "stands alone" in quick(runs[:1]).sentence


def test_permuted_labels_are_at_chance_in_every_figure(tmp_path):
    runs = [finished(tmp_path, f"p{number}", table(skill=2.0, seed=number, shuffle=11)) for number in range(3)]
    found = quick(runs, reference=runs[0])
    assert (found.table["auc_lo"] < 0.5).all()
    assert (found.table["auc_hi"] > 0.5).all()
    assert (found.table["calibration_slope"].abs() < 0.5).all()
    assert found.sentence.startswith("No difference")
    assert not {"beats", "is worse than"} & set(found.sentence.split())
    assert "Not shown to be better than chance: p1, p2, p0." in found.lines


def test_other_folds_are_paired_by_pooled_rows_and_marked(tmp_path):
    rows = table(skill=0.5)
    other = changed(table(skill=2.5), fold=(np.arange(len(rows)) // 12) % 3)
    found = quick([finished(tmp_path, "strong", other)], reference=finished(tmp_path, "weak", rows))
    assert set(found.tests["mark"]) == {"other folds"}
    assert "auc" not in set(found.tests["figure"])
    assert "strong beats weak" in found.sentence
    assert "other folds" in found.sentence
    assert any("pooled rows alone: strong" in line for line in found.lines)


def test_other_images_and_other_labels_are_not_paired_and_listed(tmp_path):
    rows = table(skill=1.0)
    reference = finished(tmp_path, "reference", rows)
    fewer = finished(tmp_path, "fewer", rows.where(np.arange(len(rows)) >= 6))
    relabelled = finished(tmp_path, "relabelled", table(skill=1.0, shuffle=1))
    found = quick([fewer, relabelled], reference=reference)
    assert found.tests.empty
    assert "No run could be tested" in found.sentence
    assert "fewer is not tested against reference: other images (6 are in one of the two only)." in found.lines
    assert any(line.startswith("relabelled is not tested against reference: another label on") for line in found.lines)


def test_the_order_of_rows_changes_nothing(tmp_path):
    rows = table(skill=1.0)
    mixed = rows.where(np.ones(len(rows), bool))
    mixed = type(rows)(mixed.frame.sample(frac=1, random_state=3).reset_index(drop=True))
    one = quick([finished(tmp_path / "a", "x", rows)], reference=finished(tmp_path / "a", "y", table(skill=0.2)))
    two = quick([finished(tmp_path / "b", "x", mixed)], reference=finished(tmp_path / "b", "y", table(skill=0.2)))
    assert one.tests["difference"].tolist() == pytest.approx(two.tests["difference"].tolist())
    assert one.table["tpr"].tolist() == pytest.approx(two.table["tpr"].tolist())


def test_the_test_split_is_judged_at_the_frozen_threshold(tmp_path):
    rows = table(skill=1.5)
    run = finished(tmp_path, "one", rows, test=unfolded(rows), test_reads="2")
    found = quick([run], split="test")
    row = found.table.iloc[0]
    assert row["threshold"] == 0.5
    assert row["tpr"] == pytest.approx((rows.scores[rows.labels == 1] >= 0.5).mean())
    assert row["judged"] == "test split"
    assert any("read 2 of the test split" in line for line in found.lines)
    with pytest.raises(DataError, match="has no predictions of split test"):
        quick([finished(tmp_path, "unread", rows)], split="test")


def test_levels_gather_patients_and_a_level_that_was_not_judged_is_refused(tmp_path):
    run = finished(tmp_path, "one", table(skill=1.0))
    found = quick([run], level="patient")
    assert found.table.iloc[0]["positive"] == 30
    assert found.level == "patient"
    with pytest.raises(DataError, match=r"was not judged at level breast; .* Pass --level patch"):
        quick([run], level="breast")
    with pytest.raises(SettingsError, match="no level 'woman'"):
        quick([run], level="woman")


def test_a_rate_of_one_gets_the_exact_interval_of_its_groups(tmp_path):
    rows = table(skill=9.0)
    found = quick([finished(tmp_path, "sure", rows, operating_point="fixed0.5")])
    assert found.table.iloc[0]["tpr"] == 1.0
    groups = 30
    assert found.table.iloc[0]["tpr_lo"] == pytest.approx(0.025 ** (1 / groups))


def test_subgroups_stand_at_the_one_threshold(tmp_path):
    rows = table(skill=1.0)
    found = quick([finished(tmp_path, "one", rows)], split="val")
    subgroups = found.subgroups
    assert subgroups["column"].unique().tolist() == ["density"]
    assert subgroups["value"].tolist() == ["a", "b", "c"]
    assert subgroups["positive"].sum() == rows.labels.sum()
    share = (subgroups["tpr"] * subgroups["positive"]).sum() / subgroups["positive"].sum()
    assert share == pytest.approx(found.table.iloc[0]["tpr"])


def test_seeds_and_trials_show_their_spread(tmp_path):
    runs = [finished(tmp_path, f"s{seed}", table(skill=1.0, seed=seed)) for seed in range(3)]
    other = finished(tmp_path, "deep", table(skill=1.0, seed=9), params={"depth": 4})
    found = quick([*runs, other])
    assert found.table["spread"].str.startswith("3 seeds: ").tolist() == [True, True, True, False]


def test_what_cannot_be_compared_is_one_line(tmp_path):
    rows = table(skill=1.0)
    run = finished(tmp_path, "one", rows)
    other = rows.frame.rename(columns={"p_benign": "p_normal", "p_malignant": "p_cluster"})
    renamed = finished(tmp_path, "renamed", type(rows)(other))
    histology = finished(tmp_path, "tissue", rows, domain="histology")
    single = finished(tmp_path, "single", rows.where(rows.labels == 0))
    with pytest.raises(SettingsError, match="0 runs to compare"):
        quick([])
    with pytest.raises(DataError, match=r"tells normal from cluster, run 'one-000000' benign from malignant"):
        quick([run, renamed])
    with pytest.raises(DataError, match="compare runs of one domain"):
        quick([run, histology])
    with pytest.raises(DataError, match=r"0\+/120- .* a comparison needs both classes"):
        quick([run, single])
    with pytest.raises(TrackingError, match="no run 'nobody'"):
        Runs(tmp_path).named(["nobody"])


def test_a_file_that_is_not_what_was_written_or_holds_nan_is_refused(tmp_path):
    run = finished(tmp_path, "one", table(skill=1.0))
    frame = pd.read_parquet(run.run.artifacts / "predictions.parquet")
    frame.loc[3, "p_malignant"] = np.nan
    run.run.write("predictions.parquet", frame.to_parquet(index=False))
    with pytest.raises(DataError, match="predictions hold NaN"):
        quick([Runs(tmp_path).get(run.run_id)])
    (run.run.artifacts / "predictions.parquet").write_bytes(frame.head(9).to_parquet(index=False))
    with pytest.raises(DataError, match="is not what run 'one-000000' wrote"):
        quick([Runs(tmp_path).get(run.run_id)])


def test_the_hardest_images_are_missed_positives_first(tmp_path):
    found = quick([finished(tmp_path, name, table(skill=0.8, seed=seed)) for seed, name in enumerate("ab")])
    rows = hardest(found.entries, missed=4, alarms=3)
    assert rows["label"].tolist() == [1, 1, 1, 1, 0, 0, 0]
    means = rows[["score_0", "score_1"]].mean(axis=1)
    assert means[:4].is_monotonic_increasing
    assert means[4:].is_monotonic_decreasing
    assert (rows["missed"] >= 1).all()


def test_learning_curves_are_means_over_folds(tmp_path):
    found = quick([finished(tmp_path, "one", table(skill=1.0))])
    assert learning_curves(found.entries) == {"train_loss": {0: [1.0, 0.5, 0.75]}}


def test_options_say_what_is_wrong(tmp_path):
    assert points_of(["readers: two:0.1,0.9"]) == {"readers: two": (0.1, 0.9)}
    for wrong in ("readers", "readers:0.1", "x:1.2,0.5", "x:a,b"):
        with pytest.raises(SettingsError, match="is not name:FPR,TPR"):
            points_of([wrong])
    with pytest.raises(SettingsError, match="no share between 0 and 1"):
        check_prevalence(1.0)
    run = finished(tmp_path, "one", table(skill=1.0))
    runs = Runs(tmp_path)
    assert reference_of(runs, [run], "one").run_id == run.run_id
    with pytest.raises(TrackingError, match="--reference 'nobody': no run"):
        reference_of(runs, [run], "nobody")
    assert [signed(value) for value in (0.02, -0.02, -0.0001)] == ["+0.020", "−0.020", "0.000"]


def test_calibration_is_shown_before_and_after_by_other_folds(tmp_path):
    flat = table(skill=0.5, patients=300)
    odds = np.log(flat.scores / (1 - flat.scores))
    sure = finished(tmp_path, "sure", flat.with_scores(1 / (1 + np.exp(-6 * odds))))
    one = finished(tmp_path, "one-fold", unfolded(flat))
    found = recalibrations(compare([sure, one], replicates=50).entries)
    assert found["name"].unique().tolist() == ["sure"], "of one fold nothing can be calibrated on other rows"
    rows = found.set_index("calibration")
    assert rows.index.tolist() == [BEFORE, "platt", "temperature", "isotonic"]
    assert rows.loc[BEFORE, "calibration_slope"] < 0.5
    assert rows.loc["platt", "calibration_slope"] == pytest.approx(1.0, abs=0.3)
    assert (rows["brier"].drop(BEFORE) < rows.loc[BEFORE, "brier"]).all()
    expected = calibrated_across("temperature", sure.predictions())
    assert rows.loc["temperature", "brier"] == pytest.approx(((expected.scores - expected.labels) ** 2).mean())
