"""Functions that are batched by a rule of the user's: their derivatives are batched as it says, too."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.custom_batching import custom_vmap

import ckptgrad as cg
from tests.support.compare import assert_same

X, Y = jnp.array([0.3, -1.2, 0.7]), jnp.array([1.1, 0.4, -0.2])


@custom_vmap
def batched_its_own_way(x):
    return jnp.sin(x) * 2


@batched_its_own_way.def_vmap
def _(axis_size, in_batched, x):
    return jnp.sin(x) * 2 + 100, True


def test_custom_vmap_is_differentiated_and_still_batches_its_own_way():
    assert_same(cg.grad(lambda x: batched_its_own_way(x).sum())(X), 2 * jnp.cos(X), scale=4)
    assert_same(cg.jvp(batched_its_own_way, (X,), (Y,)), jax.jvp(batched_its_own_way, (X,), (Y,)), scale=4)
    values, _ = jax.vmap(cg.value_and_grad(batched_its_own_way))(X)
    np.testing.assert_allclose(values, jnp.sin(X) * 2 + 100, rtol=1e-6)


@custom_vmap
def weighed(w, x):
    """A function whose batch is treated as a whole: the weight of an example depends on all of them."""
    return jnp.sin(w * x), w * x


@weighed.def_vmap
def _(axis_size, in_batched, w, x):
    w, x = (v if b else jnp.broadcast_to(v, (axis_size, *v.shape)) for v, b in zip((w, x), in_batched, strict=True))
    y = w * x
    return (jnp.sin(y) * jnp.cos(y).sum(0), y**2), (True, True)


def whole_batch(w, x):
    """The same, batched by hand."""
    y = w * x
    return jnp.sin(y) * jnp.cos(y).sum(0), y**2


TRIPLE = jnp.linspace(0.3, 1.2, 6).reshape(3, 2)


def test_tangents_are_batched_as_the_users_rule_says():
    w, t, s = TRIPLE + 0.2, jnp.cos(TRIPLE), jnp.sin(3 * TRIPLE)
    wanted = jax.jvp(whole_batch, (w, TRIPLE), (t, s))
    assert_same(jax.vmap(lambda *a: cg.jvp(weighed, a[:2], a[2:]))(w, TRIPLE, t, s), wanted, scale=4)
    one = lambda x, s: jax.vmap(lambda x, s: cg.jvp(weighed, (w[0], x), (t[0], s)))(x, s)
    shared = jax.jvp(whole_batch, (w[0], TRIPLE), (t[0], s))
    assert_same(one(TRIPLE, s), shared, scale=4)


def test_tangents_of_a_shared_argument_are_those_of_each_example():
    w, x = TRIPLE[0], TRIPLE
    t = jnp.cos(TRIPLE)
    found = jax.vmap(lambda x, t: cg.jvp(lambda w: weighed(w, x), (w,), (t,))[1])(x, t)
    each = [jax.jvp(lambda w: whole_batch(w, x), (w,), (t[i],))[1] for i in range(3)]
    assert_same(found, tuple(jnp.stack([e[k][i] for i, e in enumerate(each)]) for k in range(2)), scale=4)
    alone = jax.vmap(lambda t: cg.jvp(weighed, (w, x[0]), (t, t))[1])(t)
    plain = jax.vmap(lambda t: jax.jvp(lambda w, x: (jnp.sin(w * x), w * x), (w, x[0]), (t, t))[1])(t)
    assert_same(alone, plain, scale=4)


def summed(w, x):
    a, b = weighed(w, x)
    return a.sum() + (b * b).sum()


def summed_batch(w, x):
    a, b = whole_batch(w, x)
    return a.sum() + (b * b).sum()


@pytest.mark.parametrize("around", ["plain", "scan", "stages", "second order"])
def test_cotangents_are_batched_as_the_users_rule_says(around):
    """An argument's cotangent is that of the whole batch; a shared one's that of each example."""
    w = TRIPLE + 0.2
    if around == "plain":
        assert_same(jax.vmap(cg.grad(summed, (0, 1)))(w, TRIPLE), jax.grad(summed_batch, (0, 1))(w, TRIPLE), scale=8)
        each = jax.vmap(cg.grad(summed), (None, 0))(w[0], TRIPLE)
        out = lambda i: lambda w: sum(jnp.sum(p[i] ** n) for n, p in zip((1, 2), whole_batch(w, TRIPLE), strict=True))
        assert_same(each, jnp.stack([jax.grad(out(i))(w[0]) for i in range(3)]), scale=8)
        alone = jax.vmap(cg.grad(lambda w, x, s: s * summed(w, x)), (None, None, 0))(w[0], TRIPLE[0], jnp.arange(3.0))
        plain = jax.grad(lambda w: jnp.sin(w * TRIPLE[0]).sum() + ((w * TRIPLE[0]) ** 2).sum())(w[0])
        assert_same(alone, jnp.arange(3.0)[:, None] * plain, scale=8)
    elif around == "second order":
        found = jax.vmap(cg.grad(lambda w, x: cg.grad(summed, 1)(w, x).sum()))(w, TRIPLE)
        assert_same(found, jax.grad(lambda w: jax.grad(summed_batch, 1)(w, TRIPLE).sum())(w), scale=16)
    else:

        def run(step, w, x):
            if around == "scan":
                return jax.lax.scan(lambda x, _: (jnp.tanh(step(w, x)[0]), None), x, None, length=3)[0].sum()
            for _ in range(3):
                x = jnp.tanh(step(w, x)[0])
            return x.sum()

        found = jax.vmap(cg.grad(partial(run, weighed), budget="min"))(w, TRIPLE)
        assert_same(found, jax.grad(partial(run, whole_batch))(w, TRIPLE), scale=16)
