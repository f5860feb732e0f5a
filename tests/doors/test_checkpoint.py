"""`cg.checkpoint`: planned functions inside JAX's own differentiation, and inside libraries that use it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.target.allocated import compiled_memory
from tests.support.compare import assert_same

WS = [jnp.eye(16) * 0.3 + 0.01 * k for k in range(8)]
X = jnp.linspace(-1, 1, 64 * 16).reshape(64, 16)
TWO = jnp.float32(2)
POLICIES = pytest.mark.parametrize("policy", ["optimal", "recompute_all", "revolve", "store_all"])


def chain(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return x


def loss(ws, x, chain=chain):
    return (chain(ws, x) ** 2).mean()


@POLICIES
def test_gradients_are_those_of_the_plain_function(policy):
    planned = cg.checkpoint(chain, policy=policy)
    wanted = jax.value_and_grad(loss, argnums=(0, 1))(WS, X)
    assert_same(jax.value_and_grad(lambda ws, x: loss(ws, x, planned), argnums=(0, 1))(WS, X), wanted, scale=8)
    assert_same(jax.jit(jax.value_and_grad(lambda ws, x: loss(ws, x, planned), argnums=(0, 1)))(WS, X), wanted, scale=8)


def test_memory_is_saved_where_jax_checkpoint_saves_none():
    big = jnp.ones((4096, 64))
    ws = [jnp.eye(64)] * 16

    def temporaries(wrap):
        gradient = jax.jit(jax.grad(lambda ws, x: loss(ws, x, wrap(chain))))
        return compiled_memory(gradient.lower(ws, big).compile()).temporary_bytes

    plain = temporaries(lambda f: f)
    assert temporaries(lambda f: cg.checkpoint(f, budget=plain // 3)) <= 0.4 * plain
    assert temporaries(jax.checkpoint) > 0.9 * plain


def test_what_is_closed_over_is_differentiated():
    def f(scale):
        planned = cg.checkpoint(lambda x: jnp.sin(x * scale).sum(), policy="recompute_all")
        return planned(X)

    assert_same(jax.grad(f)(TWO), jax.grad(lambda s: jnp.sin(X * s).sum())(TWO), scale=16)


def test_keys_integers_and_structures():
    @cg.checkpoint
    def f(params, key, count, *, scale):
        mask = jax.random.bernoulli(key, 0.5, X.shape)
        y = jnp.where(mask, X @ params["w"], 0.0) * scale + count
        return {"y": y, "count": count, "tokens": jnp.arange(3)}

    def total(params, key, count, scale):
        return f(params, key, count, scale=scale)["y"].sum()

    args = ({"w": WS[1]}, jax.random.key(3), jnp.int32(2), 0.5)
    found = jax.grad(total, argnums=(0, 3))(*args)
    mask = jax.random.bernoulli(args[1], 0.5, X.shape)
    wanted = jax.grad(lambda p, s: (jnp.where(mask, X @ p["w"], 0.0) * s).sum(), argnums=(0, 1))(args[0], 0.5)
    assert_same(found, wanted, scale=8)
    assert f(*args[:3], scale=0.5)["count"] == 2


def test_twice_and_in_a_batch_and_in_a_scan():
    planned = cg.checkpoint(lambda x: jnp.sin(jnp.tanh(x) * x), policy="recompute_all")
    plain = lambda x: jnp.sin(jnp.tanh(x) * x)
    xs = jnp.linspace(0.1, 1, 5)
    for wrap, x in (
        (lambda f: jax.grad(jax.grad(f)), TWO),
        (lambda f: jax.vmap(jax.grad(f)), xs),
        (lambda f: jax.grad(lambda x: jax.lax.scan(lambda c, _: (f(c), None), x, None, 4)[0].sum()), xs),
        (lambda f: cg.grad(lambda x: f(x).sum()), xs),
    ):
        assert_same(wrap(planned)(x), wrap(plain)(x), scale=16)


def test_a_budget_below_the_least_is_refused_when_differentiated():
    planned = cg.checkpoint(chain, budget=10)
    assert planned(WS, X).shape == X.shape
    with pytest.raises(cg.BudgetError):
        jax.grad(lambda ws: loss(ws, X, planned))(WS)
    with pytest.raises(cg.BudgetFormatError):
        cg.checkpoint(chain, budget="much")


def test_flax_and_optax():
    nnx, optax = pytest.importorskip("flax.nnx"), pytest.importorskip("optax")

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.layers = nnx.List([nnx.Linear(16, 16, rngs=rngs) for _ in range(4)])

        def __call__(self, x):
            for layer in self.layers:
                x = x + jnp.tanh(layer(x))
            return x

    graph, params = nnx.split(Model(nnx.Rngs(0)))
    run = cg.checkpoint(lambda p, x: nnx.merge(graph, p)(x), policy="revolve")
    optimizer = optax.adam(1e-2)

    def train(run):
        state, p = optimizer.init(params), params
        for _ in range(3):
            g = jax.grad(lambda p: (run(p, X) ** 2).mean())(p)
            updates, state = optimizer.update(g, state, p)
            p = optax.apply_updates(p, updates)
        return jax.tree.leaves(p)

    for found, wanted in zip(train(run), train(lambda p, x: nnx.merge(graph, p)(x)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def test_equinox():
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.MLP(16, 16, 32, 4, key=jax.random.key(0))
    arrays, static = eqx.partition(model, eqx.is_array)
    plain = lambda a, x: jax.vmap(eqx.combine(a, static))(x)
    planned = cg.checkpoint(plain, policy="recompute_all")
    wanted = jax.grad(lambda a: (plain(a, X) ** 2).mean())(arrays)
    assert_same(jax.grad(lambda a: (planned(a, X) ** 2).mean())(arrays), wanted, scale=8)
