"""What a person sees who opens the printed link in a fresh browser.

Pictures are kept where SCREENSHOTS names a folder.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tracking.story import small_study

from mammo_lightning.tracking.journal import Journal
from mammo_lightning.tracking.publish import Publisher, default_uri
from mammo_lightning.tracking.views import CURVES, ENSEMBLES, LEADERBOARD, view_key

pytestmark = pytest.mark.proof
TRIALS = 6
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
CELLS = "[role='gridcell'][col-id='metrics.`val_auc`']"
FIRST = ("--disable-sync", "--no-first-run")


@contextmanager
def served(mlruns: Path) -> Iterator[str]:
    """The link that `experiments.ui` prints last."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "experiments.ui", "--mlruns", str(mlruns), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            last = ""
            while (line := server.stdout.readline()) and "Ctrl-C" not in line:
                last = line
            yield last.partition(": ")[2].strip()
        finally:
            server.terminate()
            server.wait(20)


@contextmanager
def browser() -> Iterator[object]:
    """A fresh page of the distribution's Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=chromium, args=[*QUIET, *FIRST])
        page = launched.new_page(viewport={"width": 1900, "height": 1300})
        page.set_default_timeout(120_000)
        yield page
        launched.close()


def keep(page, folder: Path, name: str) -> None:
    page.screenshot(path=str(Path(os.environ.get("SCREENSHOTS", folder)) / f"{name}.png"))


@pytest.fixture
def study(mlruns):
    journal = Journal(mlruns)
    small_study(journal, TRIALS)
    publisher = Publisher(journal, default_uri(mlruns), mlruns)
    publisher.publish_all()
    return mlruns


def curves(page, axis: str, metric: str, least: int = TRIALS) -> int:
    """Runs whose curve is drawn in the chart with this horizontal axis, by its legend."""
    card = page.get_by_test_id("experiment-view-compare-runs-card").filter(has=page.locator(".xtitle", has_text=axis))
    card.locator(".scatterlayer .trace").first.wait_for()
    assert card.locator(".scatterlayer .trace").count() >= least
    return int(card.inner_text().count(f"({metric})"))


def test_the_link_opens_the_leaderboard(study, tmp_path):
    with served(study) as link, browser() as page:
        failures: list[str] = []
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.goto(link)
        page.get_by_text("ROC, operating points and settings").wait_for()
        assert re.search(rf"{TRIALS + 2}\s+matching runs", page.inner_text("body"))
        assert curves(page, "roc/fpr", "roc/tpr") == TRIALS + 2
        assert page.get_by_text("val_fpr vs. val_tpr").is_visible()
        assert page.get_by_text("Parallel Coordinates").is_visible()
        keep(page, tmp_path, "leaderboard_charts")
        page.get_by_text("ROC figures").scroll_into_view_if_needed()
        walls = page.get_by_test_id("experiment-view-compare-runs-card").locator(
            "img[src*='artifact'], img[src^='blob:']"
        )
        walls.last.scroll_into_view_if_needed()
        walls.first.wait_for()
        keep(page, tmp_path, "leaderboard_images")

        page.goto(link.replace("compareRunsMode=CHART", "compareRunsMode=TABLE"))
        page.reload()
        page.locator(CELLS).first.wait_for()
        keep(page, tmp_path, "leaderboard_table")
        text = page.inner_text("body")
        for column in ("val_auc", "val_tpr", "val_fpr", "depth"):
            assert re.search(rf"^{column}$", text, re.MULTILINE), f"no column {column}"
        cells = page.locator(CELLS)
        values = [float(value) for value in cells.all_inner_texts() if value.strip() not in ("", "-")]
        assert len(values) == TRIALS + 2
        assert values == sorted(values, reverse=True)
        assert np.unique(values).size > 3
        assert not failures


def test_the_other_views_draw_their_curves(study, tmp_path):
    with served(study) as link, browser() as page:
        page.goto(link.replace(view_key("demo", LEADERBOARD), view_key("demo", CURVES)))
        page.get_by_text("Training loss by epoch").wait_for()
        page.locator(".scatterlayer .trace").first.wait_for()
        keep(page, tmp_path, "learning_curves")
        page.goto(link.replace(view_key("demo", LEADERBOARD), view_key("demo", ENSEMBLES)))
        page.reload()
        page.get_by_text("Ensembles and members").wait_for()
        assert curves(page, "pr/recall", "pr/precision") == TRIALS + 2
        keep(page, tmp_path, "ensembles")
