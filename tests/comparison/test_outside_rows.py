"""Predictions made elsewhere beside runs of one's own: what only ranks is not calibrated, what has no threshold calls
nothing positive, and the page says so without breaking.
"""

import re

import pytest
from side_by_side import finished, table

from mammo_lightning.comparison.compare import compare
from mammo_lightning.comparison.hardest import hardest
from mammo_lightning.comparison.recalibration import recalibrations
from mammo_lightning.page.html import page
from mammo_lightning.runs import Runs
from mammo_lightning.scoring.outside import read_outside
from mammo_lightning.scoring.outside_run import Wish, keep_outside


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """One's own run beside one that only ranks and one of probabilities without a threshold, all of the same rows."""
    folder = tmp_path_factory.mktemp("mlruns")
    rows = table(skill=1.0, patients=60)
    runs = [finished(folder, "own", rows)]
    words = rows.frame["label"].map({0: "benign", 1: "malignant"})
    given = rows.frame[["image", "patient", "fold"]].assign(label=words)
    ranks = given.assign(score=100 * rows.scores - 30)
    probabilities = given.drop(columns="fold").assign(p_malignant=rows.scores, p_benign=1 - rows.scores)
    for name, frame, only_ranks in (("ranks", ranks, True), ("bare", probabilities, False)):
        path = folder / f"{name}.csv"
        frame.to_csv(path, index=False)
        outside = read_outside(path, positive="malignant", ranks=only_ranks)
        _, run = keep_outside(path, outside, Wish(name), mlruns=folder)
        runs.append(Runs(folder).get(run.run_id))
    return compare(runs, replicates=30)


def row_of(text: str, number: int) -> list[str]:
    """The cells of a run in the first table of the page, without their tags."""
    row = re.search(rf'<tr data-run="{number}">(.*?)</tr>', text).group(1)
    return [re.sub("<[^>]+>", " ", cell).strip() for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)]


def test_what_only_ranks_is_told_no_calibration(found):
    rows = found.table.set_index("name")
    calibration = ["brier", "ece", "calibration_slope", "calibration_intercept"]
    assert rows.loc["ranks", calibration].isna().all()
    assert rows.loc[["own", "bare"], calibration].notna().all(axis=None)
    assert rows.loc["ranks", ["auc", "tpr", "fpr"]].notna().all(), "folds give it a threshold"
    assert "ranks" not in set(recalibrations(found.entries)["name"])


def test_without_a_threshold_no_rates_are_told(found):
    rows = found.table.set_index("name")
    assert rows.loc["bare", ["tpr", "fpr", "threshold"]].isna().all()
    assert rows.loc["bare", "operating_point"] == "none"
    assert "bare has no operating point at level patch: no TPR and FPR." in found.lines
    assert rows.loc["bare", "judged"] == "external"
    assert "Judged on different rows: external, out of fold." in found.lines


def test_the_page_shows_a_dash_for_what_is_not_told(found):
    hard = hardest(found.entries)
    text = page(found, hard=hard, pictures={})
    assert not re.search(r"\bnan\b", re.sub("<style>.*?</style>|<script>.*?</script>", "", text, flags=re.DOTALL))
    name, _, auc, tpr, fpr, _, brier, ece = row_of(text, 1)
    assert name.startswith("ranks")
    assert [brier, ece] == ["–", "–"]
    assert "–" not in {auc, tpr, fpr}
    name, _, auc, tpr, fpr, _, brier, ece = row_of(text, 2)
    assert name.startswith("bare")
    assert [tpr, fpr] == ["–", "–"]
    assert "–" not in {auc, brier, ece}
    curves = re.search(r'aria-label="Calibration".*?</svg>', text, re.DOTALL).group()
    assert set(re.findall(r'class="line" data-run="(\d)"', curves)) == {"0", "2"}
    confusions = text[text.index("<h2>Confusion</h2>") : text.index("<h2>Learning</h2>")]
    assert set(re.findall(r'<figure data-run="(\d)"', confusions)) == {"0", "1"}


def test_alone_they_make_a_page_too(found):
    ranks, bare = (entry.run for entry in found.entries[1:])
    alone = compare([bare], split="test", replicates=30)
    assert alone.sentence.endswith("there is no other run to compare it with.")
    assert "<h2>Confusion</h2>" not in page(alone, hard=hardest(alone.entries))
    text = page(compare([ranks], replicates=30))
    assert "<h2>Probabilities</h2>" not in text
    tested = compare([bare], reference=found.entries[0].run, replicates=30).tests
    assert set(tested["figure"]) == {"pooled_auc"}, "no rates, and no folds to be alike"
