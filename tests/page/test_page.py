"""The page stands alone: it parses, draws every run everywhere, and asks for nothing."""

import re
from html.parser import HTMLParser

import pytest
from side_by_side import finished, table

from mammo_lightning.comparison.compare import compare
from mammo_lightning.comparison.hardest import hardest
from mammo_lightning.evaluation.curves import roc_points
from mammo_lightning.page.html import page
from mammo_lightning.page.svg import Plot, nice_ticks

VOID = {"meta", "img", "br"}


class Checked(HTMLParser):
    """Every tag that opens closes, in order."""

    def __init__(self):
        super().__init__()
        self.stack, self.attributes, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    mlruns = tmp_path_factory.mktemp("mlruns")
    made = [finished(mlruns, name, table(skill=skill), synthetic="true") for name, skill in (("a<b", 2.0), ("b", 0.5))]
    return [*made, finished(mlruns, "linear", table(skill=0.4), kind="reference")]


@pytest.fixture(scope="module")
def comparison(runs):
    return compare(runs[:2], reference=runs[2], replicates=60)


@pytest.fixture(scope="module")
def text(comparison):
    return page(
        comparison,
        prevalence=0.006,
        published={"two <readers>": (0.1, 0.9)},
        hard=hardest(comparison.entries),
        pictures={hardest(comparison.entries)["image"][0]: b"\x89PNG"},
    )


def test_it_parses_and_refers_to_nothing_outside(text):
    parser = Checked()
    parser.feed(text)
    parser.close()
    assert not parser.stack
    assert "http:" not in text
    assert "https:" not in text
    links = [value for _, name, value in parser.attributes if name in ("src", "href")]
    assert links
    assert all(link.startswith("data:image/png;base64,") for link in links)
    assert len(text) < 400_000


def test_names_are_escaped_and_the_sentence_comes_first(comparison, text):
    parser = Checked()
    parser.feed(text)
    assert "a&lt;b" in text
    assert "<readers>" not in text
    assert comparison.sentence in "".join(parser.text)
    assert text.index("<h1") < text.index("<table")


def test_every_run_is_drawn_in_every_chart(text):
    drawn = re.findall(r'class="line" data-run="\d" points="[^"]{200,}"', text)  # ROC, precision, decision
    assert len(drawn) == 3 * 3
    for number in range(3):
        assert text.count(f'data-run="{number}"') > 20
    for title in ("Paired tests", "Precision and sensitivity", "Calibration", "Decision curve", "Scores", "Confusion"):
        assert title in text
    for title in ("Subgroups", "Learning", "The hardest images", "SYNTHETIC", "At 0.6 %", "two &lt;readers&gt;"):
        assert title in text


def test_the_curve_on_the_page_is_the_curve_of_the_run(comparison, text):
    plot = Plot("")
    grid, rates = roc_points(comparison.entries[0].table, 401)
    place = f"{plot.px(grid[200]):g},{plot.py(rates[200]):g}"
    first = re.search(r'aria-label="ROC curves".*?</svg>', text, re.DOTALL).group()
    line = re.search(r'class="line" data-run="0" points="([^"]+)"', first).group(1)
    assert place in line.split()


def test_ticks_are_round():
    assert nice_ticks(0, 1, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert nice_ticks(-0.015, 0.105, 5)[0] == 0
    assert nice_ticks(2, 2, 5) == [2]
