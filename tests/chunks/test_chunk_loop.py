"""A loop over chunks: slices, parts written in place, totals."""

import re

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.axes.chunked import chunkable
from ckptgrad.chunks.chunk_loop import ChunkLoop

W = jnp.linspace(-1, 1, 12).reshape(3, 4)
X = jnp.linspace(-1, 1, 30).reshape(5, 2, 3)


def parts_and_total(w, x):
    return jnp.tanh(x @ w), jnp.sum(x**2)


def loop(entries, **options):
    graph = cg.trace(parts_and_total, W, X)
    found = chunkable(graph, {graph.inputs[1]: 0})
    return ChunkLoop(found, entries, tuple(True for _ in found.inputs), (True, True), **options)


@pytest.mark.parametrize("entries", [1, 2, 5])
def test_results_are_those_of_all_entries(entries):
    chunks = loop(entries)
    operands = [{W.shape: W, X.shape: X}[v.shape] for v in chunks.operands]
    assert chunks.count == -(-5 // entries)
    results = {r.shape: r for r in chunks.forward(*operands)}
    part, total = parts_and_total(W, X)
    np.testing.assert_allclose(results[part.shape], part, rtol=1e-6)
    np.testing.assert_allclose(results[()], total, rtol=1e-6)


def test_gradients_of_what_is_read_whole_are_summed():
    chunks = loop(2)
    operands = [{W.shape: W, X.shape: X}[v.shape] for v in chunks.operands]
    cotangents = [jnp.ones(v.shape) for v in chunks.results]
    found = {g.shape: g for g in chunks.backward(*operands, *cotangents)}
    expected = jax.grad(lambda w, x: sum(map(jnp.sum, parts_and_total(w, x))), (0, 1))(W, X)
    for g in expected:
        np.testing.assert_allclose(found[g.shape], g, rtol=1e-5, atol=1e-6)


def test_sums_are_carried_in_a_wider_dtype_where_asked(x64):
    chunks = loop(1, accumulate=jnp.float64)
    text = str(jax.make_jaxpr(chunks.backward)(*(jnp.zeros(v.shape, v.dtype) for v in (*chunks.operands, *chunks.results))))
    assert "f64[3,4]" in text
    assert chunks.is_alike


def test_many_small_summands_of_16_bits_are_not_lost():
    """In bfloat16 256 and 1 make 256; so would the sum of chunks, where that of all entries at once makes 512."""
    x = jnp.ones((512, 1), jnp.bfloat16)
    graph = cg.trace(lambda w, x: (x @ w)[:, 0], jnp.ones((1, 1), jnp.bfloat16), x)
    found = chunkable(graph, {graph.inputs[1]: 0})
    chunks = ChunkLoop(found, 1, tuple(v.shape == (1, 1) for v in found.inputs), (True,))
    operands = [jnp.ones(v.shape, v.dtype) for v in found.inputs]
    (gradient,) = chunks.backward(*operands, jnp.ones(512, jnp.bfloat16))
    assert gradient.dtype == jnp.bfloat16
    assert float(gradient[0, 0]) == 512


@pytest.mark.parametrize("run", ["forward", "backward", "in_one_pass"])
def test_a_loop_writes_into_zeros_that_are_not_made_before_its_operands(run):
    """XLA for GPUs makes zeros that depend on nothing at the beginning, those of all loops together."""
    chunks = loop(2)
    values = (*chunks.operands, *(chunks.results if run != "forward" else ()))
    jaxpr = jax.make_jaxpr(getattr(chunks, run))(*(jnp.ones(v.shape) for v in values)).jaxpr
    dependent = {*jaxpr.invars}
    for eqn in jaxpr.eqns:
        from_operands = any(v in dependent for v in eqn.invars if not isinstance(v, jax.extend.core.Literal))
        assert from_operands or all(not v.aval.shape for v in eqn.outvars), eqn
        dependent.update(eqn.outvars if from_operands else ())


@pytest.mark.parametrize("run", ["backward", "in_one_pass"])
def test_zeros_of_a_backward_wait_for_a_cotangent(run):
    """Those that wait for what the forward's do are one array with these, which XLA for TPUs makes and copies."""
    chunks = loop(2)
    values = [jnp.ones(v.shape) for v in (*chunks.operands, *chunks.results)]
    jaxpr = jax.make_jaxpr(getattr(chunks, run))(*values).jaxpr
    (barrier,) = (eqn for eqn in jaxpr.eqns if eqn.primitive.name == "optimization_barrier")
    assert {*jaxpr.invars[len(chunks.operands) :]} & {*barrier.invars[1:]}


@pytest.mark.parametrize("axis", [0, 1])
def test_even_chunks_are_single_entries_of_what_a_loop_writes(axis):
    """XLA for TPUs writes no zeros first then."""
    x = jnp.linspace(-1, 1, 72).reshape(6, 6, 2)
    graph = cg.trace(jnp.tanh, x)
    chunks = ChunkLoop(chunkable(graph, {graph.inputs[0]: axis}), 2, (True,), (True,))
    text = str(jax.make_jaxpr(chunks.backward)(x, x))
    shape = {0: "1,2,6,2", 1: "6,1,2,2"}[axis]
    assert re.search(rf"f32\[{shape}\] = (broadcast_in_dim|reshape|expand_dims)", text)
    np.testing.assert_allclose(chunks.backward(x, x)[0], x * (1 - jnp.tanh(x) ** 2), rtol=1e-6)


def test_narrow_totals_are_cast_before_anything_that_a_loop_makes_is_read():
    """XLA for TPUs casts totals that are only returned where the program ends, and holds all of them until then."""
    graph = cg.trace(lambda w, x: jnp.tanh(x @ w), jnp.ones((3, 4), jnp.bfloat16), jnp.ones((6, 3), jnp.bfloat16))
    found = chunkable(graph, {graph.inputs[1]: 0})
    chunks = ChunkLoop(found, 2, tuple(True for _ in found.inputs), (True,))
    values = [jnp.ones(v.shape, v.dtype) for v in (*chunks.operands, *chunks.results)]
    jaxpr = jax.make_jaxpr(chunks.backward)(*values).jaxpr
    last = jaxpr.eqns[-1]
    assert last.primitive.name == "optimization_barrier"
    assert [*last.outvars] == [*jaxpr.outvars]
    assert {v.aval.dtype for v in last.invars} == {jnp.dtype(jnp.bfloat16)}
    wide = jax.make_jaxpr(loop(2).forward)(*(jnp.ones(v.shape) for v in loop(2).operands)).jaxpr
    assert wide.eqns[-1].primitive.name != "optimization_barrier"
