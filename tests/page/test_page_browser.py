"""The page in a real browser: no error, no request, something to see, and runs that can be hidden.

Pictures are kept where SCREENSHOTS names a folder.
"""

import os
import shutil
from pathlib import Path

import cv2
import pytest
from side_by_side import finished, table

from mammo_lightning.comparison.compare import compare
from mammo_lightning.comparison.hardest import hardest
from mammo_lightning.page.html import page

pytestmark = pytest.mark.proof
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
FRAME = '<iframe sandbox="allow-scripts" style="border:0;width:100%;height:100vh" srcdoc="{}"></iframe>'


@pytest.fixture
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=chromium, args=list(QUIET))
        yield launched
        launched.close()


@pytest.fixture
def written(tmp_path):
    runs = [finished(tmp_path / "m", name, table(skill=skill)) for name, skill in (("strong", 2.5), ("weak", 0.4))]
    found = compare(runs[:1], reference=runs[1], replicates=60)
    path = tmp_path / "compare.html"
    path.write_text(page(found, hard=hardest(found.entries)), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("scheme", "width", "framed"), [("light", 1280, False), ("dark", 1280, True), ("light", 390, False)]
)
def test_it_opens_without_errors_or_requests(browser, written, tmp_path, scheme, width, framed):
    if framed:  # as an artifact viewer shows it: scripts, and nothing else
        outer = written.with_name("outer.html")
        outer.write_text(FRAME.format(written.read_text().replace("&", "&amp;").replace('"', "&quot;")))
        written = outer
    opened = browser.new_page(viewport={"width": width, "height": 1000}, color_scheme=scheme)
    opened.set_default_timeout(120_000)
    troubles, requests = [], []
    opened.on("console", lambda message: troubles.append(message.text))
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto(f"file://{written}")
    inside = opened.frames[-1]
    inside.locator("h1").wait_for()
    assert not troubles
    assert [url for url in requests if not url.startswith(("data:", "about:"))] == [f"file://{written}"]
    assert inside.evaluate("document.documentElement.scrollWidth") <= width

    line = inside.locator("svg[aria-label='ROC curves'] polyline[data-run='0']").first
    assert line.is_visible()
    chip = inside.locator("#runs button").first
    chip.click()
    assert not line.is_visible()
    chip.click()
    assert line.is_visible()
    inside.locator("svg[aria-label='ROC curves']").hover()
    assert "strong" in inside.locator("#tip").inner_text()

    shot = Path(os.environ.get("SCREENSHOTS", tmp_path)) / f"compare-{scheme}-{width}.png"
    opened.screenshot(path=str(shot))
    grey = cv2.imread(str(shot), cv2.IMREAD_GRAYSCALE)
    assert grey.std() > 10
    assert bool(grey.mean() > 128) == (scheme == "light")
