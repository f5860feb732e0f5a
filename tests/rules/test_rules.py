"""What each row of `tests/cases/rules.py` buys."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ckptgrad.graph.trace import trace
from tests.cases.rules import CASES, Case
from tests.rules.engine import (
    arguments,
    assert_avals,
    assert_close,
    assert_equal,
    cotangents,
    directional,
    jax_gradient,
    our_gradient,
    our_vjp,
    special_arguments,
)


def rows(condition=lambda case: True):
    return pytest.mark.parametrize("case", [c for c in CASES if condition(c)], ids=str)


@rows(lambda c: c.in_jax)
def test_float32_as_jax_under_jit(case: Case):
    args = arguments(case, np.float32)
    cts = cotangents(case, args)
    ours = jax.jit(our_gradient(case))(args, cts)
    theirs = jax.jit(jax_gradient(case))(args, cts)
    assert_avals(ours, args)
    (assert_equal if case.exact else lambda a, b: assert_close(a, b, 1e-5))(ours, theirs)


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
    cts = cotangents(case, args)
    ours = jax.jit(our_gradient(case))(args, cts)
    assert_avals(ours, args)
    assert_close(ours, jax.jit(jax_gradient(case))(args, cts), 2e-2)


@rows(lambda c: c.order == 2 and c.in_jax)
def test_second_order_as_jax(case: Case):
    """Reverse over reverse: our gradient of our gradient, JAX's of JAX's."""
    args = arguments(case, np.float32)
    cts = cotangents(case, args)
    n = len(args)

    def ours(seeds):
        gradient = our_gradient(case)
        return our_vjp(lambda *xs: gradient(xs[:n], xs[n:]), *args, *cts)[1](*seeds)

    def theirs(seeds):
        gradient = jax_gradient(case)
        return jax.vjp(lambda *xs: gradient(xs[:n], xs[n:]), *args, *cts)[1](seeds)

    assert_close(jax.jit(ours)(args), jax.jit(theirs)(args), 1e-4)


@rows()
def test_vmap_is_a_loop(case: Case):
    args = arguments(case, np.float32, lead=(2,))
    singles = [tuple(x[i] for x in args) for i in range(2)]
    cts = [cotangents(case, single, seed=i) for i, single in enumerate(singles)]
    stacked = tuple(jnp.stack(pair) for pair in zip(*cts, strict=True))
    gradient = our_gradient(case)
    batched = jax.jit(jax.vmap(gradient))(args, stacked)
    loop = [jax.jit(gradient)(single, ct) for single, ct in zip(singles, cts, strict=True)]
    assert_close(batched, [jnp.stack(pair) for pair in zip(*loop, strict=True)], 1e-5)


@rows(lambda c: c.special)
def test_special_values_as_jax(case: Case):
    args = special_arguments(case)
    cts = cotangents(case, args)
    for seed in (cts, tuple(jnp.zeros_like(ct) for ct in cts)):
        assert_equal(our_gradient(case)(args, seed), jax_gradient(case)(args, seed))


def test_numbers_for_literals():
    """A graph may be evaluated on plain Python numbers."""
    graph = trace(lambda x, y: jnp.abs(x) ** 3 * jnp.maximum(x, y), 1.0, 2.0)
    product = graph.operations[-1]
    assert product.bprop([3.0, 4.0], product.inputs[0], 1.0) == 4.0
