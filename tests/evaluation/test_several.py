import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mammo_lightning.errors import DataError
from mammo_lightning.evaluation.several import (
    each_against_the_rest,
    macro_auc,
    macro_auc_interval,
    targets_figure,
    targets_of,
)
from mammo_lightning.types import Predictions

NAMES = ("baseline", "benign", "malignant")


def scored(*, rows: int = 240, folds: int = 1, effect: float = 1.0, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 3, rows)
    raw = rng.normal(size=(rows, 3)) + effect * np.eye(3)[target]
    shares = np.exp(raw) / np.exp(raw).sum(1, keepdims=True)
    patient = [f"p{number // 2}" for number in range(rows)]
    table = {f"q_{name}": shares[:, place] for place, name in enumerate(NAMES)}
    table |= {"p_rest": 1 - shares[:, 2], "p_malignant": shares[:, 2], "label": (target == 2).astype(int)}
    names = np.array(NAMES, object)[target]
    fold = np.arange(rows) // 2 % folds
    columns = {"image": [str(number) for number in range(rows)], "patient": patient, "group": patient}
    return Predictions(pd.DataFrame({**columns, "view": "", "fold": fold, "split": "val", "target": names, **table}))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 50))
def test_macro_auc_is_scikit_learns(seed: int) -> None:
    predictions = scored(rows=60, seed=seed)
    shares = predictions.frame[[f"q_{name}" for name in NAMES]]
    expected = roc_auc_score(predictions.frame["target"], shares, multi_class="ovr", labels=list(NAMES))
    assert macro_auc(predictions) == pytest.approx(expected)


def test_folds_are_averaged_and_an_absent_class_is_left_out() -> None:
    predictions = scored(folds=3)
    each = [macro_auc(predictions.where(predictions.folds == fold)) for fold in range(3)]
    assert macro_auc(predictions) == pytest.approx(np.mean(each))
    without = predictions.where(predictions.frame["target"] != "benign")
    told = each_against_the_rest(without.where(without.folds == 0))
    assert np.isnan(told["benign"][0])
    assert 0.5 < macro_auc(without) < 1


def test_the_interval_narrows_with_patients_and_holds_the_value() -> None:
    few, many = (macro_auc_interval(scored(rows=rows)) for rows in (60, 1200))
    assert few.lo < few.value < few.hi
    assert many.hi - many.lo < 0.5 * (few.hi - few.lo)
    assert macro_auc_interval(scored(effect=0)).lo < 0.5 < macro_auc_interval(scored(effect=0)).hi


def test_without_finer_classes_there_is_nothing_to_tell() -> None:
    plain = Predictions(scored().frame.drop(columns=[f"q_{name}" for name in NAMES]))
    assert targets_of(plain) == ()
    with pytest.raises(DataError, match="no finer classes"):
        macro_auc(plain)


def test_the_picture_counts_what_is_taken_for_what() -> None:
    predictions = scored(rows=90)
    texts = [text.get_text() for text in targets_figure(predictions, "title").axes[0].texts]
    assert len(texts) == 9
    assert sum(map(int, texts)) == 90
