"""From patches to lesions, views, breasts, exams and patients."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo_lightning.errors import DataError
from mammo_lightning.types import Level, Predictions, levels_of


def tiled(scores: np.ndarray, **columns: object) -> Predictions:
    """Two patients, two exams each, both breasts, both views, as many tiles as there are scores a view."""
    rows = []
    for patient in ("a", "b"):
        for exam in ("1", "2"):
            for side in ("L", "R"):
                for view in ("CC", "MLO"):
                    rows += [(patient, exam, side, view, tile) for tile in range(len(scores) // 16)]
    frame = pd.DataFrame(rows, columns=["patient", "exam", "laterality", "view", "tile"])
    frame = frame.assign(image=[str(number) for number in range(len(frame))], group=frame["patient"], fold=0)
    label = (scores > 0.8).astype(int)
    frame = frame.drop(columns="tile").assign(split="val", label=label, p_no=1 - scores, p_yes=scores)
    return Predictions(frame.assign(**columns))


SCORES = np.random.default_rng(0).random(48)


def test_levels_are_those_whose_columns_are_filled_in() -> None:
    full = tiled(SCORES)
    every = [Level.patch, Level.view, Level.breast, Level.exam, Level.patient]
    assert levels_of(full.frame) == every
    assert levels_of(full.frame.assign(lesion=["x"] + [""] * 47)) == [Level.patch, Level.lesion, *every[1:]]
    assert levels_of(full.frame.assign(laterality=["", *["L"] * 47])) == [
        Level.patch,
        Level.view,
        Level.exam,
        Level.patient,
    ]
    assert levels_of(full.frame.drop(columns=["exam", "laterality"]).assign(view="")) == [Level.patch, Level.patient]


@pytest.mark.parametrize(("level", "rows"), [("view", 16), ("breast", 8), ("exam", 4), ("patient", 2)])
def test_one_row_each(level: str, rows: int) -> None:
    at = tiled(SCORES).at(level)
    assert len(at) == rows
    assert at.frame["image"].is_unique
    np.testing.assert_allclose(at.frame["p_no"] + at.frame["p_yes"], 1)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 200))
def test_a_view_is_the_maximum_of_its_tiles_and_a_breast_the_mean_of_its_views(seed: int) -> None:
    predictions = tiled(np.random.default_rng(seed).random(48))
    frame = predictions.frame
    views = frame.groupby(["patient", "exam", "laterality", "view"])[["p_yes", "label"]].max()
    np.testing.assert_allclose(predictions.at("view").scores, views["p_yes"])
    breasts = views.groupby(["patient", "exam", "laterality"]).agg({"p_yes": "mean", "label": "max"})
    np.testing.assert_allclose(predictions.at("breast").scores, breasts["p_yes"])
    np.testing.assert_array_equal(predictions.at("breast").labels, breasts["label"])
    np.testing.assert_allclose(predictions.at("patient").scores, frame.groupby("patient")["p_yes"].max())
    np.testing.assert_array_equal(predictions.at("exam").labels, frame.groupby(["patient", "exam"])["label"].max())


def test_patches_of_one_lesion_are_one_and_tissue_stays_as_it_is() -> None:
    lesion = ["one", "one", "two", *[""] * 45]
    at = tiled(SCORES, lesion=lesion).at("lesion")
    assert len(at) == 47
    assert at.frame.loc[at.frame["lesion"] == "one", "p_yes"].tolist() == [SCORES[:2].max()]
    assert sorted(at.frame.loc[at.frame["lesion"] == "", "p_yes"]) == sorted(SCORES[3:])
    other = ["one", *[""] * 23, "one", *[""] * 23]  # the same name in another patient is another lesion
    assert len(tiled(SCORES, lesion=other).at("lesion")) == 48


def test_a_level_without_its_column_is_refused() -> None:
    predictions = Predictions(tiled(SCORES).frame.drop(columns=["exam", "laterality"]))
    with pytest.raises(
        DataError, match="no level breast here: its columns are not filled in.*known: patch, patient, view"
    ):
        predictions.at("breast")
    with pytest.raises(DataError, match="no level lesion here"):
        predictions.at("lesion")


def test_lesions_of_two_breasts_are_two_though_they_have_one_number() -> None:
    frame = tiled(SCORES).frame
    frame["lesion"] = ""
    first = frame.index[frame["patient"].eq("a") & frame["exam"].eq("1")]
    frame.loc[first[[0, -1]], "lesion"] = "1"
    assert frame.loc[first[[0, -1]], "laterality"].tolist() == ["L", "R"]
    assert len(Predictions(frame).at("lesion")) == 48


def test_a_finer_class_is_of_a_patch_alone() -> None:
    at = tiled(SCORES, target="baseline", q_baseline=0.5, q_other=0.5).at("patient")
    assert not {"target", "q_baseline"} & set(at.frame)
