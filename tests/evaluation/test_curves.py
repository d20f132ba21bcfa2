import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from mammo_lightning.errors import DataError
from mammo_lightning.evaluation.curves import (
    calibration_figure,
    confusion_figure,
    png,
    pr_figure,
    pr_points,
    roc_figure,
    roc_points,
)
from mammo_lightning.evaluation.statistics import Estimate
from mammo_lightning.evaluation.thresholds import choose, cross_fitted


def words(figure: Figure) -> str:
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [text.get_text() for text in axes.texts]
        found += [text.get_text() for text in axes.get_legend().get_texts()] if axes.get_legend() else []
    return "\n".join(found)


def test_roc_points_lie_on_the_curve(predictions_of):
    table = predictions_of(0)
    fpr, tpr = roc_points(table)
    assert fpr.tolist() == np.linspace(0, 1, 101).tolist()
    negatives = np.sort(table.scores[table.labels == 0])[::-1]
    for at, found in ((0.1, tpr[10]), (0.3, tpr[30])):
        threshold = negatives[round(at * 600)]  # the first negative too many
        assert found == (table.scores[table.labels == 1] > threshold).mean()
    fine = roc_points(table, 20_001)
    assert np.trapezoid(fine[1], fine[0]) == pytest.approx(roc_auc_score(table.labels, table.scores), abs=1e-3)


def test_ties_are_a_straight_piece(predictions_of):
    table = predictions_of(1)
    flat = table.with_scores(np.full(len(table), 0.5))
    fpr, tpr = roc_points(flat, 11)
    assert tpr == pytest.approx(fpr)


def test_pr_points_lie_on_the_step_curve(predictions_of):
    table = predictions_of(2)
    sensitivity, precision = pr_points(table)
    peer = precision_recall_curve(table.labels, table.scores)
    assert precision[-1] == peer[0][peer[1] == 1].max()
    ranked = table.labels[np.argsort(-table.scores)]
    position = np.flatnonzero(ranked.cumsum() == 100)[0]
    assert sensitivity[50] == 0.5
    assert precision[50] == pytest.approx(100 / (position + 1))
    assert pr_points(table, 5001)[1].mean() == pytest.approx(
        average_precision_score(table.labels, table.scores), abs=2e-3
    )


def test_figures_say_what_they_show(predictions_of):
    table = predictions_of(3)
    decisions, points = cross_fitted(table, "spec0.80", "patch")
    rates = f"TPR {decisions[table.labels == 1].mean():.2f}"
    roc = roc_figure(table, decisions, "trial 7", Estimate(0.8, 0.75, 0.85), "SYNTHETIC", point=points[0])
    for part in (
        "trial 7",
        "200+/600- · 200 patients",
        "AUC 0.80 (0.75-0.85)",
        "spec0.80",
        rates,
        "SYNTHETIC",
        "folds",
    ):
        assert part in words(roc), part
    marked = [line for line in roc.axes[0].lines if line.get_marker() == "o"]
    assert marked[0].get_ydata()[0] == decisions[table.labels == 1].mean()
    assert marked[0].get_xdata()[0] == decisions[table.labels == 0].mean()
    assert len(roc.axes[0].lines) == 5 + 3  # folds, chance, curve, mark
    pr = pr_figure(table, point=choose(table, "sens0.95", "patch"), name="average precision")
    assert "sens0.95" in words(pr)
    assert "average precision 0." in words(pr)
    assert "SYNTHETIC" not in words(pr)
    calibration = words(calibration_figure(table, "trial 7", "SYNTHETIC"))
    assert all(part in calibration for part in ("slope", "Brier", "ECE", "benign", "malignant", "SYNTHETIC"))
    confusion = words(confusion_figure(table, decisions, "trial 7"))
    assert rates in confusion
    assert str((decisions & (table.labels == 1)).sum()) in confusion


def test_png_is_a_picture_and_the_same_each_time(predictions_of):
    import matplotlib.image

    table = predictions_of(4, positives=6, negatives=9)
    called = table.scores >= 0.5
    first, again = (png(roc_figure(table, called, "a"), 100) for _ in range(2))
    assert first == again
    stamped = png(roc_figure(table, called, "a", stamp="SYNTHETIC"), 100)
    plain, marked = (matplotlib.image.imread(io.BytesIO(data)) for data in (first, stamped))
    assert plain.shape == marked.shape == (365, 340, 4)
    assert (np.abs(plain - marked).max(axis=2) > 0.05).mean() > 0.02


def test_one_class_and_wrong_level_are_refused(predictions_of):
    table = predictions_of(5)
    for draw in (roc_points, pr_points, roc_figure, pr_figure, calibration_figure):
        with pytest.raises(DataError, match="a curve needs both classes"):
            draw(table.where(table.labels == 0))
    with pytest.raises(DataError, match=r"200 decisions for 800 rows; pass predictions.at\(level\)"):
        confusion_figure(table, cross_fitted(table, "youden", "patient")[0])
