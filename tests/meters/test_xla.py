"""What XLA's buffer assignment holds at its peak, by stage and line."""

from __future__ import annotations

import jax
import jax.numpy as jnp

import ckptgrad as cg
from tests.cases import tanh
from tests.cases.tanh import tanh_arguments, tanh_loss

# A batch of its own: equal stages of another test would have the lines of that one.
WIDTH, BATCH = 32, 544
WS, X = tanh_arguments(WIDTH, BATCH)


def test_what_is_alive_at_xlas_peak_has_stage_and_line():
    course = cg.timeline(tanh_loss, WS, X, policy="store_all")
    alive = course.readings["xla"].alive
    boundaries = [b for b in alive if b.kind == "boundaries"]
    assert {b.type for b in boundaries} == {f"float32[{BATCH},{WIDTH}]"}
    assert {b.stage for b in boundaries} >= {0, 1, 2, 3}
    assert all(b.source and b.source.file == tanh.__file__ and b.source.function == "tanh_loss" for b in boundaries)


def test_names_of_loops_and_calls_are_none_that_a_user_reads():
    """A scan: what its steps make has their line, and what XLA calls loops, bodies and calls stands nowhere."""

    def loss(w, x):
        return jnp.sum(jax.lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, None, length=8)[0])

    alive = cg.timeline(loss, jnp.ones((32, 32)), jnp.ones((48, 32)), budget="0.7x").readings["xla"].alive
    words = [*(b.what for b in alive), *(b.source.scope for b in alive if b.source)]
    for name in ("jit(", "ckptgrad", "body", "trips_", "closed_call", "eval_jaxpr"):
        assert not [word for word in words if name in word]
    assert any(b.source and b.source.function.endswith("loss.<locals>.<lambda>") for b in alive)
