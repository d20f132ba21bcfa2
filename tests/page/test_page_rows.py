"""Charts of runs on rows of their own: one prevalence for all, the scores a threshold is of, a dash for no number."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from side_by_side import finished, table

from mammo_lightning.comparison.compare import compare
from mammo_lightning.comparison.hardest import hardest
from mammo_lightning.comparison.recalibration import recalibrations
from mammo_lightning.page import tables
from mammo_lightning.page.benefit import decision
from mammo_lightning.page.charts import histograms, precision
from mammo_lightning.page.gallery import gallery
from mammo_lightning.page.html import page
from mammo_lightning.runs import Runs
from mammo_lightning.scoring.outside import read_outside
from mammo_lightning.scoring.outside_run import Wish, keep_outside


def quick(*runs, **how):
    return compare(runs, replicates=30, **how)


def polylines(text: str) -> dict[str, list[str]]:
    """The points of each run's curves, and of the chart's own lines under an empty name."""
    found: dict[str, list[str]] = {}
    for run, points in re.findall(r'<polyline class="(?:line|rule)" (?:data-run="(\d)")? points="([^"]+)"', text):
        found.setdefault(run, []).append(points)
    return found


@pytest.fixture(scope="module")
def rarer(tmp_path_factory):
    """A run, and one on rows of which fewer are positive."""
    folder = tmp_path_factory.mktemp("mlruns")
    rows = table(skill=1.5)
    fewer = rows.where((rows.labels == 0) | (np.arange(len(rows)) % 4 < 2))
    return quick(finished(folder, "here", rows), finished(folder, "there", fewer))


def test_decision_curves_of_other_rows_stand_at_one_prevalence(rarer):
    text = decision(rarer, None)
    starts = {points[-1].split()[0] for points in polylines(text.split("<ul")[0]).values()}
    assert len(starts) == 1, "who acts on all has the net benefit of the prevalence, whatever the run"
    assert "At 33.3 %, the prevalence of the rows of here, to which the scores of runs on other rows are moved." in text
    stated = decision(rarer, 0.006)
    assert len({points[-1].split()[0] for points in polylines(stated.split("<ul")[0]).values()}) == 1
    assert "At 0.6 %, the stated prevalence" in stated
    alike = decision(quick(*(entry.run for entry in rarer.entries[:1])), None)
    assert "At 33.3 %, the prevalence of these rows." in alike


def test_precision_shows_chance_for_each_run_where_it_differs(rarer):
    curves = polylines(precision(rarer).split("<ul")[0])
    heights = [curves[run][0].split()[0].split(",")[1] for run in ("0", "1")]
    assert len(set(heights)) == 2
    assert "" not in curves
    assert "the share of each run’s rows that is positive" in precision(rarer)
    common = precision(quick(rarer.entries[0].run))
    assert len(polylines(common)[""]) == 1
    assert "dashed: the 33.3% of rows that are positive.</figcaption>" in common


def test_probabilities_of_external_rows_are_said_to_be_of_another_share(tmp_path, rarer):
    rows = table(skill=1.0, patients=45)
    path = tmp_path / "vendor.csv"
    rows.frame[["image", "patient", "label"]].assign(score=rows.scores).to_csv(path, index=False)
    _, run = keep_outside(path, read_outside(path), Wish("vendor"), mlruns=tmp_path)
    comparison = quick(Runs(tmp_path).get(run.run_id))
    words = "The probabilities of vendor are of the share of positives that the model was trained with"
    assert words in decision(comparison, 0.006)
    assert words not in decision(comparison, None)
    assert "trained with" not in decision(rarer, 0.006)


@pytest.mark.parametrize(("rule", "calibrated"), [("fixed0.5", True), ("youden", False)])
def test_scores_are_drawn_that_the_threshold_is_one_of(tmp_path, rule, calibrated):
    raw = table(skill=1.5)
    moved = raw.with_scores(raw.scores**4)
    run = finished(tmp_path / "balanced", "run", raw, operating_point=rule)
    run.run.write("predictions_calibrated.parquet", moved.frame.to_parquet(index=False))
    plain = finished(tmp_path / "plain", "run", moved if calibrated else raw, operating_point=rule)
    balanced, expected = quick(Runs(tmp_path / "balanced").get(run.run_id)), quick(plain)
    assert histograms(balanced) == histograms(expected)
    rows = hardest(balanced.entries)
    assert gallery(balanced, rows, {}) == gallery(expected, hardest(expected.entries), {})
    called = np.where(rows["label"] == 1, rows["called_0"] == 0, rows["called_0"] == 1)
    assert called.all()
    threshold = balanced.entries[0].threshold
    assert (rows.loc[rows["label"] == 1, "score_0"] < threshold + 0.05).all()


def test_what_is_no_number_is_a_dash(tmp_path, monkeypatch):
    runs = [finished(tmp_path, name, table(skill=skill)) for name, skill in (("one", 1.0), ("two", 0.5))]
    found = quick(runs[0], reference=runs[1])
    unknown = [name for name in found.table if name.startswith(("calibration_", "ece", "brier"))]
    unknown += [f"{name}_{end}" for name in ("auc", "tpr", "ap") for end in ("lo", "hi")]
    tests = found.tests.assign(lo=np.nan, hi=np.nan, p=np.nan, holm=np.nan)
    hollow = replace(found, table=found.table.assign(**dict.fromkeys(unknown, np.nan)), tests=tests)
    ways = recalibrations(found.entries).assign(calibration_slope=np.nan)
    monkeypatch.setattr(tables, "recalibrations", lambda entries: ways)
    text = re.sub("<style>.*?</style>|<script>.*?</script>", "", page(hollow), flags=re.DOTALL)
    assert not re.search(r"\bnan\b", text, re.IGNORECASE)
    assert text.count("slope –, intercept –") == 2
    assert pd.isna(hollow.estimate(0, "calibration_slope").value)
