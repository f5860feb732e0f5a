"""A budget that is too small: what was asked for, what is feasible and why, what to do."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from decimal import Decimal

import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.errors import BudgetError, StepMemoryError
from ckptgrad.errors.budgets import share_of


@dataclass
class Floor:
    everything_bytes: int

    def __str__(self) -> str:
        return "held there: much"


@dataclass
class Certificate:
    peak_bytes: int = 2**20
    devices: int = 2


def test_it_says_what_is_feasible_and_which_stage_sets_it():
    error = BudgetError(100, 2**20, 3, "sqrt")
    assert (error.budget, error.smallest, error.stage, error.policy, error.devices) == (100, 2**20, 3, "sqrt", 1)
    assert (error.floor, error.multiple) == (None, None)
    assert "of policy 'sqrt': 1048576 bytes (1 MiB), set by stage 3; raise the budget to at least 1048576 bytes" in str(
        error
    )
    assert str(error).endswith("bytes, or make that stage smaller, or use policy 'optimal'")


def test_it_can_be_said_of_one_of_several_devices():
    error = BudgetError(100, 200, floor=lambda: Floor(1000)).on(8)
    assert (error.devices, error.floor) == (8, Floor(1000))
    assert "100 bytes a device, of 8, is below" in str(error)
    assert "100 bytes a device, of 8, half of all, is below" in str(error.taken_from("half of all"))


def test_the_floor_is_made_once_and_only_where_it_is_asked_for():
    made: list[Floor] = []

    def floor() -> Floor:
        made.append(Floor(1000))
        return made[0]

    error = BudgetError(100, 333, floor=floor)
    assert not made
    assert error.multiple == "0.333x"
    assert '333 bytes ("0.333x" of what storing everything needs)\nheld there: much' in str(error)
    assert len(made) == 1


def test_it_travels_between_processes():
    error = pickle.loads(pickle.dumps(BudgetError(100, 333, 2, "optimal", 8, lambda: Floor(1000))))
    assert str(error) == str(BudgetError(100, 333, 2, "optimal", 8, lambda: Floor(1000)))
    assert error.multiple == "0.333x"


@pytest.mark.parametrize(("size", "whole"), [(1, 3), (2, 3), (999, 1000), (1000, 999), (1, 10**9), (12345678, 98765431)])
def test_a_share_makes_a_budget_that_is_no_smaller(size, whole):
    """And smaller by one in its third digit it would not do."""
    share = share_of(size, whole)
    number = Decimal(share.removesuffix("x"))
    assert int(number * whole) >= size
    assert int((number - Decimal((0, (1,), number.adjusted() - 2))) * whole) < size


def test_a_step_says_what_takes_how_much():
    error = StepMemoryError("step", 100, Certificate(), ["params 1 MiB"], ["a smaller batch"])
    assert str(error).startswith("step takes at least 1048576 bytes (1 MiB) on each of 2 devices, and 100 bytes")
    assert str(error).endswith("were asked for: params 1 MiB. What would help: a smaller batch")
    assert error.on(4) is error
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    ("size", "words"),
    [(1, "1 byte is"), (3, "3 bytes is"), (1536, "1536 bytes (1.5 KiB) is"), (2**20, "1048576 bytes (1 MiB) is")],
)
def test_bytes_are_written_in_a_unit_that_fits(size, words):
    assert f"a budget of {words} below" in str(BudgetError(size, 2**21))


def test_the_place_of_the_stage_stands_in_the_first_line():
    def loss(ws, x):
        for w in ws:
            x = jnp.tanh(x @ w)
        return jnp.sum(x)

    with pytest.raises(BudgetError) as raised:
        cg.plan(loss, [jnp.eye(8)] * 3, jnp.ones((64, 8)), budget=10)
    error = raised.value
    place = error.floor.at_peak.place.brief
    assert f"set by stage {error.stage} ({place})" in str(error).splitlines()[0]
    assert "test_budgets.py:" in place
