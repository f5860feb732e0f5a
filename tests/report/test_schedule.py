"""Schedules as space-time diagrams, and in letters."""

from __future__ import annotations

from ckptgrad.planning import ChainCosts, get_policy
from ckptgrad.planning.schedule import Backward, Forward, Free, Schedule
from ckptgrad.report.schedule import COLUMNS, ROWS, schedule_chart, spacetime


def test_space_and_time_of_a_schedule():
    schedule = Schedule(
        (Forward(0), Forward(1, 0), Backward(1), Free(1), Forward(0, 0, False), Backward(0), Free(0)), "by hand"
    )
    found = spacetime(schedule, ChainCosts.uniform(2))
    assert found.held == [(1, 0, 3)]
    assert found.marks == {
        "forward": [(0, 0), (1, 1)],
        "repeated forward": [(3, 0)],
        "residuals kept": [(1, 1), (3, 0)],
        "backward": [(2, 1), (4, 0)],
    }
    assert (found.time, found.counted) == (5, "forwards and backwards")


def test_the_diagram_in_letters(shown):
    lines = shown["plan"].diagram().splitlines()
    assert lines[0].lstrip().startswith("stage 5")
    assert lines[5].lstrip().startswith("stage 0")
    assert {"f", "r", "k", "b"} <= {*"".join(line[12:] for line in lines[:6])}


def test_long_schedules_share_letters():
    costs = ChainCosts.uniform(500)
    schedule = get_policy("sqrt")(costs, None)
    lines = schedule_chart(schedule, costs).plain.splitlines()
    assert len(lines) == ROWS + 2
    assert max(len(line) for line in lines[:ROWS]) == 13 + COLUMNS
    assert lines[ROWS - 1].split()[:2] == ["stage", "0"]
    assert f"{schedule.forwards + 500} forwards and backwards, from left to right" in lines[ROWS]
