"""Cotangents of small graphs, by two routes, and operation by operation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import ckptgrad as cg
from ckptgrad.validation.local_cotangents import (
    bodies,
    local_cotangents,
    local_cotangents_by_jax,
    random_like,
    spots,
    with_zeros,
)
from tests.support.compare import assert_same

X, Y, CT = jnp.array([0.3, -1.7, 2.0]), jnp.array([1.0, 2.0, 3.0]), jnp.array([0.5, 1.0, -1.0])


def fun(x, y):
    return jnp.sin(x) * y, jnp.floor(x), jnp.exp(y)


def test_by_ckptgrad_and_by_jax():
    """Of the last output no cotangent is given; through the second nothing flows."""
    graph = cg.trace(fun, X, Y)
    ours = local_cotangents(graph, [X, Y], [0, 1], [CT, CT, None])
    assert_same(ours, [CT * jnp.cos(X) * Y, CT * jnp.sin(X)], scale=4)
    assert_same(local_cotangents_by_jax(graph, [X, Y], [0, 1], [CT, CT, None]), ours, scale=4)
    assert_same(local_cotangents_by_jax(graph, [X, Y], [1], [CT, None, None]), ours[1:], scale=4)


def test_nothing_flows_is_none_or_zeros():
    graph = cg.trace(fun, X, Y)
    found = local_cotangents(graph, [X, Y], [0, 1], [None, None, CT])
    assert found[0] is None
    assert_same(with_zeros(found, [v.aval for v in graph.inputs])[0], 0 * X)


def test_random_cotangents_have_the_type_of_what_they_belong_to():
    rng = np.random.default_rng(0)
    assert random_like(jax.typeof(jnp.arange(3)), rng) is None
    assert random_like(jax.typeof(X.astype(jnp.bfloat16)), rng).dtype == jnp.bfloat16
    drawn = random_like(jax.typeof(1j * X), rng)
    assert (drawn.shape, drawn.dtype) == ((3,), jnp.complex64)
    assert np.all(np.imag(drawn) != 0)


def test_spots_are_the_operations_that_cotangents_flow_through_last_first():
    graph = cg.trace(lambda x, y: (jnp.sin(x) * y * 2.0, jnp.cos(y)), X, Y)
    found = [*spots(graph, [X, Y], [0], [CT, CT])]
    assert [spot.op.name for spot in found] == ["mul", "mul", "sin"]
    doubled, product, sine = found
    # A literal is a value of the operation, but no input of its graph.
    assert [len(spot.values) for spot in found] == [2, 2, 1]
    assert [spot.positions for spot in found] == [(0,), (0, 1), (0,)]
    assert [spot.differentiated for spot in found] == [[0], [0], [0]]
    assert_same(doubled.cotangents[0], CT)
    assert_same(product.inputs, [jnp.sin(X), Y])
    assert_same(sine.input_cotangents[0], 2 * CT * Y * jnp.cos(X), scale=4)


def test_cotangents_of_what_is_read_twice_are_added():
    graph = cg.trace(lambda x: (lambda s: jnp.exp(s) + jnp.cos(s))(jnp.tanh(x)), X)
    first = [*spots(graph, [X], [0], [CT])][-1]
    assert first.op.name == "tanh"
    assert_same(first.cotangents[0], CT * (jnp.exp(jnp.tanh(X)) - jnp.sin(jnp.tanh(X))), scale=4)


def spot_of(function, *args, named):
    graph = cg.trace(function, *args)
    seeds = [jnp.ones(v.shape, v.dtype) if jnp.issubdtype(v.dtype, jnp.inexact) else None for v in graph.outputs]
    return next(spot for spot in spots(graph, args, range(len(args)), seeds) if spot.op.name == named)


def test_the_first_and_the_last_step_of_a_scan():
    """From 1, step by step times 2, 3 and 4; backwards times 4, 3 and 2."""
    xs = jnp.array([2.0, 3.0, 4.0])
    for reverse, last in ((False, (6.0, 4.0)), (True, (12.0, 2.0))):
        run = lambda c, xs, reverse=reverse: lax.scan(lambda c, x: (c * x, None), c, xs, reverse=reverse)[0]
        first, final = bodies(spot_of(run, jnp.float32(1), xs, named="scan"))
        assert [float(v) for v in first.inputs] == [1.0, 4.0 if reverse else 2.0]
        assert [float(v) for v in final.inputs] == [*last]
        assert first.wrt == final.wrt == (0, 1)


def test_a_scan_of_one_step_has_one_body_and_of_none_none():
    run = lambda c, xs: lax.scan(lambda c, x: (c * x, None), c, xs)[0]
    assert len(bodies(spot_of(run, jnp.float32(1), jnp.ones(1), named="scan"))) == 1
    assert bodies(spot_of(run, jnp.float32(1), jnp.ones(0), named="scan")) == []


def test_the_first_step_of_a_while_and_the_branch_that_is_taken():
    loop = lambda x, n: lax.while_loop(lambda c: c.sum() < n, lambda c: c * 2, x)
    (body,) = bodies(spot_of(loop, Y, jnp.float32(20), named="while"))
    assert_same(body.inputs[-1], Y)
    assert bodies(spot_of(loop, Y, jnp.float32(1), named="while")) == []
    chosen = lambda x: lax.switch(jnp.argmax(x), [jnp.sin, jnp.cos, jnp.exp], x)
    (branch,) = bodies(spot_of(chosen, X, named="cond"))
    assert [op.name for op in branch.graph.operations] == ["exp"]
    assert bodies(spot_of(jnp.sin, X, named="sin")) == []
