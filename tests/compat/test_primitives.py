"""Primitives whose parameters depend on JAX's version, as every version gives them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad import compat


def _only(fun, *args, named):
    return next(op for op in cg.trace(fun, *args).operations if op.name == named)


SCANS = {
    "a carried value": (lambda x, w: jax.lax.scan(lambda c, _: (jnp.sin(c), None), x, None, length=3), (0, 1)),
    "a captured array": (lambda x, w: jax.lax.scan(lambda c, _: (w @ c, c), x, None, length=3), (1, 1)),
    "two carried, stacked ones": (
        lambda x, w: jax.lax.scan(lambda c, r: ((c[0] + r, c[1] * 2), r), (x, x), w),
        (0, 2),
    ),
}


@pytest.mark.parametrize("name", SCANS)
def test_counts_of_a_scan(name):
    fun, counts = SCANS[name]
    op = _only(fun, jnp.ones(3), jnp.ones((3, 3)), named="scan")
    assert compat.scan_counts(op.params) == counts


def test_counts_of_a_scan_that_was_differentiated_and_batched():
    def total(x):
        return jax.lax.scan(lambda c, _: (jnp.sin(c), c), x, None, length=3)[0]

    op = _only(jax.vmap(lambda x: jax.jvp(total, (x,), (x,))), jnp.ones(2), named="scan")
    assert compat.scan_counts(op.params).carry == 2


def test_calls_are_taken_apart_whatever_holds_their_program():
    def sine(x):
        return jnp.sin(x)

    def fun(x):
        return jax.lax.composite(sine, name="mine.sine")(jax.jit(sine)(jax.checkpoint(sine)(x)))

    assert cg.trace(fun, 1.0).counts == {"sin": 3}


def test_a_checkpoint_is_known_in_every_form():
    def kinds(fun):
        return [compat.is_checkpoint(eqn.primitive, eqn.params) for eqn in jax.make_jaxpr(fun)(1.0).eqns]

    assert kinds(jax.checkpoint(jax.numpy.sin)) == [True]
    assert kinds(jax.jit(jax.numpy.sin)) == [False]
