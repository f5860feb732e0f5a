"""Which values of an untyped map are known to be the same on all devices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import ckptgrad as cg
from ckptgrad.chain.shard_maps.alike import alike_values, is_alike
from ckptgrad.chain.shard_maps.split import split_shard_maps
from ckptgrad.rules.sharded import body_of


def in_map(body):
    mesh = jax.make_mesh((1, 1), ("d", "e"), axis_types=(AxisType.Auto,) * 2)
    return jax.shard_map(body, mesh=mesh, in_specs=(P("d"), P()), out_specs=P(), check_vma=False)


@pytest.mark.parametrize(
    ("body", "alike"),
    [
        (lambda x, n: n * 2 - jnp.where(n > 3, n, 1), True),
        (lambda x, n: n + x, False),
        (lambda x, n: n + lax.axis_index("d"), False),
        (lambda x, n: lax.psum(x, ("d", "e")) + n, True),
        (lambda x, n: lax.psum(x, "d") + n, False),
        (lambda x, n: lax.ppermute(n, "d", [(0, 0)]), False),
        (lambda x, n: jnp.sort(n), False),  # Not known to be, as nothing says what a sort does.
    ],
)
def test_what_is_made_of_alike_values_alone_is_alike(body, alike):
    (op,) = cg.trace(in_map(body), jnp.ones(4), jnp.ones(4)).operations
    inside = body_of(op)
    found = alike_values(op, inside, [inside.inputs[1]])
    assert is_alike(inside.outputs[0], found) == alike


def counted(x, n):
    return lax.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, jnp.tanh(c[1])), (0, x))[1]


def converging(x, n):
    """Until all devices together are there."""

    def size(x):
        return lax.psum(jnp.sum(x**2), ("d", "e"))

    return lax.while_loop(lambda c: c[0] > n, lambda c: (size(c[1]), 0.9 * c[1]), (size(x), x))[1]


def converging_apart(x, n):
    return lax.while_loop(lambda c: c[0] > n, lambda c: (lax.psum(jnp.sum(c[1] ** 2), "e"), 0.9 * c[1]), (0.0, x))[1]


def infected(x, n):
    """The count is the same at first, and another on each device later."""

    def step(c):
        i, j, x = c
        return i + j, j + jnp.sum(x > 0), 0.9 * x

    return lax.while_loop(lambda c: c[0] < n, step, (0, 1, x))[2]


@pytest.mark.parametrize(("body", "outside"), [(counted, 1), (converging, 1), (converging_apart, 0), (infected, 0)])
def test_loops_that_devices_run_for_equally_long_stand_outside(body, outside):
    graph = split_shard_maps(cg.trace(in_map(body), jnp.ones(4), 3), cg.target("cpu"))
    assert graph.counts["while"] == outside
