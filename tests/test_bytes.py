"""Budgets are read as bytes, or refused at once with the forms that there are."""

from __future__ import annotations

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg

X = jnp.array([1.0, 2.0])


def total(x):
    return jnp.sum(x * x)


def budgets_of(*values):
    return [pytest.param(v, id=repr(v)) for v in values]


@pytest.mark.parametrize("door", [cg.value_and_grad, cg.grad])
@pytest.mark.parametrize(
    "budget",
    budgets_of(
        "12 potatoes", "", "x", "MiB", "1..5MB", "-3MiB", "0", "0x", "-1x", "nanMiB", "infMiB", "1e999",
        10**400, 2**63, -(10**400), "1e300TiB", "1e300x", "9" * 400, 0.1, "0.1", "0.5B", "1000.5", "1e-9 KiB", 1e300,
        np.array([5000]), np.array(["1MiB"]), np.bool_(True), np.float64("nan"), np.ones(3), "0." + "0" * 400 + "1",
        0, -1, 0.0, -2.5, float("nan"), float("inf"), True, False, [1], {}, b"1MB", 1j, object,
    ),
)  # fmt: skip
def test_a_malformed_budget_is_refused_at_once(door, budget):
    with pytest.raises(cg.BudgetFormatError, match="512MiB") as caught:
        door(total, budget=budget)
    assert repr(budget)[:200] in str(caught.value)
    assert isinstance(caught.value, ValueError)


SIZES = {
    100_000: 100_000, "100000": 100_000, "100kB": 100_000, "100 kb": 100_000, "0.1MB": 100_000,
    "1MiB": 2**20, "1.5 KiB": 1536, "2k": 2048, "1GiB": 2**30, "1e6": 1_000_000, "1e-3 GB": 1_000_000,
    " 3 tib ": 3 * 2**40, np.int64(5000): 5000, np.float32(5000): 5000,
    5000.7: 5000, "1000.KiB": 1_024_000, "0.3kB": 300, 2**62 + 1: 2**62 + 1, "0.1GB": 100_000_000, Fraction(10001, 2): 5000,
}  # fmt: skip


@pytest.mark.parametrize(("budget", "size"), SIZES.items(), ids=map(repr, SIZES))
def test_budgets_are_read_as_bytes(budget, size):
    assert cg.plan(total, X, budget=budget).budget == size


@pytest.mark.parametrize(("budget", "meant"), [("50%", "0.5x"), ("12.5 %", "0.125x")])
def test_percent_is_asked_about(budget, meant):
    with pytest.raises(cg.BudgetFormatError, match=f'did you mean "{meant}"'):
        cg.plan(total, X, budget=budget)


def test_a_number_that_must_be_a_share_is_asked_about():
    for budget in (0.1, "0.1", "0.25", ".5"):
        with pytest.raises(cg.BudgetFormatError, match=f'did you mean "{budget}x"'):
            cg.grad(total, budget=budget)


def test_a_number_too_long_to_print_is_refused():
    with pytest.raises(cg.BudgetFormatError, match="of type int"):
        cg.grad(total, budget=10**6000)


def test_a_traced_budget_is_refused():
    with pytest.raises(cg.BudgetFormatError, match="Tracer"):
        jax.jit(lambda x, n: cg.grad(total, budget=n)(x))(X, 5000)


def test_an_array_that_is_one_number_is_read():
    for budget in (np.array(5000), jnp.array(5000)):
        assert cg.plan(total, X, budget=budget).budget == 5000
