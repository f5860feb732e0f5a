"""Wrong rules are caught: the tests of the rules, tested."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ckptgrad.autodiff import rule as registry
from ckptgrad.errors import DuplicateRuleError
from ckptgrad.rules.decorators import bprop, elementwise, zero
from tests.cases import Case
from tests.cases.rules import CASES
from tests.rules import test_rules as checks

ROWS = {case.name: case for case in CASES}


@pytest.fixture
def wrongly():
    """Replace the rule of a primitive until the test ends."""
    replaced = []

    def replace_rule(primitive: str, register: Callable) -> None:
        replaced.append(registry.unregister(primitive))
        register(primitive)

    yield replace_rule
    for rule in replaced:
        registry.unregister(rule.primitive)
        registry.register(rule)


def reciprocal_of_the_slope(primitive):
    elementwise(primitive, lambda g, y, x: lax.mul(g, lax.sqrt(lax.add(lax.square(x), np.float32(1)))))


def no_slope(primitive):
    zero(primitive, cost="elementwise")


def twice_the_cotangent(primitive):
    bprop(primitive)(lambda op, g: (lax.mul(g, lax.full_like(g, 2)),))


def other_shape(primitive):
    bprop(primitive)(lambda op, g: (lax.reshape(g, (g.size,)),))


def other_dtype(primitive):
    bprop(primitive)(lambda op, g: (lax.neg(g).astype(jnp.float16),))


def whole_tie_to_each(primitive):
    def whole(g, z, x, y):
        return lax.mul(g, lax.convert_element_type(lax.eq(x, z), g.dtype))

    elementwise(primitive, whole, lambda g, z, x, y: whole(g, z, y, x))


def slope_held_constant(primitive):
    elementwise(primitive, lambda g, y, x: lax.mul(g, lax.stop_gradient(lax.cos(x))))


def slope_of_nan_at_zero(primitive):
    elementwise(primitive, lambda g, y, x: lax.div(lax.mul(g, x), y))


def times_the_reciprocal(primitive):
    elementwise(primitive, lambda g, y, x: lax.mul(g, lax.div(lax.full_like(x, 1), x)))


FIRST_ORDER = (checks.test_float32_as_jax, checks.test_bfloat16_as_jax)


@pytest.mark.parametrize(
    ("row", "wrong", "catchers"),
    [
        ("asinh", reciprocal_of_the_slope, FIRST_ORDER),
        ("exp", no_slope, FIRST_ORDER),
        ("neg", twice_the_cotangent, FIRST_ORDER),
        ("neg", other_shape, FIRST_ORDER),
        ("neg", other_dtype, [checks.test_float32_as_jax]),
        ("max", whole_tie_to_each, [checks.test_special_values_as_jax]),
        ("abs", slope_of_nan_at_zero, [checks.test_special_values_as_jax]),
        ("abs", slope_of_nan_at_zero, [checks.test_zero_cotangents_as_jax]),
        ("sin", slope_held_constant, [checks.test_second_order_as_jax]),
    ],
)
def test_wrong_rule_is_caught(wrongly, row, wrong, catchers):
    wrongly(row, wrong)
    for check in catchers:
        with pytest.raises((AssertionError, TypeError, ValueError)):
            check(ROWS[row])


@pytest.mark.parametrize("wrong", [no_slope, twice_the_cotangent])
def test_finite_differences_catch_without_jax(wrongly, wrong):
    wrongly("neg", wrong)
    with pytest.raises(AssertionError):
        checks.test_float64_as_finite_differences(ROWS["neg"])


def test_exactness_is_asserted(wrongly):
    """g * (1 / x) rounds twice where g / x rounds once: equal only within a tolerance."""
    wrongly("log", times_the_reciprocal)
    row = replace(ROWS["log"], args=[(64,)])
    with pytest.raises(AssertionError):
        checks.test_float32_as_jax(row)
    checks.test_float32_as_jax(replace(row, exact=False))


def test_second_registration_is_an_error():
    with pytest.raises(DuplicateRuleError, match="tanh"):
        zero("tanh", cost="transcendental")


def test_rows_are_not_changed_by_a_wrong_rule():
    assert isinstance(ROWS["neg"], Case)
    checks.test_float32_as_jax(ROWS["neg"])
