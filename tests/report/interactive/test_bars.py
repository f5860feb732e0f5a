"""Bars."""

from __future__ import annotations

import pytest
from bokeh.models import VBar

from ckptgrad.report.interactive.bars import WIDTH, bars

STYLES = {"a": ("#000000", ""), "b": ("#ffffff", "//")}


def drawn(stacked):
    rows = {"a": [1.0, 2.0], "b": [3.0, 4.0]}
    said = {name: [f"{height} MiB" for height in heights] for name, heights in rows.items()}
    shown = bars("Bytes", ["x", "y"], rows, said, STYLES, stacked)
    return [r for r in shown.renderers if isinstance(r.glyph, VBar)]


def test_stacked_bars_stand_on_each_other():
    first, second = (r.data_source.data for r in drawn(stacked=True))
    assert (first["bottom"], first["top"]) == ([0, 0], [1, 2])
    assert (second["bottom"], second["top"]) == ([1, 2], [4, 6])
    assert second["said"] == ["3.0 MiB", "4.0 MiB"]


def test_grouped_bars_stand_side_by_side():
    first, second = drawn(stacked=False)
    assert second.data_source.data["bottom"] == [0, 0]
    assert second.glyph.x.transform.value - first.glyph.x.transform.value == pytest.approx(WIDTH / 2)
