"""What a user's function closes over does not outlive it; what is small is found again."""

from __future__ import annotations

import gc
import weakref

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.chain import recent
from ckptgrad.chain.recent import Recent, held_bytes

SIDE = 400


def plain(c):
    return lambda x: (jnp.sin(x @ c) @ c).sum()


def custom_vjp(c):
    @jax.custom_vjp
    def f(x):
        return jnp.sin(x @ c)

    f.defvjp(lambda x: (f(x), x), lambda x, g: ((g * jnp.cos(x @ c)) @ c.T,))
    return lambda x: f(f(x)).sum()


def custom_jvp(c):
    @jax.custom_jvp
    def f(x):
        return jnp.sin(x @ c)

    f.defjvp(lambda p, t: (f(p[0]), jnp.cos(p[0] @ c) * (t[0] @ c)))
    return lambda x: f(f(x)).sum()


def scan(c):
    return lambda x: jax.lax.scan(lambda x, _: (jnp.sin(x @ c), None), x, None, length=3)[0].sum()


def checkpoint(c):
    return lambda x: cg.checkpoint(lambda x: (jnp.sin(x @ c) @ c).sum())(x)


DOORS = {
    "eager": cg.grad,
    "jit": lambda f: jax.jit(cg.grad(f)),
    "jax": jax.grad,
    "jax in jit": lambda f: jax.jit(jax.grad(f)),
}
SLOW = [pytest.param(f, d, marks=pytest.mark.slow) for f in (plain, custom_jvp, scan) for d in ("eager", "jit")]


@pytest.mark.parametrize(
    ("make", "door"),
    [
        (custom_vjp, "eager"),
        pytest.param(custom_vjp, "jit", marks=pytest.mark.slow),
        *((checkpoint, door) for door in DOORS),
        *SLOW,
    ],
)
def test_arrays_that_a_function_closes_over_do_not_outlive_it(make, door):
    alive = []
    for i in range(4):
        captured = jnp.full((SIDE, SIDE), 1.0 / SIDE + i)
        alive.append(weakref.ref(captured))
        DOORS[door](make(captured))(jnp.ones((2, SIDE)))
    del captured
    for _ in range(4):  # what JAX's caches hold weakly goes one link of a chain at a time
        gc.collect()
    assert not any(ref() is not None for ref in alive)


class Value:
    pass


def test_small_values_are_kept_until_jax_clears_its_caches():
    table, value = Recent(), Value()
    table.put("key", value, ())
    kept = weakref.ref(value)
    del value
    gc.collect()
    assert table.get("key") is kept() is not None
    jax.clear_caches()
    gc.collect()
    assert kept() is None
    assert table.get("key") is None


def test_what_holds_many_bytes_is_kept_by_others_alone():
    table, value = Recent(), Value()
    large = jnp.zeros(recent.MOST_BYTES)
    table.put("key", value, [lambda: large])
    assert table.get("key") is value
    del value
    gc.collect()
    assert table.get("key") is None


def test_bytes_are_found_in_closures_and_tracers_refused():
    array = jnp.zeros(100)
    assert held_bytes([{"rule": lambda: array, "again": [array]}]) == array.nbytes
    seen = []
    jax.make_jaxpr(lambda x: seen.append(held_bytes([lambda: x])) or x)(1.0)
    assert seen == [None]
