"""Errors about schedules name the action."""

from __future__ import annotations

from ckptgrad.errors import ScheduleError


def test_a_schedule_error_names_its_action():
    assert str(ScheduleError("it was freed", 4, "F2")) == "action 4 (F2): it was freed"
    assert str(ScheduleError("it cannot be read")) == "it cannot be read"
