"""Operations on arguments alone, moved to their reader."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import io_callback

import ckptgrad as cg
from ckptgrad.chain.late import made_late

W, X = jnp.ones((8, 8)), jnp.ones((4, 8))


def names(fun, *args):
    return [op.name for op in made_late(cg.trace(fun, *args)).operations]


def test_casts_stand_before_their_readers():
    def f(v, w, x):
        v, w = (jnp.sin(p.T) for p in (v, w))
        return jnp.tanh(x @ v) @ w

    assert names(f, W, W, X) == ["transpose", "sin", "dot_general", "tanh", "transpose", "sin", "dot_general"]


@pytest.mark.parametrize(
    "f",
    [
        lambda w, x: (s := jnp.sin(w), x @ w, x @ s, x @ s)[1:],  # several readers
        lambda w, x: (s := jnp.sin(w), x @ w, s)[1:],  # a result of the function
        lambda w, x: (s := w @ w, x @ w, x @ s)[1:],  # costly
        lambda w, x: jnp.tanh(jnp.tanh(x)) @ w,  # at their readers already
        lambda w, x: (y := x @ w, jnp.sin(y), y @ w, jnp.sin(y) @ w)[1:],  # not of arguments alone
    ],
)
def test_others_stay(f):
    graph = cg.trace(f, W, X)
    assert made_late(graph).operations == graph.operations


def test_side_effects_keep_their_order():
    shape = jax.ShapeDtypeStruct((8, 8), jnp.float32)

    def f(w, x):
        s = io_callback(np.sin, shape, w, ordered=True)
        t = io_callback(np.cos, shape, w, ordered=True)
        return (x @ t) @ s

    graph = cg.trace(f, W, X)
    assert made_late(graph).operations == graph.operations


def test_marked_stages_keep_what_they_hold():
    def f(w, x):
        s = cg.stage(jnp.sin)(w)
        return cg.stage(lambda s, x: jnp.tanh(x @ x.T) @ x @ s)(s, x)

    graph = cg.trace(f, W, X)
    assert made_late(graph) is graph


def test_values_and_gradients_are_the_same():
    def loss(ws, x):
        ws = [jnp.tanh(w).astype(jnp.float16).astype(jnp.float32) for w in ws]
        for w in ws:
            x = jnp.sin(x @ w)
        return jnp.sum(x**2)

    ws = [jax.random.normal(jax.random.key(k), (8, 8)) for k in range(4)]
    value, gradient = cg.value_and_grad(loss, budget="min")(ws, X)
    expected, wanted = jax.value_and_grad(loss)(ws, X)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    for g, h in zip(gradient, wanted, strict=True):
        np.testing.assert_allclose(g, h, rtol=1e-4, atol=1e-6)


def test_layers_with_parameters_that_are_cast_together_are_stages():
    """As many as where each layer casts its own, in as many bytes."""
    ws, x = [jnp.ones((64, 64))] * 8, jnp.ones((16, 64), jnp.bfloat16)

    def layers(ws, x, cast):
        for w in ws:
            x = jnp.tanh(x @ cast(w))
        return jnp.sum(x.astype(jnp.float32) ** 2)

    def together(ws, x):
        return layers([w.astype(jnp.bfloat16) for w in ws], x, lambda w: w)

    def each(ws, x):
        return layers(ws, x, lambda w: w.astype(jnp.bfloat16))

    for budget in (None, "min"):
        plans = [cg.plan(f, ws, x, budget=budget) for f in (together, each)]
        assert len({len(p.program.stages) for p in plans}) == len({p.peak_bytes for p in plans}) == 1
    assert len(plans[0].program.stages) >= 8
