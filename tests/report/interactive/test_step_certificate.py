"""The interactive figures of a step."""

from __future__ import annotations

from dataclasses import replace

from bokeh.models import Span, VBar

import ckptgrad as cg
from ckptgrad.report.interactive.step_certificate import interactive, largest
from ckptgrad.results.largest_batch import LargestBatch
from tests.cases.steps import WS, X, loss
from tests.results.test_step_certificate import certificate


def test_bars_add_up_and_the_limit_is_a_line():
    drawn = interactive(certificate())["memory of the step"]().root
    (bar,) = [r for r in drawn.renderers if isinstance(r.glyph, VBar)]
    *parts, whole = bar.data_source.data["top"]
    assert bar.data_source.data["place"][-1] == "all"
    assert sum(parts) == whole == 860
    assert [span.location for span in drawn.select({"type": Span})] == [1000]


def test_planned_gradients_are_drawn_too():
    planned = certificate(plans=(cg.plan(loss, WS, X),))
    names = [*interactive(planned)]
    assert names[:3] == ["memory of the step", "gradient 1: timeline", "gradient 1: schedule"]
    assert [*largest(LargestBatch(8, planned, ()))] == names
    assert not [*interactive(replace(planned, limit=None))["memory of the step"]().root.select({"type": Span})]
