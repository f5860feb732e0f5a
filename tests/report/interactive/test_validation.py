"""The interactive bars of a validation."""

from __future__ import annotations

from dataclasses import replace

from bokeh.models import Span, VBar

from ckptgrad.report.interactive.validation import interactive
from tests.cases.results import VALIDATION


def test_bars_and_the_budget():
    root = interactive(VALIDATION)["validation"]().root
    tops = [
        r.data_source.data["top"]
        for figure in root.children
        for r in figure.renderers
        if isinstance(getattr(r, "glyph", None), VBar)
    ]
    assert tops == [[40, 20], [1.0, 1.2]]
    assert [span.location for span in root.select({"type": Span})] == [24]


def test_what_did_not_run_has_no_times():
    still = replace(VALIDATION, rows=tuple(replace(row, time_ratio=None) for row in VALIDATION.rows))
    assert interactive(still)["validation"]().root.name == "peaks"
    assert interactive(replace(VALIDATION, rows=())) == {}
