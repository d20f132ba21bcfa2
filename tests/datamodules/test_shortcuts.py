"""Trivial predictors: a planted one is found and named, chance stays chance, and nobody is judged on his own group."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mammo_lightning.datamodules.microcalc import Microcalc
from mammo_lightning.datamodules.predictors import Predictor, predictors
from mammo_lightning.datamodules.shortcuts import Shortcut, grouped_folds, out_of_fold_auc, shortcuts, table
from mammo_lightning.errors import DataError

CLASSES = ("normal", "cluster")
PATIENTS, EACH = 60, 4


def frame(patients: int = PATIENTS, each: int = EACH, name: str = "{patient}_{crop}.png") -> pd.DataFrame:
    patient = np.repeat(np.arange(patients), each)
    crop = np.tile(np.arange(each), patients)
    label = np.random.default_rng(0).permutation(np.arange(patients) % 2)[patient]
    names = [name.format(patient=f"p{n:03d}", crop=c, label=y) for n, c, y in zip(patient, crop, label, strict=True)]
    who = [f"p{n:03d}" for n in patient]
    return pd.DataFrame({"image": names, "patient": who, "group": who, "view": "", "split": "", "label": label})


def noise(rows: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 10, (rows, 1, 8, 8)).clip(0, 255).astype(np.uint8)


def found(index: pd.DataFrame, images: np.ndarray | None = None, **how: object) -> dict[str, Shortcut]:
    images = noise(len(index)) if images is None else images
    every = shortcuts(index, images, grouped_folds(index), classes=CLASSES, replicates=200, **how)
    return {each.predictor.key: each for each in every}


def test_nothing_is_found_where_there_is_nothing() -> None:
    assert not [each.line for each in found(frame()).values() if each.works]


def test_a_letter_in_the_name_is_found_by_place() -> None:
    index = frame()
    letter = np.where(np.random.default_rng(2).random(PATIENTS) < 0.9, 1, 0)[np.repeat(np.arange(PATIENTS), EACH)]
    source = np.where(index["label"] == letter, "u", "f")
    index["image"] = [f"{name[1:4]}{s}1_{name[5:]}" for name, s in zip(index["image"], source, strict=True)]
    hit = found(index)["name_2"]
    assert hit.works
    assert 0.8 < hit.auc.value < 0.97
    assert hit.line.startswith("shortcut: token 2 of the file name, '")
    assert "f " in hit.told
    assert "alone reaches AUC 0." in hit.line
    assert not found(index)["name_3"].works if "name_3" in found(index) else True


def test_a_label_written_into_the_name_is_called_that() -> None:
    hit = found(frame(name="{patient}_{crop}_class{label}.png"))["name_5"]
    assert hit.auc.value == 1.0
    assert "writes the label out" in hit.line


def test_names_built_differently_are_told_by_their_pattern() -> None:
    index = frame()
    index["image"] = [
        f"{name[:4]}_{7 if label else '0_1'}_{name[5:]}"
        for name, label in zip(index["image"], index["label"], strict=True)
    ]
    assert found(index)["name_pattern"].auc.value == 1.0


def test_words_are_found_wherever_they_stand() -> None:
    index = frame(name="{patient}_{crop}.png")
    words = np.where(index["label"] == 1, "mass_", "")
    index["image"] = [
        f"{'left_' * (i % 3)}{word}{name}" for i, (word, name) in enumerate(zip(words, index["image"], strict=True))
    ]
    hits = found(index)
    assert hits["name_word_mass"].auc.value == 1.0


def test_a_patient_number_that_follows_the_class_is_found_as_a_number() -> None:
    index = frame().sort_values("label", kind="stable").reset_index(drop=True)
    index["patient"] = index["group"] = [f"p{i // EACH:03d}" for i in range(len(index))]
    index["image"] = [f"{patient}_{i % EACH}.png" for i, patient in enumerate(index["patient"])]
    hits = found(index)
    assert hits["name_2_number"].auc.value > 0.95
    assert "name_2" not in hits, "a token that no other patient has cannot be learned"


def test_class_folders_are_no_finding_but_source_folders_are() -> None:
    index = frame()
    source = np.where(np.arange(len(index)) // EACH % 10 == 0, "a", np.where(index["label"] == 1, "b", "a"))
    index["image"] = [f"{y}/{s}/{name}" for y, s, name in zip(index["label"], source, index["image"], strict=True)]
    hits = found(index)
    assert "folder_1" not in hits
    assert hits["folder_2"].works


def test_brightness_is_found_with_its_medians() -> None:
    index = frame()
    images = noise(len(index)) + (20 * index["label"].to_numpy()[:, None, None, None]).astype(np.uint8)
    hit = found(index, images)["mean"]
    assert hit.works
    assert hit.told.startswith("median 99")
    assert "contact sheets" in hit.line


def test_a_class_in_the_middle_is_found_too() -> None:
    index = frame()
    sign = np.random.default_rng(3).choice([-1, 1], len(index)) * (index["label"] == 0)
    images = noise(len(index)).astype(np.int16) + (30 * sign.to_numpy()[:, None, None, None]).astype(np.int16)
    assert found(index, images.astype(np.uint8))["mean"].auc.value > 0.95


def test_sizes_and_images_per_patient() -> None:
    index = frame()
    formats = pd.DataFrame({"width": 64 + 8 * index["label"], "height": 64, "channels": 1, "bits": 8})
    assert found(index, formats=formats)["width"].works
    few = index[(index["label"] == 0) | (index.groupby("patient").cumcount() < 2)].reset_index(drop=True)
    assert found(few)["images_per_patient"].auc.value == 1.0


def test_a_column_that_repeats_a_token_lends_it_its_name() -> None:
    index = frame()
    source = np.where(np.arange(len(index)) // EACH % 3 == 0, "b", "a")
    index = index.assign(source=source, image=[f"{s}_{name}" for s, name in zip(source, index["image"], strict=True)])
    hits = found(index, columns=["source"])
    assert hits["name_1"].predictor.title == "token 1 of the file name (column source)"
    assert "column_source" not in hits


def test_direction_is_learned_and_never_turned_round_afterwards() -> None:
    """A column that speaks one way in one fold and the other way in all others does worse than chance."""
    index = frame()
    folds = grouped_folds(index)
    turned = np.where(folds == 0, 1 - index["label"], index["label"]).astype(float)
    auc = out_of_fold_auc(index, Predictor("x", "count", "x", turned, numeric=True), folds, replicates=100)
    assert auc.value == pytest.approx(0.8)


def test_rows_of_a_test_patient_stay_unread() -> None:
    index = frame()
    index.loc[[0, 4], "split"] = "test"
    folds = grouped_folds(index)
    assert (folds[:8] == -1).all()
    assert (folds[8:] >= 0).all()
    assert index.assign(fold=folds).groupby("group")["fold"].nunique().max() == 1
    counted = predictors(index.iloc[8:], noise(len(index)), np.arange(8, len(index)))
    assert all(len(each.values) == len(index) - 8 for each in counted)


def test_one_patient_a_class_is_too_few() -> None:
    with pytest.raises(DataError, match="the scarcer class has 1 of the patients"):
        grouped_folds(frame(patients=2))


def test_the_table_is_sorted_and_complete() -> None:
    index = frame(name="{patient}_{crop}_class{label}.png")
    rows = table(list(found(index).values()))
    assert rows["predictor"].iloc[0] == "name_5"
    assert rows["auc"].is_monotonic_decreasing
    assert {"mean", "spread", "maximum", "minimum"} <= set(rows["predictor"])


@pytest.mark.skipif("MAMMO_DATA" not in os.environ, reason="MAMMO_DATA names no folder of real data")
def test_the_letter_in_the_real_names_nearly_gives_the_label_away(tmp_path: Path) -> None:
    data = Microcalc(root=Path(os.environ["MAMMO_DATA"]) / "microcalc", mlruns=tmp_path)
    data.prepare_data()
    hit = found(data.frame, data.images, columns=data.subgroups)["name_2"]
    assert hit.works
    assert hit.auc.value > 0.8
    assert "u 0/" in hit.told
