"""The interactive bars of coverage."""

from __future__ import annotations

from bokeh.models import VBar

from ckptgrad.report.interactive.coverage import interactive
from tests.cases.results import COVERAGE


def test_a_bar_for_each_status():
    drawn = interactive(COVERAGE)["coverage"]().root
    (bar,) = [r for r in drawn.renderers if isinstance(r.glyph, VBar)]
    assert dict(zip(bar.data_source.data["place"], bar.data_source.data["top"], strict=True)) == dict(COVERAGE.statuses)
