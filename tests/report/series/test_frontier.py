"""A frontier as curves and labelled points."""

from __future__ import annotations

from ckptgrad.planning.frontier import Point
from ckptgrad.report.interactive.looks import MARKERS
from ckptgrad.report.series.frontier import frontier_series
from tests.cases.results import FRONTIER, KIB


def test_times_are_relative_and_rivals_are_labelled():
    series = frontier_series(FRONTIER.points, (*FRONTIER.others, Point(300 * KIB, 2.0, "every 4")))
    assert [(p.bytes // KIB, p.ratio) for p in series.curve] == [(100, 3.0), (200, 2.0), (400, 1.0)]
    assert {group.name: [p.label for p in group.points] for group in series.groups} == {
        "sqrt": ["sqrt"], "revolve": ["2"], "every k": ["k = 4"],
    }  # fmt: skip
    assert series.chosen is None


def test_every_other_policy_has_a_marker_too():
    """Those of a policy that was asked for, a user's own among them."""
    others = (
        Point(200 * KIB, 2.5, "rotor within 200KiB"),
        Point(300 * KIB, 2.0, "rotor within 300KiB"),
        Point(1, 1.0, "mine"),
    )
    groups = {group.name: group for group in frontier_series(FRONTIER.points, others).groups}
    assert {name: [p.label for p in group.points] for name, group in groups.items()} == {
        "rotor": ["rotor", "rotor"], "mine": ["mine"],
    }  # fmt: skip
    assert {group.marker for group in groups.values()} <= {*MARKERS}
    assert len({(group.filled, group.size) for group in groups.values()}) == 2


def test_a_point_that_is_far_from_all_others_is_far_off():
    far, near = Point(5000 * KIB, 1.2, "jax.grad"), Point(500 * KIB, 1.2, "store_all")
    series = frontier_series(FRONTIER.points, (far, near), Point(200 * KIB, 2.0))
    assert [p.policy for p in series.far] == ["jax.grad"]
    assert series.most_bytes == 500 * KIB
    assert series.chosen.ratio == 2.0
    assert frontier_series(FRONTIER.points, FRONTIER.others).far[0].policy == "revolve(2)"


def test_a_chain_of_far_steps_is_not_far_off():
    others = tuple(Point(int(400 * KIB * 1.5**k), 1.0, f"every {k}") for k in range(1, 5))
    assert frontier_series(FRONTIER.points, others).far == []


def test_the_axis_begins_a_little_below_the_smallest():
    assert frontier_series(FRONTIER.points).least_bytes == (100 - 0.15 * 300) * KIB
    assert frontier_series(FRONTIER.points[:1]).least_bytes == 0
