"""How high the axis of a timeline is."""

from __future__ import annotations

from dataclasses import replace

from ckptgrad.meters.meter import Reading
from ckptgrad.report.series.top import timeline_top
from tests.cases.results import KIB, TIMELINE


def test_the_budget_is_seen_if_it_is_near_and_references_always():
    assert timeline_top(TIMELINE) == 20 * KIB
    assert timeline_top(replace(TIMELINE, budget=1000 * KIB)) == 18 * KIB
    assert timeline_top(TIMELINE.beside(theirs=Reading(90 * KIB))) == 90 * KIB
