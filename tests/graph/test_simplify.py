"""Common subexpressions are merged, and nothing that differs in value, effect or context is."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import ckptgrad as cg
from ckptgrad.graph.simplify import merge_common
from tests.support.contexts import MARKED, under

ONE = jnp.ones(3)


def test_merging_does_each_pure_computation_once():
    graph = cg.trace(lambda x: jnp.sin(x) * 2.0 + jnp.sin(x) * 2.0, ONE)
    merged = merge_common(graph)
    assert [op.name for op in merged.operations] == ["sin", "mul", "add"]
    assert (merged(ONE)[0] == graph(ONE)[0]).all()


def test_merging_tells_zeros_of_both_signs_apart():
    """JAX's literals of scalars are floats, which are equal; the gradient was that of another function."""

    def f(x):
        return jnp.tanh(x / (x * 0.0)) * x + 3 * jnp.tanh(x / (x * -0.0)) * x * x

    x = jnp.float32(2.0)
    graph = cg.trace(f, x)
    assert float(merge_common(graph)(x)[0]) == float(f(x)) == -10.0


def test_merging_leaves_effects_alone():
    def talk(x):
        jax.debug.print("x")
        jax.debug.print("x")
        return x

    assert len(merge_common(cg.trace(talk, ONE)).operations) == 2


A, B = jnp.array([0.5, 1.0, 1.5]), jnp.array([2.0, 3.0, 4.0])


# Expressions and how many sines are left of them.
MERGED = {
    "of two constants": (lambda x: x * jnp.sin(A) + x * x * jnp.sin(B), 2),
    "of one constant": (lambda x: x * jnp.sin(A) + x * x * jnp.sin(A), 1),
    "of an input and a constant": (lambda x: jnp.sin(x) * jnp.sin(A), 2),
    "of a result and an input": (lambda x: jnp.sin(jnp.cos(x)) * jnp.sin(x), 2),
    "of two results": (lambda x: jnp.sin(jnp.cos(x)) * jnp.sin(jnp.exp(x)), 2),
    "of two outputs of one operation": (lambda x: jnp.sin(lax.top_k(x, 2)[0]) * jnp.sin(lax.top_k(-x, 2)[0]), 2),
    "of results that were merged": (lambda x: jnp.sin(jnp.cos(x)) * jnp.sin(jnp.cos(x)), 1),
    "after one that was merged": (lambda x: jnp.sin(x) + jnp.sin(x) + jnp.sin(jnp.cos(x)) + jnp.sin(jnp.exp(x)), 3),
    **{f"under {name}": (lambda x, c=c: jnp.sin(x) + under(c, jnp.sin)(x), 2) for name, c in MARKED.items()},
    "under equal metadata": (lambda x: under(MARKED["metadata"], jnp.sin)(x) + under(MARKED["metadata"], jnp.sin)(x), 1),
    "under unequal metadata": (
        lambda x: under(MARKED["metadata"], jnp.sin)(x) + under(MARKED["other metadata"], jnp.sin)(x),
        2,
    ),
}


@pytest.mark.parametrize(("fun", "sines"), MERGED.values(), ids=MERGED)
def test_merging_keeps_what_differs(fun, sines):
    graph = cg.trace(fun, A)
    merged = merge_common(graph)
    assert merged.counts["sin"] == sines
    np.testing.assert_array_equal(merged(A)[0], graph(A)[0])


def test_merged_results_that_are_returned_are_returned_twice():
    merged = merge_common(cg.trace(lambda x: (jnp.sin(x), jnp.sin(x)), ONE))
    assert [op.name for op in merged.operations] == ["sin"]
    assert merged.outputs[0] is merged.outputs[1]
