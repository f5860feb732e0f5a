"""What runs when."""

from __future__ import annotations

from dataclasses import replace

from ckptgrad.report.series.passes import passes
from tests.cases.results import TIMELINE, moment


def test_a_second_forward_of_a_stage_is_a_repeated_one():
    assert passes(TIMELINE.moments) == ["forward", "forward", "backward", "backward"]
    again = [*TIMELINE.moments[:2], moment("-1", 2.0, 2.0), moment("F1:1", 2.0, 3.0)]
    assert passes(again) == ["forward", "forward", "", "repeated forward"]
    assert passes([replace(again[0], action="F0~")]) == ["forward"]
