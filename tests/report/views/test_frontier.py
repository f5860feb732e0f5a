"""A frontier as a table."""

from __future__ import annotations

from dataclasses import replace

from ckptgrad.planning.frontier import Point
from ckptgrad.report.views.frontier import MOST_POINTS
from tests.cases.results import FRONTIER, KIB


def rows(frontier):
    return [" ".join(line.split()) for line in str(frontier).splitlines()]


def test_points_then_other_policies_by_their_bytes():
    """What is below the smallest feasible peak has no optimal plan to stand beside."""
    found = rows(FRONTIER)
    assert "100.0 KiB 25% 3.00 optimal" in found
    assert "400.0 KiB 100% 1.00 optimal" in found
    assert "300.0 KiB 75% 2.50 sqrt 2.00" in found
    assert "50.0 KiB 12% 9.00 revolve(2) -" in found
    assert found.index("50.0 KiB 12% 9.00 revolve(2) -") < found.index("300.0 KiB 75% 2.50 sqrt 2.00")


def test_of_many_points_few_are_shown_both_ends_among_them():
    many = tuple(Point(k * KIB, 1000.0 - k) for k in range(1, 101))
    text = str(replace(FRONTIER, points=many, others=()))
    shown = [line.split()[0] for line in text.splitlines() if line.rstrip().endswith(("optimal", "knee"))]
    assert len(shown) <= MOST_POINTS + 2
    assert (shown[0], shown[-1]) == ("1.0", "100.0")
    assert f"100 budgets at which the plan changes, {len(shown)} of them shown" in " ".join(text.split())


def test_the_knee_is_named():
    """A tenth of the bytes cost little at first, and much below it."""
    points = (Point(10 * KIB, 50.0), Point(40 * KIB, 10.2), Point(100 * KIB, 10.0))
    bent = replace(FRONTIER, points=points, others=())
    assert bent.knee == points[1]
    text = " ".join(str(bent).split())
    assert "optimal, the knee" in text
    assert "40.0 KiB, time rises faster than bytes fall" in text


def test_a_program_that_takes_no_time_has_no_ratios():
    still = replace(FRONTIER, points=(Point(0, 0.0),), others=())
    assert "0 B - - optimal" in rows(still)


def test_arguments_are_beside_what_the_call_adds():
    found = " ".join(str(replace(FRONTIER, arguments={"params": 3 * KIB, "x": KIB})).split())
    assert "held beside them: params 3.0 KiB, x 1.0 KiB; 104.0 KiB with the peak of the smallest" in found
    assert "held beside them" not in str(FRONTIER)
