"""The demo as a newcomer runs it, and what a fresh browser shows at the link it prints."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tracking.test_browser import browser, curves, keep, served

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.proof


def test_the_demo_ends_in_a_link_to_its_leaderboard(tmp_path: Path) -> None:
    mlruns = tmp_path / "mlruns"
    command = [sys.executable, "-m", "experiments.tune", "--mlruns", str(mlruns)]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    truth = next(line for line in lines if line.startswith("truth: AUC"))
    assert "20,000 fresh patients" in truth
    assert any(re.search(r"final\s+0\.\d\d \(0\.\d\d-\d\.\d\d\).*\d+\+/\d+- · \d+ patients", line) for line in lines)
    printed = lines[-1].strip()
    with served(mlruns) as link, browser() as page:
        assert printed.partition("#")[2] == link.partition("#")[2], "the link of the study is the link of the server"
        page.goto(link)
        page.get_by_text("ROC, operating points and settings").wait_for()
        shown = page.locator("body").inner_text()
        trials = next(path.name for path in mlruns.glob("journal/demo-*.final-*")).partition(".")[0]
        kept = len(list(mlruns.glob(f"journal/{trials}.t*/artifacts/figures/roc.png")))
        asked = len(list(mlruns.glob(f"journal/{trials}.t*")))
        assert re.search(rf"{asked + 2}\s+matching runs", shown)
        assert curves(page, "roc/fpr", "roc/tpr", least=kept) == kept + 2, "a pruned trial has no curve"
        keep(page, tmp_path, "demo_leaderboard")
        if "PICTURE" in os.environ:
            page.set_viewport_size({"width": 1900, "height": 1150})
            page.wait_for_timeout(3000)
            page.screenshot(path=os.environ["PICTURE"], clip={"x": 0, "y": 0, "width": 1410, "height": 1150})
