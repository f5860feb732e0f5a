"""The body of an interactive page."""

from __future__ import annotations

import pytest

from ckptgrad.report.interactive.document import interactive_sections
from tests.cases.results import COVERAGE, TIMELINE, VALIDATION


@pytest.fixture(scope="module")
def body():
    return interactive_sections({"Memory & time": TIMELINE, "Validation": VALIDATION, "Rules": COVERAGE})


def test_it_holds_scripts_and_loads_none(body):
    assert "<script src" not in body
    assert '<link rel="stylesheet"' not in body
    assert len(body) < 3 * 2**20


def test_each_table_is_there_for_screen_readers(body):
    assert body.count("<details>") == 4
    assert body.count("<details><summary>as a plain table</summary>") == 4
    assert body.index("<h2>Memory &amp; time</h2>") < body.index("<h2>Validation</h2>") < body.index("<td>missing</td>")


def test_each_figure_has_a_name_and_a_caption(body):
    assert 'tabindex="0" aria-label="timeline"' in body
    assert "<figcaption>Every block is a buffer" in body
    assert "@@" not in body.split("<h2>", 1)[1].split("<script", 1)[0]
