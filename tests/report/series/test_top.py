"""How high the axis of a timeline is."""

from __future__ import annotations

from dataclasses import replace

from ckptgrad.meters.meter import Reading
from ckptgrad.report.series.top import timeline_top
from tests.cases.results import KIB, TIMELINE


def test_the_budget_is_seen_if_it_is_near_and_references_that_are_not_far_above():
    assert timeline_top(TIMELINE) == (20 * KIB, 20 * KIB, "")
    assert timeline_top(replace(TIMELINE, budget=1000 * KIB)) == (18 * KIB, 18 * KIB, "")
    assert timeline_top(TIMELINE.beside(theirs=Reading(60 * KIB))) == (60 * KIB, 60 * KIB, "")


def test_references_far_above_leave_the_figure_and_it_says_how_high_they_go():
    """One and a half times the budget of 20 KiB is seen at first, and 90 KiB are more than twice that."""
    top = timeline_top(TIMELINE.beside(theirs=Reading(90 * KIB)))
    assert top == (30 * KIB, 90 * KIB, "theirs goes up to 90.0 KiB")
