"""Pages: one HTML file that needs no other."""

from __future__ import annotations

import pytest

from ckptgrad.report.page import page
from tests.cases.results import COVERAGE, FRONTIER


@pytest.mark.parametrize("name", ["plan", "timeline", "frontier", "validation"])
def test_a_page_holds_tables_and_needs_no_other_file(shown, name):
    html = page("a page <of one's own>", {name: shown[name]}, ["made for <a test>"])
    assert "<table>" in html
    assert "a page &lt;of one" in html
    assert "<p>made for &lt;a test&gt;</p>" in html
    for elsewhere in ("<script src", '<link rel="stylesheet"'):
        assert elsewhere not in html
    assert "<table>" in shown[name]._repr_html_()


@pytest.fixture
def without_bokeh(monkeypatch):
    monkeypatch.setattr("ckptgrad.report.page.find_spec", lambda name: None)


@pytest.mark.usefixtures("without_bokeh")
def test_without_bokeh_figures_are_pictures_and_the_page_says_what_is_missing():
    html = page("title", {"frontier": FRONTIER})
    assert "data:image/png;base64," in html
    assert "pip install &#x27;ckptgrad[plot]&#x27;" in html
    for elsewhere in ("http://", "https://", "<script", "<link"):
        assert elsewhere not in html


@pytest.mark.usefixtures("without_bokeh")
def test_each_result_stands_under_its_heading():
    html = page("both", {"first & foremost": COVERAGE, "second": FRONTIER})
    assert html.index("<h2>first &amp; foremost</h2>") < html.index("missing</td>") < html.index("<h2>second</h2>")
    assert html.count("<style>") == 2
    assert html.count('class="ckptgrad"') == 2
