"""Loops and branches of which an axis is cut."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tests.support.chunks import assert_as_whole, found_for

X = np.random.default_rng(0).normal(size=(4, 3, 2))  # examples, steps, features


def over_time(x):
    """A recurrent network over axis 1."""
    return lax.scan(lambda h, row: (jnp.tanh(h + row), h * row), jnp.zeros((4, 2)), x.swapaxes(0, 1))


def layers(x):
    return lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, jnp.ones((3, 2, 2)) / 2)[0]


def counted(x):
    return lax.fori_loop(0, 3, lambda i, h: h * (1 + i), x)


def losses(x):
    return lax.scan(lambda c, row: (c, jnp.sum(row**2)), 0.0, x.swapaxes(0, 1))[1]


def chosen(x):
    return lax.cond(jnp.array(True), lambda x: x * 2, lambda x: x + 1, x)


def chosen_by_entries(x):
    return lax.cond(x.sum() > 0, lambda x: x * 2, lambda x: x + 1, x)


def mixed_in_a_step(x):
    return lax.scan(lambda h, w: (h - h.mean(0), None), x, jnp.ones(3))[0]


def summed_in_a_step(x):
    return lax.scan(lambda h, row: (h + row.sum(0), None), jnp.zeros(2), x.swapaxes(0, 1))[0]


def until(x):
    return lax.while_loop(lambda h: jnp.max(h) < 10, lambda h: h * 2, jnp.abs(x))


CASES = {
    "recurrent": (over_time, 0, True),
    "recurrent along its steps": (over_time, 1, False),
    "layers": (layers, 0, True),
    "tokens of layers": (layers, 1, True),
    "features of layers": (layers, 2, False),
    "counted": (counted, 0, True),
    "losses": (losses, 0, True),
    "chosen": (chosen, 0, True),
    "chosen by entries": (chosen_by_entries, 0, False),
    "mixed in a step": (mixed_in_a_step, 0, False),
    "summed in a step": (summed_in_a_step, 0, False),
    "until": (until, 0, False),
}


@pytest.mark.parametrize("name", CASES)
def test_cut(name):
    fun, axis, expected = CASES[name]
    with jax.enable_x64():
        found = found_for(fun, (jnp.asarray(X),), {0: axis})
        assert (found is not None) == expected
        if found is not None:
            assert_as_whole(found, fun, (jnp.asarray(X),), gradients=name in ("recurrent", "layers", "chosen"))


def test_steps_that_depend_on_what_no_chunk_has_whole():
    """A loop carries a value that is cut after its first step."""
    fun = lambda x: lax.fori_loop(0, 2, lambda _, h: h + x, jnp.zeros((4, 3, 2)))
    with jax.enable_x64():
        found = found_for(fun, (jnp.asarray(X),), {0: 0})
        assert found is not None
        assert_as_whole(found, fun, (jnp.asarray(X),))
