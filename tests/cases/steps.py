"""Training steps of a small stack of layers, and their arguments."""

from __future__ import annotations

import jax
import jax.numpy as jnp

import ckptgrad as cg

WIDTH, ROWS, DEPTH = 64, 1024, 4
WS = [0.1 * jnp.eye(WIDTH) + 0.01 * k for k in range(DEPTH)]
X = jnp.linspace(-1, 1, ROWS * WIDTH).reshape(ROWS, WIDTH)
# Bytes of one layer's parameters, and of what passes between two.
LAYER, BOUNDARY = WS[0].nbytes, X.nbytes


def loss(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return jnp.mean(x**2)


def momentum_step(gradient, ws, speed, x):
    """A step by `gradient`, a door: new parameters and state, and the loss."""
    value, gradients = gradient(ws, x)
    speed = jax.tree.map(lambda v, g: 0.9 * v + g, speed, gradients)
    return jax.tree.map(lambda w, v: w - 0.1 * v, ws, speed), speed, value


def step(ws, speed, x):
    """A step whose gradient takes what is left of the memory."""
    return momentum_step(cg.value_and_grad(loss, budget="fit"), ws, speed, x)


def plain_step(ws, speed, x):
    """The same by JAX."""
    return momentum_step(jax.value_and_grad(loss), ws, speed, x)


def arguments():
    """Arguments of a step, made anew, so that they may be donated."""
    return [w + 0 for w in WS], [jnp.zeros_like(w) for w in WS], X
