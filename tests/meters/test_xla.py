"""What XLA's buffer assignment holds at its peak, by stage and line."""

from __future__ import annotations

import jax.numpy as jnp

import ckptgrad as cg

# A batch of its own: equal stages of another test would have the lines of that one.
WIDTH, BATCH = 32, 544
X = jnp.ones((BATCH, WIDTH))
WS = [0.1 * jnp.eye(WIDTH)] * 6


def tanh_loss(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return jnp.mean(x**2)


def test_what_is_alive_at_xlas_peak_has_stage_and_line():
    course = cg.timeline(tanh_loss, WS, X, policy="store_all")
    alive = course.readings["xla"].alive
    boundaries = [b for b in alive if b.kind == "boundaries"]
    assert {b.type for b in boundaries} == {f"float32[{BATCH},{WIDTH}]"}
    assert {b.stage for b in boundaries} >= {0, 1, 2, 3}
    assert all(b.source and b.source.file == __file__ and b.source.function == "tanh_loss" for b in boundaries)
