"""A dataset with options of its own is one file, and needs no change elsewhere."""

from pathlib import Path

import pytest

from experiments.data_options import checked_recipe
from mammo_lightning.errors import SettingsError
from mammo_lightning.opening import open_dataset
from mammo_lightning.registry import DATASETS

FOREIGN = '''
import numpy as np
import pandas as pd

from mammo_lightning.datamodules.base import MammoDataModule


class Squares(MammoDataModule):
    """Bright and dark squares."""

    name = "squares"

    def __init__(self, *, side_mm: float, dark: bool = False, kind="flat", **base):
        super().__init__(**base)
        self.side_mm, self.dark, self.kind = side_mm, dark, kind

    def contents(self, frame):
        return list(frame["image"])

    def index(self):
        rows = [{"image": f"{n}", "label": n % 2, "patient": f"p{n // 2}", "path": ""} for n in range(8)]
        return pd.DataFrame(rows)

    def read(self, row):
        return np.arange(64, dtype=np.uint8).reshape(8, 8) + int(row["label"]) * 100 + int(row["image"])
'''


@pytest.fixture
def squares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str | Path]:
    """A package that somebody installed."""
    (tmp_path / "squares.py").write_text(FOREIGN)
    about = tmp_path / "squares-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: squares\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[mammo_lightning.datasets]\nsquares = squares:Squares\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(DATASETS, "_classes", dict(DATASETS._classes))
    return {"dataset": "squares", "mlruns": tmp_path / "mlruns"}


def test_options_of_an_installed_dataset_are_given_by_name(squares: dict[str, str | Path]) -> None:
    assert "squares" in DATASETS.names()

    data = open_dataset(checked_recipe(None, **squares, data=["side_mm=2.5", "dark=true", "kind=7"]))

    assert (data.side_mm, data.dark, data.kind) == (2.5, True, "7")
    assert len(data.frame) == 8


def test_a_recipe_gives_them_too_and_the_command_line_overrides_it(
    squares: dict[str, str | Path], tmp_path: Path
) -> None:
    (tmp_path / "own.toml").write_text("[data]\nside_mm = 3\ndark = true\n")

    data = open_dataset(checked_recipe(tmp_path / "own.toml", **squares, data=["side_mm=4"]))

    assert (data.side_mm, data.dark) == (4.0, True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"data": ["side=3"]}, r"--data side is not an option of dataset 'squares'; known: --data dark=, .*side_mm="),
        ({"task": "mass"}, r"--task is not an option of dataset 'squares'"),
        ({"data": ["root=x"]}, r"--data root is not an option"),
        ({"data": ["side_mm=wide"]}, r"--data side_mm=wide is not possible for 'squares': .* valid number"),
        ({"data": ["side_mm"]}, r"--data 'side_mm' is not name=value"),
        ({}, r"dataset 'squares' needs --data side_mm="),
    ],
)
def test_wrong_ones_are_refused_in_one_line(squares: dict[str, str | Path], given: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        open_dataset(checked_recipe(None, **squares, **given))


def test_a_flag_may_be_given_by_name_as_well(tmp_path: Path) -> None:
    recipe = checked_recipe(None, dataset="synthetic", mlruns=tmp_path, limit=8, data=["patients=20"])

    assert open_dataset(recipe).patients == 20
