"""What each row of `tests/cases/rules.py` buys."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ckptgrad.autodiff.of_function import pushed_forward
from ckptgrad.graph.trace import trace
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


@pytest.mark.slow
@rows(lambda c: c.order == 2 and c.in_jax and c.bfloat16)
def test_second_order_in_bfloat16_as_jax(case: Case):
    """Forward over reverse, which rounds less often than reverse over reverse."""
    args = arguments(case, jnp.bfloat16)
    cts = cotangents(case, args)

    @compiled
    def both(args, cts, tangents):
        ours = pushed_forward(lambda *xs: our_gradient(case)(xs, cts), args, tangents)
        theirs = jax.jvp(lambda *xs: jax_gradient(case)(xs, cts), args, tangents)[1]
        return [jnp.zeros_like(b) if a is None else a for a, b in zip(ours, theirs, strict=True)], theirs

    assert_close(*both(args, cts, like(args, seed=3)), 4e-2)


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
