"""The ledger counts what is held between the actions of a plan."""

from __future__ import annotations

import jax.numpy as jnp

import ckptgrad as cg

WIDTH, BATCH = 32, 128
X = jnp.ones((BATCH, WIDTH))
WS = [0.1 * jnp.eye(WIDTH)] * 6


def tanh_loss(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return jnp.mean(x**2)


def test_the_ledger_counts_what_is_held_between_actions():
    course = cg.timeline(tanh_loss, WS, X, budget="0.6x", observe=("ledger",))
    reading = course.readings["ledger"]
    assert len(reading.curve) == len(course.moments)
    # Results are counted when they are made, and transients not at all.
    for (_, held), moment in zip(reading.curve, course.moments, strict=True):
        assert held <= moment.total
    last = sum(w.nbytes for w in WS) + 4
    assert reading.curve[-1][1] == last
