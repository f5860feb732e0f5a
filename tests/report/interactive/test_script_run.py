"""The interactive bars of a script's gradients."""

from __future__ import annotations

from bokeh.models import VBar

from ckptgrad.report.interactive.script_run import interactive
from ckptgrad.results.script_run import GradientCall, ScriptRun

CALLS = (GradientCall("loss", "train.py:3", 2048), GradientCall("other", "train.py:9", left="it is not traceable"))


def test_a_bar_for_each_planned_gradient():
    drawn = interactive(ScriptRun("train.py", "1MiB", CALLS))["peaks of gradients"]().root
    (bar,) = [r for r in drawn.renderers if isinstance(r.glyph, VBar)]
    assert (bar.data_source.data["place"], bar.data_source.data["said"]) == (["1  loss"], ["2.0 KiB"])


def test_where_nothing_was_planned_nothing_is_drawn():
    assert interactive(ScriptRun("train.py", None, CALLS[1:])) == {}
