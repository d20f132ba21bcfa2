"""What a study ends in, at a terminal of any width: no figure without its interval and its counts."""

import io

import pytest
from rich.console import Console

from experiments.display import Display
from mammo_lightning.evaluation.resampling import Estimate
from mammo_lightning.reports import Row, Summary


@pytest.mark.parametrize("width", [80, 100, 130, 200])
def test_nothing_of_a_row_is_cut_off(width: int) -> None:
    summary = Summary("e3 weighted", "ensemble-0", "spec0.80", False, kind="ensemble")
    name = "best member by other folds (t001 i10 dr0.05 de1 pbackground)"
    figures = Estimate(0.981, 0.912, 0.996), Estimate(0.974, 0.884, 0.991), Estimate(0.211, 0.143, 0.308)
    summary.rows.append(Row(name, "out of fold", figures[0], "245+/265- · 88 patients", *figures[1:]))
    display = Display(Console(file=io.StringIO(), width=width, markup=False))
    display.conclude(summary)
    printed = display.console.file.getvalue()
    assert "…" not in printed
    for part in ("0.98", "(0.91-1.00)", "0.97", "(0.88-0.99)", "0.21", "(0.14-0.31)", "245+/265- · 88 patients"):
        assert part in printed
    assert all(word in printed for word in ("best", "(t001", "pbackground)"))
