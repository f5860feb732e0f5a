"""`jvp`, `linearize`, `hvp`: JAX's results, structures and refusals."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import ckptgrad as cg
from tests.cases.structures import FUNCTIONS, X, Y, chain, cotangent
from tests.support.compare import assert_same, quick


def arrays(tree):
    return jax.tree.map(jnp.asarray, tree)


@pytest.mark.parametrize(("fun", "args"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_jvp_and_linearize(fun, args):
    tangents = cotangent(args, seed=1)
    wanted = jax.jvp(fun, args, tangents)
    assert_same(arrays(cg.jvp(fun, args, tangents)), arrays(wanted), scale=4)
    value, along = cg.linearize(fun, *args)
    assert_same(arrays((value, along(*tangents))), arrays(wanted), scale=4)
    twice = jax.tree.map(lambda t: t if t.dtype == jax.dtypes.float0 else 2 * t, tangents)
    assert_same(arrays(along(*twice)), arrays(jax.jvp(fun, args, twice)[1]), scale=4)


def loops(x, y):
    x, ys = lax.scan(lambda c, a: (jnp.sin(c) * y[0], c * a), x, jnp.arange(3.0))
    x = lax.cond(x[0] > 0, lambda a, b: a * b, lambda a, b: jnp.cos(a), x, y[0])
    x = lax.fori_loop(0, 4, lambda i, a: a + jnp.tanh(a) / (1 + i), x)
    i, x = lax.while_loop(lambda s: (s[0] < 5) & (s[1].sum() < 50), lambda s: (s[0] + 1, s[1] * 1.3 + y[0]), (0, x))
    return x * i, ys


def test_forward_mode_through_control_flow():
    tangents = cotangent((X, Y), seed=2)
    wanted = jax.jvp(loops, (X, Y), tangents)
    assert_same(quick(lambda *t: cg.jvp(loops, (X, Y), t))(*tangents), wanted, scale=4)
    assert_same(cg.linearize(loops, X, Y)[1](*tangents), wanted[1], scale=4)


@pytest.mark.parametrize("budget", [None, "min"])
def test_hvp_is_forward_over_reverse(budget):
    def loss(x, y):
        return (chain(x) * y).sum() + jnp.cumprod(x).sum()

    tangents = cotangent((X, Y), seed=3)
    found = quick(lambda t: cg.hvp(loss, (X, Y), t, (0, 1), budget=budget))(tangents)
    assert_same(found, jax.jvp(jax.grad(loss, (0, 1)), (X, Y), tangents)[1], scale=8)


def test_forward_over_forward_and_reverse_over_forward():
    def along(x, t, jvp):
        return jvp(chain, (x,), (t,))[1].sum()

    t = jnp.ones_like(X)
    found = cg.jvp(lambda x: along(x, t, cg.jvp), (X,), (t,)), cg.grad(lambda x: along(x, t, cg.jvp))(X)
    wanted = jax.jvp(lambda x: along(x, t, jax.jvp), (X,), (t,)), jax.grad(lambda x: along(x, t, jax.jvp))(X)
    assert_same(found, wanted, scale=8)


def test_jvp_inside_vmap_and_jax_differentiation():
    def along(x, t):
        return cg.jvp(chain, (x,), (t,))[1]

    xs = jnp.stack([X, X + 1])
    assert_same(jax.vmap(along)(xs, xs), jnp.stack([along(x, x) for x in xs]), scale=4)
    reference = jax.grad(lambda x: jax.jvp(chain, (x,), (X,))[1].sum())(X)
    assert_same(jax.grad(lambda x: along(x, X).sum())(X), reference, scale=8)


def test_has_aux():
    def fun(x):
        return jnp.sin(x), {"count": 3, "x": x}

    out, tangent, aux = cg.jvp(fun, (X,), (X,), has_aux=True)
    assert_same((out, tangent), jax.jvp(jnp.sin, (X,), (X,)))
    value, along, aux2 = cg.linearize(fun, X, has_aux=True)
    assert_same((value, along(X)), (out, tangent))
    assert aux["count"] == aux2["count"] == 3


@pytest.mark.parametrize(
    ("primals", "tangents", "match"),
    [
        ((X,), (X, X), "structure"),
        ((X,), (X[:2],), r"float32\[2\].*float32\[3\]"),
        ((X,), (X.astype(jnp.bfloat16),), "bfloat16"),
        (X, (X,), "tuples or lists"),
        ((X,), X, "tuples or lists"),
        ((jnp.arange(3),), (jnp.arange(3),), "float0"),
        (("text",), ("text",), "text"),
    ],
)
def test_what_does_not_fit_is_refused(primals, tangents, match):
    with pytest.raises(cg.GradientTypeError, match=match):
        cg.jvp(lambda x: x, primals, tangents)


def test_custom_vjp_has_no_forward_mode_as_in_jax():
    @jax.custom_vjp
    def fun(x):
        return jnp.sin(x)

    fun.defvjp(lambda x: (jnp.sin(x), x), lambda x, ct: (jnp.clip(ct, -1, 1) * jnp.cos(x),))
    with pytest.raises(cg.NoDerivativeError, match=r"custom_vjp.*test_forward\.py"):
        cg.jvp(lambda x: fun(x) * 2, (X,), (X,))
    # Forward over reverse goes through the rule's own operations.
    assert_same(cg.hvp(lambda x: fun(x).sum(), (X,), (X,)), -jnp.sin(X) * X, scale=4)


def test_python_scalars_keep_their_weak_type():
    assert_same(arrays(cg.jvp(jnp.sin, (1.0,), (2.0,))), arrays(jax.jvp(jnp.sin, (1.0,), (2.0,))))
    assert np.shape(cg.jvp(lambda x: 3.0, (1.0,), (2.0,))[1]) == ()
