"""An audit as it is read: tables for people, and markdown that no name can break."""

from pathlib import Path

import pandas as pd
import pytest
from fakes import dataset

from mammo_lightning.auditing.look import Look
from mammo_lightning.auditing.telling import captions, markdown, readable
from mammo_lightning.datamodules.shortcuts import RULE


@pytest.fixture
def found(tmp_path: Path) -> Look:
    look = Look(dataset("synthetic", tmp_path, patients=20), "synthetic")
    look.lines, look.tables = [], {}
    return look


def test_value_and_interval_are_one_column_and_those_for_machines_are_gone() -> None:
    table = pd.DataFrame(
        [("name", "token 1", "name_1", 0.91, 0.85, 0.97, True)],
        columns=["kind", "what", "predictor", "auc", "lo", "hi", "shortcut"],
    )
    shown = readable(table)
    assert list(shown.columns) == ["kind", "what", "AUC (95 % CI)"]
    assert shown.iloc[0].tolist() == ["name", "token 1", "0.91 (0.85-0.97)"]
    assert "auc" in table, "the table itself is kept as it is"
    counts = pd.DataFrame({"class": ["a"], "images": [1]})
    assert readable(counts).equals(counts)


def test_captions_say_the_rule_and_how_many_rows_are_elsewhere() -> None:
    assert list(captions("shortcuts")) == [RULE]
    assert list(captions("shortcuts", 12)) == [RULE, "and 12 more rows in shortcuts.csv"]
    assert not list(captions("formats", -3))


def test_values_cannot_break_a_table(found: Look) -> None:
    found.tables = {"counts": pd.DataFrame([["a|b\n| c", "<img src=x>"]], columns=["cl|ass", "<b>\r\nx"])}
    page = markdown(found)
    assert page.endswith(
        "## Counts\n\n| cl/ass | &lt;b> x |\n| --- | --- |\n| a/b / c | &lt;img src=x> |\n"
    )  # fmt: skip
    assert "<" not in page


def test_a_line_stays_one_line(found: Look) -> None:
    found.lines = ["leak: 'a\n- control: <b>' | x"]
    assert markdown(found) == "# Audit of synthetic\n\n- leak: 'a - control: &lt;b>' | x\n"


def test_nothing_found_is_said(found: Look) -> None:
    assert markdown(found) == "# Audit of synthetic\n\nNothing found that is wrong.\n"
