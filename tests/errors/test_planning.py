"""A budget that is too small: what was asked for, what is feasible, what to do."""

from __future__ import annotations

from ckptgrad.errors import BudgetError, ScheduleError


def test_a_budget_error_says_what_is_feasible_and_which_stage_sets_it():
    error = BudgetError(100, 2**20, 3, "sqrt")
    assert (error.budget, error.smallest, error.stage, error.policy, error.devices) == (100, 2**20, 3, "sqrt", 1)
    assert "of policy 'sqrt': 1048576 bytes (1 MiB), set by stage 3" in str(error)
    assert str(error).endswith(
        "raise the budget to at least 1048576 bytes, or make that stage smaller, or use policy 'optimal'"
    )


def test_it_can_be_said_of_one_of_several_devices():
    error = BudgetError(100, 200).on(8)
    assert error.devices == 8
    assert "100 bytes (9.537e-05 MiB) a device, of 8, is below" in str(error)


def test_a_schedule_error_names_its_action():
    assert str(ScheduleError("it was freed", 4, "F2")) == "action 4 (F2): it was freed"
    assert str(ScheduleError("it cannot be read")) == "it cannot be read"
