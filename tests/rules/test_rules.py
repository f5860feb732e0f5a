"""What each row of `tests/cases/rules.py` is checked for, in reverse and forward mode; and that wrong rules are caught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_jvp, check_vjp

import ckptgrad as cg
from ckptgrad.autodiff import rule as registry
from ckptgrad.autodiff.of_function import pushed_forward
from ckptgrad.graph.evaluate import apply, read
from ckptgrad.graph.trace import trace
from ckptgrad.rules.decorators import bprop, elementwise, zero
from tests.cases import Case
from tests.cases.rules import CASES
from tests.support.engine import (
    arguments,
    assert_as_jax,
    assert_avals,
    assert_close,
    both_gradients,
    compiled,
    cotangents,
    directional,
    flat,
    inner,
    jax_gradient,
    like,
    our_gradient,
    our_vjp,
    special_arguments,
)


def rows(condition=lambda case: True):
    chosen = [pytest.param(c, id=c.name, marks=[pytest.mark.slow] if c.slow else []) for c in CASES if condition(c)]
    return pytest.mark.parametrize("case", chosen)


@rows(lambda c: c.in_jax)
def test_float32_as_jax(case: Case):
    args = arguments(case, np.float32)
    ours, theirs = both_gradients(case, args, cotangents(case, args))
    assert_avals(ours, args)
    assert_as_jax(case, ours, theirs)


@rows(lambda c: c.check)
def test_float64_as_finite_differences(case: Case):
    with jax.enable_x64():
        args = arguments(case, np.float64)
        cts = cotangents(case, args)
        ours, differences = directional(case, args, cts)
    np.testing.assert_allclose(ours, differences, rtol=1e-6, atol=1e-7)


@rows(lambda c: c.bfloat16 and c.in_jax)
def test_bfloat16_as_jax(case: Case):
    args = arguments(case, jnp.bfloat16)
    ours, theirs = both_gradients(case, args, cotangents(case, args))
    assert_avals(ours, args)
    assert_close(ours, theirs, 2e-2)


@rows(lambda c: c.order == 2 and c.in_jax)
def test_second_order_as_jax(case: Case):
    """Reverse over reverse: our gradient of our gradient, JAX's of JAX's."""
    args = arguments(case, np.float32)
    cts = cotangents(case, args)
    n = len(args)

    def twice(given, seeds):
        _, ours = our_vjp(lambda *xs: our_gradient(case)(xs[:n], xs[n:]), *given)
        _, theirs = jax.vjp(lambda *xs: jax_gradient(case)(xs[:n], xs[n:]), *given)
        return ours(*seeds), theirs(seeds)

    ours, theirs = compiled(twice)((*args, *cts), like(args, seed=2))
    assert_close(ours, theirs, 1e-4)


def forward_over_reverse(case: Case, dtype):
    """The tangents of gradients, ours and JAX's."""
    args = arguments(case, dtype)

    @compiled
    def both(args, cts, tangents):
        ours = pushed_forward(lambda *xs: our_gradient(case)(xs, cts), args, tangents)
        theirs = jax.jvp(lambda *xs: jax_gradient(case)(xs, cts), args, tangents)[1]
        return [jnp.zeros_like(b) if a is None else a for a, b in zip(ours, theirs, strict=True)], theirs

    return both(args, cotangents(case, args), like(args, seed=3))


@pytest.mark.slow
@rows(lambda c: c.order == 2 and c.in_jax and c.bfloat16)
def test_second_order_in_bfloat16_as_jax(case: Case):
    """Forward over reverse, which rounds less often than reverse over reverse."""
    assert_close(*forward_over_reverse(case, jnp.bfloat16), 4e-2)


@pytest.mark.slow
@rows(lambda c: c.batches)
def test_vmap_is_a_loop(case: Case):
    args = arguments(case, np.float32, lead=(2,))
    singles = [tuple(x[i] for x in args) for i in range(2)]
    cts = [cotangents(case, single, seed=i) for i, single in enumerate(singles)]
    stacked = tuple(jnp.stack(pair) for pair in zip(*cts, strict=True))
    gradient = our_gradient(case)

    @compiled
    def both(args, stacked):
        loop = [gradient(single, ct) for single, ct in zip(singles, cts, strict=True)]
        return jax.vmap(gradient)(args, stacked), [jnp.stack(pair) for pair in zip(*loop, strict=True)]

    assert_close(*both(args, stacked), 1e-5)


@rows(lambda c: c.special)
def test_special_values_as_jax(case: Case):
    args = special_arguments(case)
    cts = cotangents(case, args)
    assert_as_jax(case, *both_gradients(case, args, cts))


@rows(lambda c: c.special and len(c.args) == 1)
def test_zero_cotangents_as_jax(case: Case):
    """Zero times an infinite slope is a nan, here as there."""
    args = special_arguments(case)
    cts = tuple(jnp.zeros_like(ct) for ct in cotangents(case, args))
    assert_as_jax(case, *both_gradients(case, args, cts))


def test_numbers_for_literals():
    """A graph may be evaluated on plain Python numbers."""
    graph = trace(lambda x, y: jnp.abs(x) ** 3 * jnp.maximum(x, y), 1.0, 2.0)
    product = graph.operations[-1]
    assert product.bprop([3.0, 4.0], product.inputs[0], 1.0) == 4.0


def our_tangents(case: Case, args, tangents):
    """Tangents of the outputs by ckptgrad, zeros made."""
    found = pushed_forward(flat(case), args, tangents)
    outputs = jax.eval_shape(flat(case), *args)
    return [jnp.zeros(y.shape, y.dtype) if t is None else t for t, y in zip(found, outputs, strict=True)]


@rows(lambda c: c.in_jax)
def test_forward_mode_as_jax(case: Case):
    args = arguments(case, np.float32)

    @compiled
    def both(args, tangents):
        return our_tangents(case, args, tangents), jax.jvp(flat(case), args, tangents)[1]

    ours, theirs = both(args, like(args, seed=3))
    assert_close(ours, theirs, 1e-5)


@pytest.mark.slow
@rows(lambda c: c.check)
def test_both_modes_pass_the_checks_of_jax(case: Case):
    """`jax.test_util` takes the functions under test and compares them with finite differences."""
    with jax.enable_x64():
        args = arguments(case, np.float64)
        fun = compiled(flat(case))
        tolerance = {"atol": 1e-5, "rtol": 1e-5, "eps": 1e-5}
        check_jvp(fun, compiled(lambda p, t: cg.jvp(flat(case), p, t)), args, **tolerance)
        check_vjp(fun, lambda *p: cg.vjp(flat(case), *p), args, **tolerance)


@pytest.mark.slow
@rows(lambda c: c.order == 2 and c.in_jax)
def test_second_order_by_forward_over_reverse(case: Case):
    assert_close(*forward_over_reverse(case, np.float32), 1e-4)


@rows(lambda c: not c.in_jax)
def test_forward_mode_is_the_transpose_of_reverse_mode(case: Case):
    with jax.enable_x64():
        args = arguments(case, np.float64)

        @compiled
        def both(args, cts, tangents):
            return inner(cts, our_tangents(case, args, tangents)), inner(our_gradient(case)(args, cts), tangents)

        pushed, pulled = both(args, cotangents(case, args), like(args, seed=3))
    np.testing.assert_allclose(pushed, pulled, rtol=1e-10, atol=1e-12)


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


FIRST_ORDER = (test_float32_as_jax, test_bfloat16_as_jax)


@pytest.mark.parametrize(
    ("row", "wrong", "catchers"),
    [
        ("asinh", reciprocal_of_the_slope, FIRST_ORDER),
        ("exp", no_slope, FIRST_ORDER),
        ("neg", twice_the_cotangent, FIRST_ORDER),
        ("neg", other_shape, FIRST_ORDER),
        ("neg", other_dtype, [test_float32_as_jax]),
        ("max", whole_tie_to_each, [test_special_values_as_jax]),
        ("abs", slope_of_nan_at_zero, [test_special_values_as_jax]),
        ("abs", slope_of_nan_at_zero, [test_zero_cotangents_as_jax]),
        ("sin", slope_held_constant, [test_second_order_as_jax]),
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
        test_float64_as_finite_differences(ROWS["neg"])


def test_exactness_is_asserted(wrongly):
    """g * (1 / x) rounds twice where g / x rounds once: equal only within a tolerance."""
    wrongly("log", times_the_reciprocal)
    row = replace(ROWS["log"], args=[(64,)])
    with pytest.raises(AssertionError):
        test_float32_as_jax(row)
    test_float32_as_jax(replace(row, exact=False))


def test_rows_are_not_changed_by_a_wrong_rule():
    assert isinstance(ROWS["neg"], Case)
    test_float32_as_jax(ROWS["neg"])


EXTREMA = {
    "max": lambda x, y: lax.max(x, y),
    "min": lambda x, y: lax.min(x, y),
    "reduce_max": lambda x, y: lax.reduce_max(x * 1, (0,)),
    "reduce_min": lambda x, y: lax.reduce_min(y * 1, (0,)),
    "scatter_max": lambda x, y: x.at[np.arange(3)].max(y),
}


def pull_of_the_last(f, *args):
    """The last operation's inputs and output, and its pull of ones as a function of both."""
    graph = trace(f, *args)
    env = {**graph.constants, **dict(zip(graph.inputs, args, strict=True))}
    for op in graph.operations:
        inputs = [read(env, a) for a in op.inputs]
        env.update(zip(op.outputs, apply(op, inputs), strict=True))
    needs = [jnp.issubdtype(x.dtype, jnp.inexact) for x in inputs]
    out = env[op.outputs[0]]

    def pulled(inputs, out):
        entries = registry.rule_for(op).bprop(registry.Application(op, inputs, [out], needs), jnp.ones_like(out))
        return [e() if callable(e) else e for e in entries if e is not None]

    return inputs, out, pulled


@pytest.mark.parametrize("f", EXTREMA.values(), ids=EXTREMA)
def test_an_extremum_is_looked_for_among_the_operands_that_are_there(f):
    # What was made again, by a plan or in two loops of a compiler, may be rounded otherwise: none may equal the result.
    inputs, out, pulled = pull_of_the_last(f, jnp.asarray([1.0, 2.0, 3.0]), jnp.asarray([1.0, 4.0, 0.0]))
    for right, otherwise in zip(pulled(inputs, out), pulled(inputs, out * (1 + 1e-6)), strict=True):
        assert np.any(right)
        np.testing.assert_array_equal(right, otherwise)


FOLDS = {k: f for k, f in EXTREMA.items() if k not in ("max", "min")} | {
    "reduce_window_max": lambda x, y: lax.reduce_window(x * 1, -jnp.inf, lax.max, (2,), (1,), "VALID"),
    "reduce_window_min, dilated": lambda x, y: lax.reduce_window(
        y * 1, jnp.inf, lax.min, (2,), (1,), "VALID", window_dilation=(2,)
    ),
}


@pytest.mark.parametrize("f", FOLDS.values(), ids=FOLDS)
def test_what_an_extremum_is_looked_for_in_is_one_array(f):
    # Each reader could make the operand itself, as compilers fuse it, and round it its own way, but for a barrier.
    inputs, out, pulled = pull_of_the_last(f, jnp.asarray([1.0, 2.0, 3.0]), jnp.asarray([1.0, 4.0, 0.0]))
    jaxpr = jax.make_jaxpr(pulled)(inputs, out).jaxpr
    for var in (v for v, x in zip(jaxpr.invars, inputs, strict=False) if jnp.issubdtype(x.dtype, jnp.inexact)):
        (reader,) = [eqn.primitive.name for eqn in jaxpr.eqns if var in eqn.invars]
        assert reader in ("optimization_barrier", "select_and_scatter_add")
