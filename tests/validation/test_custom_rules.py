"""Whether a custom rule is the derivative of its function."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import ckptgrad as cg
from ckptgrad.validation.custom_rules import Deviation, deviations, function_of, has_rule_to_check
from ckptgrad.validation.local_cotangents import spots
from tests.cases.custom_rules import called_back_cube

X, Y, CT = jnp.array([0.3, -1.7, 2.0]), jnp.array([1.0, 2.0, 3.0]), jnp.array([0.5, 1.0, -1.0])


def product(factors=(1.0, 1.0)):
    """x y, with a rule whose cotangents are off by factors."""

    @jax.custom_vjp
    def times(x, y):
        return x * y

    times.defvjp(lambda x, y: (x * y, (x, y)), lambda kept, ct: (factors[0] * ct * kept[1], factors[1] * ct * kept[0]))
    return times


def deviations_of(fun, *args, tolerance=None):
    graph = cg.trace(fun, *args)
    spot = next(s for s in spots(graph, args, range(len(args)), [CT]) if s.op.name.startswith("custom"))
    return deviations(spot, [CT], tolerance, np.random.default_rng(0))


def test_a_right_rule_deviates_by_rounding():
    found = deviations_of(product(), X, Y)
    assert [*found] == [0, 1]
    assert all(not d.is_wrong and d.relative < 1e-6 for d in found.values())


def test_the_input_whose_cotangent_is_wrong_is_told():
    found = deviations_of(product((1.0, 1.25)), X, Y)
    assert [d.is_wrong for d in found.values()] == [False, True]
    assert found[1].relative == pytest.approx(0.25, rel=1e-4)
    assert not deviations_of(product((1.0, 1.25)), X, Y, tolerance=0.3)[1].is_wrong


def test_the_nearest_derivative_counts():
    """At zero the body's own derivative is another one than the rule says; nearby they agree."""

    @jax.custom_jvp
    def relu(x):
        return jnp.maximum(x, 0)

    relu.defjvps(lambda t, ans, x: jnp.where(x > 0, t, 0))
    assert not deviations_of(relu, jnp.array([0.0, 1.0, -1.0]))[0].is_wrong


def test_in_single_precision_a_body_may_have_no_derivative():
    """log(1 + exp(x)) overflows, and its derivative is nan; in double precision it is the rule's."""

    @jax.custom_jvp
    def softplus(x):
        return jnp.log(1 + jnp.exp(x))

    softplus.defjvps(lambda t, ans, x: t * jax.nn.sigmoid(x))
    (found,) = deviations_of(softplus, jnp.array([100.0, -100.0, 0.5])).values()
    assert not found.is_wrong


def test_a_function_without_a_derivative_is_compared_with_differences():
    assert [deviations_of(called_back_cube(factor), X)[0].is_wrong for factor in (1.0, 1.1)] == [False, True]


@pytest.mark.parametrize(
    ("relative", "allowed", "wrong", "excess"),
    [(0.5, 0.25, True, 2.0), (0.25, 0.25, False, 1.0), (0.0, 0.0, False, 0.0), (0.1, 0.0, True, np.inf)],
)
def test_what_is_allowed(relative, allowed, wrong, excess):
    found = Deviation(relative, allowed)
    assert (found.is_wrong, found.excess) == (wrong, excess)


def test_calls_are_seen_inside_other_programs():
    def names(fun):
        return {op.name: has_rule_to_check(op) for op in cg.trace(fun, X, Y).operations}

    assert names(lambda x, y: product()(jnp.sin(x), y)) == {"sin": False, "custom_vjp_call": True}
    looping = lambda f: lambda x, y: lax.fori_loop(0, 3, lambda i, c: lax.cond(i > 1, f, lambda a, b: a + b, c, y), x)
    assert names(looping(product()))["scan"]
    assert not names(looping(lambda x, y: x * y))["scan"]


def test_the_function_is_known_by_its_name_and_line():
    (op,) = cg.trace(product(), X, Y).operations
    name, source = function_of(op)
    assert name == "times"
    assert source is None or (source.file, source.function) == (__file__, "times")
