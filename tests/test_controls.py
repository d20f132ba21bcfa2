"""Controls: permuted labels are at chance, and what is blanked is gone."""

import numpy as np
import pandas as pd

from mammo_lightning.controls import border_only, centre_blanked, controls, permuted
from mammo_lightning.datamodules.shortcuts import grouped_folds


def planted(where: str, patients: int = 60, each: int = 3) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(patients), each)
    label = rng.permutation(np.arange(patients) % 2)[patient]
    images = rng.normal(0.5, 0.05, (len(label), 1, 24, 24)).astype(np.float32)
    place = slice(10, 14) if where == "centre" else slice(0, 2)
    images[label == 1, :, place, 10:14] += 0.4
    who = [f"p{n:02d}" for n in patient]
    names = [f"{name}_{i}" for i, name in enumerate(who)]
    frame = {"image": names, "patient": who, "group": who, "view": "", "split": "", "label": label}
    return pd.DataFrame(frame), images


def reached(where: str) -> dict[str, float]:
    frame, images = planted(where)
    found = controls(frame, images, grouped_folds(frame), scale=1.0)
    assert all(each.line.startswith("control: ") for each in found)
    assert all(each.counts == "90+/90- · 60 patients" for each in found)
    assert "at chance, as it must be" in found[1].line
    return {each.key: each.auc.value for each in found}


def test_what_lies_in_the_centre_is_gone_when_it_is_blanked() -> None:
    auc = reached("centre")
    assert auc["as_it_is"] > 0.95
    assert abs(auc["permuted_labels"] - 0.5) < 0.12
    assert auc["centre_blanked"] < 0.7
    assert auc["border_only"] < 0.7


def test_what_lies_in_the_border_is_still_seen() -> None:
    auc = reached("border")
    assert auc["centre_blanked"] > 0.95
    assert auc["border_only"] > 0.95


def test_blanking_tells_nothing_of_what_was_there() -> None:
    """Not even by the grey that is put in its place."""
    __, images = planted("centre")
    other = images.copy()
    other[:, :, 8:16, 8:16] = 9.0
    for picture in (centre_blanked, border_only):
        np.testing.assert_array_equal(picture(images), picture(other))
        np.testing.assert_array_equal(picture(images)[:, :, :4], images[:, :, :4])


def test_labels_are_permuted_between_whole_groups() -> None:
    groups = np.repeat([f"p{n}" for n in range(40)], 5)
    labels = np.repeat(np.arange(40) % 2, 5)
    mixed = permuted(labels, groups, np.random.default_rng(0))
    assert pd.Series(mixed).groupby(groups).nunique().max() == 1
    assert mixed.sum() == labels.sum()
    assert not np.array_equal(mixed, labels)


def test_test_rows_and_large_images_are_handled() -> None:
    frame, images = planted("border")
    frame.loc[frame.index < 30, "split"] = "test"
    large = np.repeat(np.repeat((images * 255).clip(0, 255).astype(np.uint8), 8, axis=2), 8, axis=3)
    found = controls(frame, large, grouped_folds(frame), scale=255.0)
    assert found[0].counts.endswith("50 patients")
    assert found[0].auc.value > 0.95
