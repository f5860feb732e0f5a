"""What ckptgrad is checked against: JAX's own gradient, plain and with a checkpoint around each stage."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.doors.gradient import value_and_grad
from ckptgrad.target.allocated import compiled_memory
from ckptgrad.validation.reference import checkpointed, jax_grad_point, jax_grad_reading, plain, reference_memory
from tests.support.compare import assert_same, quick

X, W = jnp.linspace(-1, 1, 64 * 16).reshape(64, 16), 0.1 * jnp.eye(16)


def loss(ws, n, x, *, scale):
    for w in ws:
        x = cg.stage(lambda w, x: x + jnp.tanh(x @ w))(w, x)
    return scale * n * jnp.mean(x**2), {"last": x}


ARGS, KEYWORDS = ([W] * 3, 2, X), {"scale": jnp.float32(1.5)}


def test_integers_have_gradients_of_float0():
    (value, aux), (by_ws, by_n) = jax.eval_shape(plain(loss, (0, 1), True), *ARGS, **KEYWORDS)
    assert (value.shape, aux["last"].shape) == ((), X.shape)
    assert by_n.dtype == jax.dtypes.float0
    assert len(by_ws) == 3


def test_checkpoints_around_stages_change_nothing_but_memory():
    traced = value_and_grad(loss, (0, 1), True, allow_int=True).trace(*ARGS, **KEYWORDS)
    staged = checkpointed(traced, (0, 1))
    assert_same(*quick(lambda: (staged(*ARGS, **KEYWORDS), plain(loss, (0, 1), True)(*ARGS, **KEYWORDS)))(), scale=8)
    names = [eqn.primitive.name for eqn in jax.make_jaxpr(staged)(*ARGS, **KEYWORDS).eqns]
    assert names.count("remat2") + names.count("checkpoint") >= 2


def test_bytes_are_those_of_the_compiled_program():
    structs = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), ARGS)
    found = reference_memory(loss, *structs, argnums=(0,), has_aux=True, **KEYWORDS)
    program = jax.jit(plain(loss, (0,), True)).lower(*structs, **KEYWORDS).compile()
    assert found.peak_bytes == compiled_memory(program).peak_bytes
    assert found.output_bytes >= X.nbytes + 3 * W.nbytes


def test_a_point_beside_a_frontier():
    """All is kept, so that it takes as long as the fastest plan, and more bytes."""
    point = jax_grad_point(loss, *ARGS, has_aux=True, **KEYWORDS)
    memory = reference_memory(loss, *ARGS, has_aux=True, **KEYWORDS)
    assert (point.policy, point.peak_bytes) == ("jax.grad", memory.peak_bytes)
    fastest = cg.plan(loss, *ARGS, has_aux=True, policy="store_all", costs="estimate", **KEYWORDS)
    assert point.seconds == pytest.approx(fastest.seconds, rel=0.3)


def test_the_curve_of_jax_grad_peaks_at_what_it_allocates():
    reading = jax_grad_reading(loss, *ARGS, has_aux=True, **KEYWORDS)
    assert reading.bytes == reference_memory(loss, *ARGS, has_aux=True, **KEYWORDS).peak_bytes
    assert max(held for _, held in reading.curve) <= reading.bytes
    course = cg.plan(loss, *ARGS, has_aux=True, **KEYWORDS).timeline().beside(theirs=reading)
    assert course.references == {"theirs": reading}
