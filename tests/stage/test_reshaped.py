"""A value and its reshape are one buffer: what a boundary is a reshape of is not kept besides it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.chain.kind import private_residuals
from ckptgrad.stage.partition import partition
from ckptgrad.stage.reshaped import read_from_boundaries
from ckptgrad.target.allocated import compiled_memory
from ckptgrad.target.target import described
from tests.support.joint_graphs import joint_of

X = jnp.linspace(-1, 1, 12).reshape(4, 3)
ROWS, WIDTH, DEPTH = 1024, 32, 6
H = jnp.sin(jnp.arange(ROWS * WIDTH * 1.0)).reshape(WIDTH, ROWS)
WS = [jnp.cos(jnp.arange(WIDTH * WIDTH * 1.0) + k).reshape(WIDTH, WIDTH) / 6 for k in range(DEPTH)]


def layer(w, x):
    return jnp.tanh(x.reshape(ROWS, WIDTH) @ w).reshape(WIDTH, ROWS)


def loss(ws, x, layer=layer):
    for w in ws:
        x = layer(w, x)
    return (x**2).mean()


@pytest.mark.parametrize(
    "last",
    [lambda y: y.reshape(-1), lambda y: y.reshape(2, 6).reshape(3, 4), lambda y: (y.reshape(6, 2), y.reshape(-1))],
    ids=["reshaped", "twice", "in two shapes"],
)
def test_the_backward_goes_on_from_the_boundary_alone(last):
    """And gives the same gradient, though the forward of what it reads is not done again."""
    fun = lambda x: last(jnp.tanh(jnp.sin(x)))
    before = joint_of(fun, X)
    boundary = before.outputs[:1]
    joint = read_from_boundaries(before, boundary)
    part = partition(joint, boundary)
    assert {op.name for op in part.recomputed} <= {"reshape", "mul", "sub", "cos"}
    outputs, residuals = part.run_forward([X])
    assert len(residuals) == 1
    cotangents = [jnp.cos(y) for y in outputs]
    (found,) = part.run_backward(residuals, [X], cotangents)
    np.testing.assert_allclose(found, partition(before, ()).run_backward([], [X], cotangents)[0], rtol=1e-6)


@pytest.mark.parametrize(
    "fun",
    [lambda x: jnp.tanh(x).T, lambda x: x.reshape(-1), lambda x: jnp.tanh(x)[None] * 2, lambda x: jnp.sin(x)],
    ids=["transposed", "an argument", "multiplied", "as it is"],
)
def test_what_is_no_reshape_of_a_forward_value_stays(fun):
    joint = joint_of(fun, X)
    assert read_from_boundaries(joint, joint.outputs) is joint


@pytest.mark.parametrize("chain", [layer, cg.stage(layer)], ids=["cut", "marked"])
def test_a_chain_of_reshaped_layers_keeps_boundaries_alone(chain):
    run = lambda ws, x: loss(ws, x, chain)
    door = cg.grad(run, policy="store_all", costs="compile")
    plan = door.plan(WS, H)
    middle = plan.program.stages[2].kind
    assert all(private_residuals(middle, option) == [] for option in middle.options)
    memory = compiled_memory(jax.jit(door).lower(WS, H).compile())
    assert memory.peak_bytes == pytest.approx(plan.peak_bytes, rel=0.02)


@pytest.mark.parametrize("policy", ["store_all", "recompute_all", "sqrt"])
def test_gradients(policy):
    found = cg.grad(loss, (0, 1), policy=policy)(WS, H)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, jax.grad(loss, (0, 1))(WS, H))


def test_where_a_reshape_moves_elements_both_are_kept():
    program = cg.plan(loss, WS, H, target=described("tpu")).program
    middle = program.stages[2].kind
    assert any(private_residuals(middle, option) for option in middle.options)
