"""Recomputation is not merged with the first computation, and settled values are only settled."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.meters.xla import compiled_memory
from ckptgrad.runtime.apart import hold_apart, settle, token_of
from tests.compare import assert_same

DEPTH = 10
X = jnp.linspace(-1, 1, 512 * 32).reshape(512, 32)
WS = [jnp.linspace(-0.5, 0.5, 32 * 32).reshape(32, 32) / (k + 1) for k in range(DEPTH)]
ODD = jnp.array([[jnp.nan, jnp.inf, -jnp.inf], [0.0, -0.0, 1e-38]])


def loss(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return (x**2).mean()


def elementwise(ws, x):
    for w in ws:
        x = jnp.sin(jnp.exp(x * w[0])) + jnp.cos(x)
    return x.sum()


def compiled(fun, *args):
    return jax.jit(fun).lower(*args).compile()


def test_recomputation_survives_the_compiler():
    """Less memory and more arithmetic: both vanish if XLA merges the recomputation away."""
    stored = compiled(cg.grad(loss, policy="store_all"), WS, X)
    again = compiled(cg.grad(loss, policy="recompute_all"), WS, X)
    assert compiled_memory(again).temporary_bytes < 0.7 * compiled_memory(stored).temporary_bytes
    assert again.cost_analysis()["transcendentals"] > 1.5 * stored.cost_analysis()["transcendentals"]


@pytest.mark.parametrize("fun", [loss, elementwise])
def test_fewer_boundaries_take_less_memory(fun):
    stored, fewer = (compiled_memory(compiled(cg.grad(fun, policy=p), WS, X)) for p in ("store_all", "sqrt"))
    assert fewer.temporary_bytes < 0.8 * stored.temporary_bytes


def test_each_recomputed_product_is_in_the_compiled_program():
    def products(policy):
        text = compiled(cg.grad(loss, policy=policy), WS, X).as_text()
        return sum(line.count(" dot(") for line in text.splitlines()) + text.count("__onednn$matmul")

    stored = products("store_all")
    assert stored >= 3 * DEPTH - 1
    assert products("recompute_all") >= stored + DEPTH - 2


def test_recomputation_of_a_value_seen_apart_is_kept_and_one_that_is_not_is_merged():
    """What `hold_apart` is for, on one product."""

    def twice(apart):
        def run(x, w):
            first = jnp.tanh(x @ w)
            seen = hold_apart([x], first[0, 0])[0] if apart else x
            return first, jnp.tanh(seen @ w)

        return compiled(run, X, WS[0]).cost_analysis()["transcendentals"]

    assert (twice(False), twice(True)) == (X.size, 2 * X.size)


COTANGENTS = {
    "float": (jnp.ones((2, 3)), True),
    "bfloat16": (jnp.ones((2, 3), jnp.bfloat16), True),
    "complex": (jnp.ones((2, 3)) * 1j, True),
    "scalar": (jnp.float32(2.0), True),
    "nan": (jnp.full(3, jnp.nan), True),
    "none": (None, False),
    "empty": (jnp.zeros((0, 3)), False),
    "integers": (jnp.arange(3), False),
    "float0": (np.zeros(3, jax.dtypes.float0), False),
}


@pytest.mark.parametrize(("cotangent", "usable"), COTANGENTS.values(), ids=COTANGENTS)
def test_a_token_is_a_real_scalar_of_the_first_usable_cotangent(cotangent, usable):
    token = token_of([cotangent])
    assert (token is not None) is usable
    assert token is None or (token.shape == () and jnp.issubdtype(token.dtype, jnp.floating))
    assert token_of([cotangent, jnp.ones(2)]) is not None
    assert token_of([]) is None


VALUES = {
    "float": X, "nan and infinity": ODD, "integers": jnp.arange(6), "booleans": jnp.arange(4) > 1,
    "bfloat16": X.astype(jnp.bfloat16), "complex": ODD * 1j, "scalar": jnp.float32(3), "empty": jnp.zeros((0, 2)),
    "uint8": jnp.arange(3, dtype=jnp.uint8),
}  # fmt: skip


@pytest.mark.parametrize("token", [0.0, -1e30, np.inf, -np.inf, np.nan, None])
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_values_seen_apart_are_the_same_whatever_the_token(value, token):
    """Also after a cotangent that is nan or infinite."""
    token = None if token is None else jnp.float32(token)
    for run in (lambda v, t: hold_apart([v], t)[0], lambda v, t: settle(lambda vs: [vs[0]], [v], t)[0]):
        assert_same(run(value, token), value, bits=True)
        assert_same(jax.jit(run)(value, token), value, bits=True)


def test_keys_are_held_apart_too():
    for key in (jax.random.key(3), jax.random.split(jax.random.key(4, impl="rbg"))):
        (seen,) = hold_apart([key], token_of([jnp.ones(3)]))
        assert seen.dtype == key.dtype
        assert (jax.random.key_data(seen) == jax.random.key_data(key)).all()


def settled(x, y):
    return settle(lambda values: [values[0] * values[1] + 1.0, values[0] - 2.0], [x, y], token_of([y]))


def plainly(x, y):
    return [x * y + 1.0, x - 2.0]


AROUND = {
    "plain": lambda f: f,
    "jit": jax.jit,
    "vmap": lambda f: jax.vmap(f),
    "vmap of one": lambda f: lambda x, y: jax.vmap(f, (0, None))(x, y[0]),
    "jit of vmap": lambda f: jax.jit(jax.vmap(f)),
    "reverse": lambda f: jax.grad(lambda x, y: sum((z**2).sum() for z in f(x, y)), (0, 1)),
    "forward": lambda f: lambda x, y: jax.jvp(f, (x, y), (y, x)),
    "reverse of reverse": lambda f: jax.grad(lambda x, y: jax.grad(lambda u: (f(u, y)[0] ** 3).sum())(x).sum(), (0, 1)),
    "reverse of vmap": lambda f: jax.grad(lambda x, y: (jax.vmap(f)(x, y)[0] ** 2).sum()),
    "ours": lambda f: cg.grad(lambda x, y: sum((z**2).sum() for z in f(x, y)), (0, 1), budget="min"),
    "scan": lambda f: lambda x, y: jax.lax.scan(lambda c, _: (f(c, y)[0], c), x, None, length=3),
}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
def test_settled_values_under_transformations(around):
    x, y = X[:4], jnp.cos(X[:4])
    assert_same(around(settled)(x, y), around(plainly)(x, y), scale=4)


def test_settled_values_are_not_computed_again_inside_a_later_reader():
    """Along a chain of sums a fusing compiler keeps every term alive, unless each sum is settled."""

    def chain(settles):
        def run(x, ws):
            total = x
            for w in ws:
                term = total @ w
                done = settle(lambda v: [v[0] + v[1]], [total, term], token_of([term])) if settles else [total + term]
                (total,) = done
            return total

        return compiled_memory(compiled(run, X, WS)).temporary_bytes

    assert chain(True) <= 3 * X.nbytes + 1024 * DEPTH
