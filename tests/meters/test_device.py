"""The device's own counters, where it has some."""

from __future__ import annotations

import jax
import jax.numpy as jnp

import ckptgrad as cg

WIDTH, BATCH = 32, 64
X = jnp.ones((BATCH, WIDTH))
WS = [0.1 * jnp.eye(WIDTH)] * 6


def tanh_loss(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return jnp.mean(x**2)


def test_a_cpu_has_no_counters_and_says_so():
    reading = cg.timeline(tanh_loss, WS, X, observe="device").readings["device"]
    if jax.default_backend() == "cpu":
        assert reading.bytes is None
        assert "no memory counters" in reading.reason
