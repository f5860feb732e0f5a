"""What communicates, at whatever depth, is not compiled by itself."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import ckptgrad as cg
from ckptgrad.graph.alone import stands_alone

X = jnp.ones(3)


def summed_over_axes(x):
    return jnp.sum(x.reshape(1, 3), axis=(0, 1)) * jnp.cumsum(x)


def communicating(x):
    return lax.psum(jnp.sin(x), "i")


PROGRAMS = {
    "elementwise": (lambda x: jnp.sin(x) * x, True),
    "axes of arrays": (summed_over_axes, True),
    "a loop": (lambda x: lax.fori_loop(0, 3, lambda i, c: jnp.sin(c), x), True),
    "a sum over a named axis": (communicating, False),
    "the place on a named axis": (lambda x: x + lax.axis_index("i"), False),
    "in a loop": (lambda x: lax.fori_loop(0, 3, lambda i, c: communicating(c), x), False),
    "in a branch": (lambda x: lax.cond(x[0] > 0, communicating, jnp.cos, x), False),
}


@pytest.mark.parametrize(("fun", "alone"), PROGRAMS.values(), ids=PROGRAMS)
def test_programs_with_and_without_communication(fun, alone):
    seen = []

    def under_the_map(x):
        seen.append(stands_alone(cg.trace(fun, x).operations))
        return x

    jax.make_jaxpr(jax.vmap(under_the_map, axis_name="i"))(X[None])
    assert seen == [alone]
