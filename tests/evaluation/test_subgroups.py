import numpy as np
import pandas as pd
import pytest

from mammo_lightning.evaluation.subgroups import varies_within
from mammo_lightning.types import Predictions


def table() -> Predictions:
    """Three patients with both breasts in two views; the second has images of two scanners."""
    frame = pd.DataFrame(
        [
            {"image": f"{patient}_{side}_{view}", "patient": patient, "laterality": side, "view": view,
             "scanner": "b" if patient == "p1" and side == "R" else "a", "age": {"p0": 50.0, "p1": np.nan}.get(patient)}
            for patient in ("p0", "p1", "p2") for side in "LR" for view in ("CC", "MLO")
        ]
    )  # fmt: skip
    frame = frame.assign(group=frame["patient"], exam="1", fold=0, split="val", label=[0, 1] * 6)
    return Predictions(frame.assign(partly=["x", None] * 6, p_benign=0.5, p_malignant=0.5))


@pytest.mark.parametrize(
    ("column", "levels"),
    [
        ("view", {"breast", "exam", "patient"}),
        ("laterality", {"exam", "patient"}),
        ("scanner", {"exam", "patient"}),
        ("partly", {"breast", "exam", "patient"}),
        ("age", set()),  # a value that is missing on all rows of a patient varies as little as one that is there
    ],
)
def test_a_column_varies_from_the_level_on_that_holds_several_of_its_values(column: str, levels: set[str]) -> None:
    tried = ("patch", "view", "breast", "exam", "patient")
    assert {level for level in tried if varies_within(table(), column, level)} == levels
