"""Keys of random numbers that cross stages: compiled, probed, measured, watched."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import ckptgrad as cg
from tests.support.compare import assert_same

W = jnp.stack([jnp.eye(8) * 0.5] * 2)
X = jnp.linspace(-1, 1, 32).reshape(4, 8)
KEYS = {
    "raw": lambda: jax.random.PRNGKey(3),
    "threefry": lambda: jax.random.key(3),
    "rbg": lambda: jax.random.key(3, impl="rbg"),
}


def layer(x, w, key):
    return jnp.tanh(x @ w) * jax.random.bernoulli(key, 0.9, x.shape)


def split_in_a_loop(w, x, key):
    for i in range(len(w)):
        key, now = jax.random.split(key)
        x = layer(x, w[i], now)
    return (x**2).mean()


def one_array_of_keys(w, x, key):
    keys = jax.random.split(key, len(w))
    for i in range(len(w)):
        x = layer(x, w[i], keys[i])
    return (x**2).mean()


def carried_by_a_scan(w, x, key):
    def step(carry, w):
        x, key = carry
        key, now = jax.random.split(key)
        return (layer(x, w, now), key), None

    return (lax.scan(step, (x, key), w)[0][0] ** 2).mean()


LOSSES = {f.__name__: f for f in (split_in_a_loop, one_array_of_keys, carried_by_a_scan)}


def compiled(fun, args):
    return cg.value_and_grad(fun, budget="min").compile(*args)(*args)


def probed(fun, args):
    return cg.value_and_grad(fun, costs="compile")(*args)


def timed(fun, args):
    return cg.value_and_grad(fun, costs="measure", budget="min")(*args)


def watched(fun, args):
    cg.timeline(fun, *args, observe=("xla", "ledger"))
    return cg.value_and_grad(fun)(*args)


def validated(fun, args):
    cg.validate(fun, *args, policies="optimal", meters=(), repeats=1, locate=True)
    return cg.value_and_grad(fun)(*args)


DOORS = {f.__name__: f for f in (compiled, probed, timed, watched, validated)}
QUICK = [("raw", "split_in_a_loop", "compiled"), ("rbg", "one_array_of_keys", "probed")]
ALL = [(k, f, d) for k in KEYS for f in LOSSES for d in DOORS]
CASES = [*QUICK, *(pytest.param(*c, marks=pytest.mark.slow) for c in ALL if c not in QUICK)]


@pytest.mark.parametrize(("key", "fun", "door"), CASES)
def test_keys_cross_stages(key, fun, door):
    args = (W, X, KEYS[key]())
    assert_same(DOORS[door](LOSSES[fun], args), jax.value_and_grad(LOSSES[fun])(*args))


def test_a_key_that_is_closed_over_and_one_that_is_differentiated():
    """Its gradient is float0, as with `jax.grad`."""
    key = jax.random.key(3)
    wanted = jax.value_and_grad(split_in_a_loop, (0, 2), allow_int=True)(W, X, key)
    door = cg.value_and_grad(split_in_a_loop, (0, 2), allow_int=True, costs="compile")
    assert_same(door(W, X, key), wanted)
    assert_same(compiled(lambda w, x: split_in_a_loop(w, x, key), (W, X)), (wanted[0], wanted[1][0]))
