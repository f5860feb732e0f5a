"""Effects inside control flow and custom rules happen as often as without recomputation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import ckptgrad as cg

DEPTH = 4
X = jnp.ones((16, 8))
W = jnp.eye(8) / 2


def in_scan(talk):
    return lambda x: lax.scan(lambda c, _: ((talk(c), jnp.sin(c))[1], None), x, None, length=3)[0]


def in_cond(talk):
    return lambda x: lax.cond(x[0, 0] > -5, lambda v: (talk(v), jnp.sin(v))[1], jnp.cos, x)


def in_checkpoint(talk):
    return jax.checkpoint(lambda x: (talk(x), jnp.sin(x))[1])


def in_jit(talk):
    return jax.jit(lambda x: (talk(x), jnp.sin(x))[1])


def in_vmap(talk):
    return jax.vmap(lambda row: (talk(row), jnp.sin(row))[1])


def in_custom_forward(talk):
    f = jax.custom_vjp(jnp.sin)
    f.defvjp(lambda x: ((talk(x), jnp.sin(x))[1], x), lambda x, ct: (ct * jnp.cos(x),))
    return f


def in_custom_backward(talk):
    f = jax.custom_vjp(jnp.sin)
    f.defvjp(lambda x: (jnp.sin(x), x), lambda x, ct: ((talk(ct), ct * jnp.cos(x))[1],))
    return f


# How often each layer talks in one gradient.
INSIDE = {
    "scan": (in_scan, 3),
    "cond": (in_cond, 1),
    "checkpoint": (in_checkpoint, 1),
    "jit": (in_jit, 1),
    "vmap": (in_vmap, 16),
    "custom_vjp, forward": (in_custom_forward, 1),
    "custom_vjp, backward": (in_custom_backward, 1),
}


def loss_of(inside, seen, ordered=False):
    def talk(x):
        jax.debug.callback(lambda _: seen.append(1), x.mean(), ordered=ordered)

    block = inside(talk)
    layer = cg.stage(lambda w, x: x + block(x @ w))

    def loss(ws, x):
        for w in ws:
            x = layer(w, x)
        return x.sum()

    return loss


@pytest.mark.parametrize("policy", ["store_all", "recompute_all", "sqrt"])
@pytest.mark.parametrize(("inside", "times"), INSIDE.values(), ids=INSIDE)
def test_nested_effects_happen_once(inside, times, policy):
    seen = []
    door = jax.jit(cg.grad(loss_of(inside, seen), policy=policy))
    jax.block_until_ready(door([W] * DEPTH, X))
    jax.effects_barrier()
    assert len(seen) == DEPTH * times


@pytest.mark.parametrize("inside", [in_scan, in_jit, in_checkpoint])
def test_nested_ordered_effects_are_refused_where_they_would_run_again(inside):
    seen = []
    loss = loss_of(inside, seen, ordered=True)
    with pytest.raises(cg.EffectError, match=r"test_nested_effects\.py:\d+"):
        cg.grad(loss, policy="recompute_all")([W] * DEPTH, X)
    jax.effects_barrier()
    assert seen == []
