"""Inexact values go where a small error stays small, and nowhere else."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.stage.encodings.bounded import may_be_inexact
from ckptgrad.stage.joint import joint
from ckptgrad.stage.partition import partition
from tests.support.arrays import normal

X = jnp.ones((8, 8))

ALLOWED = {
    "tanh": jnp.tanh,
    "sin": jnp.sin,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "a polynomial": lambda x: x**3 / 2.0 - x * x,
    "a product": lambda x: x @ x.T @ x,
    "chosen by a constant mask": lambda x: jnp.where(jnp.eye(8) > 0, x, 0) * x,
}
REFUSED = {
    "compared": lambda x: jnp.where(x > 0, x, 0.1 * x) * x,
    "a logarithm": lambda x: jnp.log(2 + x * x) * x,
    "a root": lambda x: jnp.sqrt(1 + x * x) * x,
    "an exponential": lambda x: jnp.exp(x) * x,
    "divided by": lambda x: x / (2 + x * x),
    "an index": lambda x: x * x[:, jnp.clip(x[0].astype(int), 0, 3)],
    "the sign": lambda x: jnp.sign(x) * x * x,
    "the largest": lambda x: jnp.max(x, axis=1) * jnp.sum(x * x),
    "rounded": lambda x: jnp.round(x) * x,
    "a loop": lambda x: jax.lax.fori_loop(0, 3, lambda _, y: jnp.sin(y), x) * x,
}


def whole(f):
    """A function as one stage whose backward makes everything from its input again."""
    graph = cg.trace(f, X)
    differentiated = joint(graph, graph.inputs, graph.outputs)
    return differentiated.inputs[0], partition(differentiated, ())


@pytest.mark.parametrize("f", ALLOWED.values(), ids=ALLOWED)
def test_bounded_slopes_polynomials_and_products_may_be_made_again(f):
    assert may_be_inexact(*whole(f))


@pytest.mark.parametrize("f", REFUSED.values(), ids=REFUSED)
def test_nothing_else_may(f):
    assert not may_be_inexact(*whole(f))


def test_the_result_of_what_is_refused_may_be_inexact_itself():
    _, part = whole(REFUSED["an exponential"])
    (exponential,) = [op.outputs[0] for op in part.recomputed if op.name == "exp"]
    kept = partition(part.joint, [exponential])
    assert may_be_inexact(exponential, kept)


def test_a_divisor_of_a_cotangent_may_not():
    _, part = whole(lambda x: jnp.sin(x) / (2 + jnp.cos(x)))
    (divisor,) = {v for op in part.joint.backward_operations if op.name == "div" for v in op.inputs[1:]}
    assert not may_be_inexact(divisor, partition(part.joint, [divisor]))


@pytest.mark.slow
@pytest.mark.parametrize("f", [*REFUSED.values(), jax.nn.relu, lambda x: jax.nn.softmax(x) * x])
def test_gradients_are_near_the_exact_ones_whatever_is_refused(f):
    x = normal(0, 64, 64, scale=1 / 8)

    def loss(x):
        return jnp.mean((f(jnp.tanh(x @ x)) @ x) ** 2)

    exact = cg.grad(loss)(x)
    inexact = cg.grad(loss, budget="min", encodings="int8")(x)
    assert jnp.max(jnp.abs(inexact - exact)) <= 0.02 * jnp.max(jnp.abs(exact))
