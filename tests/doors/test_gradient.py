"""`value_and_grad` and `grad` are called like JAX's and return what JAX's return, in value and in type."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from tests.support.compare import assert_same

A = jnp.array([0.5, -1.0, 2.0])
M = jnp.arange(9.0).reshape(3, 3) / 10 - 0.4


class Pair(NamedTuple):
    left: Any
    right: Any


def chain(x, *ws):
    """Six stages, so that a tight budget has something to recompute."""
    for k in range(6):
        w = ws[k % len(ws)] if ws else M
        x = x + jnp.tanh(w @ x)
    return x


def with_aux(x, y):
    h = chain(x, M * y)
    return h.sum(), {"h": h, "n": 3, "flag": h > 0, "y": y}


@dataclass(frozen=True)
class Call:
    """A row: a function, its arguments, the options of `value_and_grad`."""

    fun: Any
    args: tuple
    options: dict = field(default_factory=dict)
    kwargs: dict = field(default_factory=dict)


KEY = jax.random.key(3)
ALL = {"allow_int": True}

CALLS = {
    "argnums 0": Call(lambda x, w: chain(x, w).sum(), (A, M)),
    "argnums 1": Call(lambda x, w: chain(x, w).sum(), (A, M), {"argnums": 1}),
    "argnums -1": Call(lambda x, w: chain(x, w).sum(), (A, M), {"argnums": -1}),
    "argnums (0,)": Call(lambda x, w: chain(x, w).sum(), (A, M), {"argnums": (0,)}),
    "argnums (1, 0)": Call(lambda x, w: chain(x, w).sum(), (A, M), {"argnums": (1, 0)}),
    "argnums list": Call(lambda x, w: chain(x, w).sum(), (A, M), {"argnums": [0, 1]}),
    "argnums numpy": Call(lambda x, w: chain(x, w).sum(), (A, M), {"argnums": np.int64(1)}),
    "kwargs": Call(lambda x, *, scale, w: (chain(x, w) * scale).sum(), (A,), {}, {"scale": 2.0, "w": M}),
    "has_aux": Call(with_aux, (A, 0.7), {"has_aux": True}),
    "has_aux, argnums tuple": Call(with_aux, (A, 0.7), {"has_aux": True, "argnums": (0, 1)}),
    "aux None": Call(lambda x: (chain(x).sum(), None), (A,), {"has_aux": True}),
    "aux is the value": Call(lambda x: (lambda v: (v, v))(chain(x).sum()), (A,), {"has_aux": True}),
    "aux is an argument": Call(lambda x, y: (chain(x).sum(), (x, y)), (A, 3), {"has_aux": True}),
    "dict": Call(lambda d: chain(d["x"], d["w"]).sum(), ({"x": A, "w": M},)),
    "list, tuple, None": Call(lambda t: chain(t[0], t[2][0]).sum(), ([A, None, (M,)],)),
    "namedtuple": Call(lambda p: chain(p.left, p.right).sum(), (Pair(A, M),)),
    "empty pytree": Call(lambda x, e: chain(x).sum(), (A, {}), {"argnums": (0, 1)}),
    "unused leaf": Call(lambda d: chain(d["x"]).sum(), ({"x": A, "unused": M},)),
    "the same array twice": Call(lambda x, y: chain(x).sum() * y.sum(), (A, A), {"argnums": (0, 1)}),
    "shared in a pytree": Call(lambda ws: chain(A, *ws).sum(), ([M, M, M],)),
    "one array in two arguments": Call(lambda x, d: (chain(x) * d["y"]).sum(), (A, {"y": A}), {"argnums": 1}),
    "Python float": Call(lambda x: jnp.sin(x) * x, (2.0,)),
    "numpy": Call(lambda x, w: chain(x, w).sum(), (np.asarray(A), np.asarray(M)), {"argnums": (0, 1)}),
    "numpy scalar": Call(lambda x: jnp.sin(x) * x, (np.float32(2.0),)),
    "weak array": Call(lambda x: jnp.sin(x) * x, (jnp.asarray(2.0),)),
    "scalar in, chain": Call(lambda s: chain(A * s).sum(), (1.5,)),
    "zero size": Call(lambda x, e: chain(x).sum() + e.sum(), (A, jnp.zeros((0, 3))), {"argnums": (0, 1)}),
    "only zero size": Call(lambda e: (e * 2).sum(), (jnp.zeros((2, 0)),)),
    "bfloat16": Call(lambda x, w: chain(x, w).sum(), (A.astype(jnp.bfloat16), M.astype(jnp.bfloat16)), {"argnums": 1}),
    "mixed precision": Call(lambda x, w: chain(x, w.astype(jnp.float32)).sum(), (A, M.astype(jnp.float16)), {"argnums": (0, 1)}),  # noqa: E501
    "integers": Call(lambda x, i: chain(x)[i].sum(), (A, jnp.array([0, 2])), {"argnums": (0, 1), **ALL}),
    "Python int": Call(lambda x, n: chain(x).sum() * n, (A, 3), {"argnums": (1, 0), **ALL}),
    "booleans": Call(lambda d: jnp.where(d["m"], chain(d["x"]), 0).sum(), ({"m": A > 0, "x": A},), ALL),
    "key": Call(
        lambda x, k: (chain(x) * jax.random.normal(k, (3,))).sum(), (A, KEY), {"argnums": (0, 1), **ALL}
    ),
    "keys in a pytree": Call(
        lambda d: (chain(d["x"]) * jax.random.bernoulli(d["k"][0], 0.5, (3,))).sum(),
        ({"x": A, "k": jax.random.split(KEY)},), ALL,
    ),
    "old-style key": Call(
        lambda x, k: (chain(x) * jax.random.normal(k, (3,))).sum(), (A, jax.random.PRNGKey(0)), {"argnums": (0, 1), **ALL}
    ),
    "constant loss": Call(lambda x: 3.0, (A,)),
    "constant array loss": Call(lambda x: jnp.float32(3.0), (A,)),
    "loss is an argument": Call(lambda x, y: y, (A, jnp.float32(2)), {"argnums": (0, 1)}),
    "identity": Call(lambda x: x, (jnp.float32(2.0),)),
    "holomorphic": Call(lambda z: jnp.sum(jnp.sin(z) * z), (A + 1j * A[::-1],), {"holomorphic": True}),
    "complex inside": Call(lambda x: jnp.abs(jnp.fft.fft(chain(x))).sum(), (A,)),
    "long aux, random": Call(
        lambda x, k: ((chain(x) * jax.random.uniform(k)).sum(), jax.random.split(k)), (A, KEY), {"has_aux": True}
    ),
}  # fmt: skip

BUDGETS = pytest.mark.parametrize("budget", [None, "min"])


@BUDGETS
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_value_and_grad(call, budget):
    found = cg.value_and_grad(call.fun, **call.options, budget=budget)(*call.args, **call.kwargs)
    wanted = jax.value_and_grad(call.fun, **call.options)(*call.args, **call.kwargs)
    assert_same(comparable(found), comparable(wanted), scale=4)


@pytest.mark.parametrize("name", ["argnums (1, 0)", "has_aux", "keys in a pytree", "argnums 0", "aux None"])
def test_grad(name):
    call = CALLS[name]
    found = cg.grad(call.fun, **call.options)(*call.args, **call.kwargs)
    assert_same(comparable(found), comparable(jax.grad(call.fun, **call.options)(*call.args, **call.kwargs)))


def comparable(tree):
    """Leaves as arrays: aux may hold Python numbers, which both engines may return as arrays; keys as data."""

    def leaf(x):
        if isinstance(x, (int, float)):
            return jnp.asarray(x)
        return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x

    return jax.tree.map(leaf, tree)


def loss(x, w, mask=None):
    return (chain(x, w) ** 2).sum()


@BUDGETS
@pytest.mark.usefixtures("x64")
def test_double_precision(budget):
    x, w = (jnp.asarray(np.asarray(a), jnp.float64) for a in (A, M))
    found = cg.value_and_grad(loss, (0, 1), budget=budget)(x, w)
    assert found[1][1].dtype == jnp.float64
    assert_same(found, jax.value_and_grad(loss, (0, 1))(x, w), scale=4)


AROUND = {
    "jit": lambda g: jax.jit(g),
    "jit of jit": lambda g: jax.jit(jax.jit(g)),
    "vmap of one": lambda g: lambda x, w: jax.vmap(g, (0, None))(jnp.stack([x, x * 2]), w),
    "vmap of all": lambda g: lambda x, w: jax.vmap(g)(jnp.stack([x, x * 2]), jnp.stack([w, w.T])),
    "jit of vmap": lambda g: jax.jit(lambda x, w: jax.vmap(g, (0, None))(jnp.stack([x, x * 2]), w)),
    "scan": lambda g: lambda x, w: jax.lax.scan(lambda c, _: (c - 0.1 * g(x, c)[1], None), w, None, length=3)[0],
    "reverse": lambda g: jax.grad(lambda x, w: (g(x, w)[1] ** 2).sum()),
    "ours": lambda g: cg.grad(lambda x, w: (g(x, w)[1] ** 2).sum()),
    "forward": lambda g: lambda x, w: jax.jvp(lambda v: g(v, w)[1], (x,), (jnp.ones_like(x),)),
    "remat": lambda g: jax.checkpoint(g),
    "eval_shape": lambda g: lambda x, w: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(g, x, w)),
}


@BUDGETS
@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
def test_transformations_around(around, budget):
    found = around(cg.value_and_grad(loss, 1, budget=budget))(A, M)
    assert_same(found, around(jax.value_and_grad(loss, 1))(A, M), scale=20)


def test_the_function_keeps_its_name_and_is_called_with_what_it_is_given():
    def documented(x, extra=None):
        """Text."""
        assert isinstance(extra, (dict, type(None)))
        return x * 2.0

    door = cg.grad(documented)
    assert (door.__name__, door.__doc__) == ("documented", "Text.")
    assert door(1.0) == 2.0
    assert door(1.0, extra={"a": 1.0}) == 2.0


def test_functions_that_are_no_functions():
    class Model:
        def __call__(self, x):
            return x**2

        def method(self, x):
            return x**3

    assert cg.grad(Model())(3.0) == 6.0
    assert cg.grad(Model().method)(2.0) == 12.0


def test_a_changed_global_is_seen():
    scale = [2.0]
    door = cg.grad(lambda x: x * scale[0])
    assert door(1.0) == 2.0
    scale[0] = 5.0
    assert door(1.0) == 5.0


def test_compile_accepts_shapes_and_returns_the_same():
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (A, M)]
    compiled = cg.value_and_grad(loss, (0, 1), budget="min").compile(*shapes)
    assert_same(compiled(A, M), jax.value_and_grad(loss, (0, 1))(A, M), scale=4)
    assert compiled.peak_bytes >= compiled.temporary_bytes >= 0
    assert compiled.rounds >= 1


def test_donated_arguments():
    def step(w, x):
        return w - 0.1 * cg.grad(loss, 1, budget="min")(x, w)

    found = jax.jit(step, donate_argnums=0)(M + 0, A)
    assert_same(found, M - 0.1 * jax.grad(loss, 1)(A, M), scale=4)
