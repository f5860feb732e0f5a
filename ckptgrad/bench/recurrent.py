"""A recurrent cell h <- tanh(h w + b) over many steps, its loop written for each library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

FLOAT_BYTES = 4


def arguments(width: int, batch: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Weights, bias and initial state."""
    keys = jax.random.split(jax.random.key(0), 3)
    w = jax.random.normal(keys[0], (width, width)) / np.sqrt(width)
    return w, 0.1 * jax.random.normal(keys[1], (width,)), jax.random.normal(keys[2], (batch, width))


def state_bytes(width: int, batch: int) -> int:
    """Bytes of the carried state."""
    return batch * width * FLOAT_BYTES


def output_bytes(args: tuple[jax.Array, ...]) -> int:
    """Bytes of the loss and the gradients of all arguments."""
    return sum(x.nbytes for x in args) + FLOAT_BYTES


def gradient(loss: Callable) -> Callable:
    """`jax.value_and_grad` for weights, bias and initial state."""
    return jax.value_and_grad(loss, (0, 1, 2))


def cell(w: jax.Array, b: jax.Array, h: jax.Array) -> jax.Array:
    """One step."""
    return jnp.tanh(h @ w + b)


def scan_loss(length: int) -> Callable:
    """The loss after a scan of `length` steps."""

    def loss(w: jax.Array, b: jax.Array, h: jax.Array) -> jax.Array:
        return jnp.mean(lax.scan(lambda c, _: (cell(w, b, c), None), h, None, length=length)[0] ** 2)

    return loss


def nested_scan_loss(length: int, inner: int) -> Callable:
    """The loss after two nested scans, of which the inner one has `inner` steps and is under jax.checkpoint."""

    def loss(w: jax.Array, b: jax.Array, h: jax.Array) -> jax.Array:
        @jax.checkpoint
        def outer(c: jax.Array, _: None) -> tuple[jax.Array, None]:
            return lax.scan(lambda c, _: (cell(w, b, c), None), c, None, length=inner)[0], None

        return jnp.mean(lax.scan(outer, h, None, length=length // inner)[0] ** 2)

    return loss


def while_loop_loss(w: jax.Array, b: jax.Array, h: jax.Array, n: jax.Array) -> jax.Array:
    """The loss after a while loop of n steps, where n is known only at run time."""
    return jnp.mean(lax.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, cell(w, b, s[1])), (0, h))[1] ** 2)


def equinox_scan(loops: Any, length: int, checkpoints: int) -> Callable:
    """The loss after Equinox's checkpointed scan; `loops` is `equinox.internal`."""

    def loss(w: jax.Array, b: jax.Array, h: jax.Array) -> jax.Array:
        final, _ = loops.scan(
            lambda c, _: (cell(w, b, c), None), h, None, length=length, kind="checkpointed", checkpoints=checkpoints
        )
        return jnp.mean(final**2)

    return loss


def equinox_while(loops: Any, checkpoints: int) -> Callable:
    """The loss after Equinox's checkpointed while loop; `loops` is `equinox.internal`."""

    def loss(w: jax.Array, b: jax.Array, h: jax.Array, n: jax.Array) -> jax.Array:
        final = loops.while_loop(
            lambda s: s[0] < n, lambda s: (s[0] + 1, cell(w, b, s[1])), (0, h), kind="checkpointed", checkpoints=checkpoints
        )
        return jnp.mean(final[1] ** 2)

    return loss


def diffrax_steps(diffrax: Any, checkpoints: int) -> Callable:
    """The loss after diffrax's Euler steps, of length one, for dh/dt = cell(h) - h: each is a step of the cell."""

    def loss(w: jax.Array, b: jax.Array, h: jax.Array, n: jax.Array) -> jax.Array:
        term = diffrax.ODETerm(lambda t, h, args: cell(args[0], args[1], h) - h)
        adjoint = diffrax.RecursiveCheckpointAdjoint(checkpoints=checkpoints)
        final = diffrax.diffeqsolve(
            term, diffrax.Euler(), 0.0, n.astype(jnp.float32), 1.0, h, (w, b), adjoint=adjoint, max_steps=None
        )
        return jnp.mean(final.ys[-1] ** 2)

    return loss
