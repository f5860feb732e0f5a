"""Schedules in letters."""

from __future__ import annotations

from ckptgrad.planning import ChainCosts, get_policy
from ckptgrad.report.schedule import COLUMNS, ROWS, schedule_chart


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
