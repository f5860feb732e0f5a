"""`jacrev`, `jacfwd`, `jacobian`, `hessian`: JAX's results and structures, and the counts of multiplications."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.jacobian.segments import MOST_STAGES
from tests.support.compare import assert_same, quick

W = jax.random.normal(jax.random.key(0), (6, 2))
D = {"a": jax.random.normal(jax.random.key(1), (3, 6)), "b": jnp.arange(2.0)}
Y = jnp.arange(4.0) + 1


def tree(d, y):
    h = jnp.tanh(d["a"] @ W)
    s = jnp.sin(h.sum()) * y
    return {"outer": jnp.outer(s, d["b"]), "columns": ((W @ h.T).sum(0), y, jnp.ones(2))}


WAYS = {
    "reverse": cg.jacrev,
    "forward": cg.jacfwd,
    "auto": cg.jacobian,
    "all forward": lambda f, n: cg.jacobian(f, n, mode="forward"),
    "all reverse": lambda f, n: cg.jacobian(f, n, mode="reverse"),
    "reverse within a budget": lambda f, n: cg.jacrev(f, n, budget="min"),
}


@pytest.mark.parametrize("argnums", [0, 1, (0, 1), (1,), -1])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_as_jax(way, argnums):
    assert_same(quick(way(tree, argnums))(D, Y), jax.jacrev(tree, argnums)(D, Y), scale=8)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_scalars_and_empty_arrays(way):
    for fun, x in [(jnp.sin, 2.0), (jnp.cumsum, jnp.zeros(0)), (lambda x: x[:0], Y), (lambda x: 3.0, Y)]:
        ours, theirs = way(fun, 0)(x), jax.jacrev(fun)(x)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)


def test_hessian_as_jax():
    def loss(d, y):
        return (tree(d, y)["outer"] ** 2).sum()

    found = quick(cg.hessian(loss, (0, 1)))(D, Y)
    assert_same(found, quick(jax.hessian(loss, (0, 1)))(D, Y), scale=20)


def test_has_aux_and_holomorphic():
    z = jnp.array([0.3 + 0.2j, -1 + 1j])
    for ours, theirs in ((cg.jacrev, jax.jacrev), (cg.jacfwd, jax.jacfwd)):
        assert_same(ours(jnp.exp, holomorphic=True)(z), theirs(jnp.exp, holomorphic=True)(z))
        found, aux = ours(lambda x: (jnp.sin(x), {"n": x.sum()}), has_aux=True)(Y)
        assert_same((found, aux), theirs(lambda x: (jnp.sin(x), {"n": x.sum()}), has_aux=True)(Y))


def test_integers_are_refused_or_zero():
    with pytest.raises(cg.GradientTypeError, match="int32"):
        cg.jacfwd(lambda i: i * 1.0)(jnp.arange(3))
    found = cg.jacrev(lambda i, x: i * x, (0, 1), allow_int=True)(jnp.arange(4), Y)
    wanted = jax.jacrev(lambda i, x: i * x, (0, 1), allow_int=True)(jnp.arange(4), Y)
    assert_same(found, wanted)
    with pytest.raises(cg.GradientTypeError, match="complex"):
        cg.jacrev(lambda x: x * 1j)(Y)


def hourglass(width, waist, depth):
    v = jax.random.normal(jax.random.key(2), (width, waist)) / 10

    def fun(x):
        for _ in range(depth):
            x = jnp.sin(v @ jnp.tanh(v.T @ x))
        return x

    return fun, jnp.ones(width)


def test_narrow_waists_are_multiplied_over():
    fun, x = hourglass(100, 3, 4)
    plan = cg.jacobian(fun).plan(x)
    assert plan.multiplications * 5 < min(plan.forward, plan.reverse)
    assert f"{plan.multiplications:,}" in str(plan)
    assert_same(cg.jacobian(fun)(x), jax.jacrev(fun)(x), scale=8)


def test_compiled_flops_follow_the_plan():
    """XLA counts the same ratio within a factor: the products are really not done."""
    fun, x = hourglass(100, 3, 4)
    ours, theirs = (jax.jit(j(fun)).lower(x).compile().cost_analysis()["flops"] for j in (cg.jacobian, jax.jacrev))
    assert ours * 3 < theirs


def test_a_long_chain_keeps_few_stages():
    def fun(x):
        for _ in range(300):
            x = jnp.sin(x) * 1.01
        return x

    plan = cg.jacobian(fun).plan(Y)
    assert 2 <= len(plan.sizes) - 1 <= MOST_STAGES
    assert_same(cg.jacobian(fun)(Y), jax.jacrev(fun)(Y), scale=20)


def test_an_unknown_mode_is_refused_at_once():
    with pytest.raises(cg.OptionError, match="sideways"):
        cg.jacobian(jnp.sin, mode="sideways")


def with_backward(backward):
    @jax.custom_vjp
    def identity(h):
        return h

    identity.defvjp(lambda h: (h, None), lambda _, g: (backward(g),))
    return identity


@pytest.mark.parametrize("backward", [lambda g: g / (1 + jnp.linalg.norm(g)), lambda g: 2 * g], ids=["scaled", "linear"])
@pytest.mark.parametrize("in_loop", [False, True])
def test_a_rule_for_cotangents_gets_those_of_the_outputs(backward, in_loop):
    """In a function that is narrow in the middle, where a product of Jacobians would be the cheapest."""
    rule = with_backward(backward)
    wide = jnp.cos(jnp.arange(60.0)).reshape(30, 2)

    def narrow(x):
        h = jnp.sin(x)
        h = jax.lax.scan(lambda h, _: (rule(h), None), h, None, length=2)[0] if in_loop else rule(h)
        return jnp.sin(wide @ (wide.T @ h))

    x = jnp.linspace(-1, 1, 30)
    expected = jax.jacrev(narrow)(x)
    assert_same(cg.jacobian(narrow)(x), expected, scale=20)
    assert_same(cg.jacobian(narrow, mode="reverse")(x), expected, scale=20)
    assert str(cg.jacobian(narrow).plan(x).bracket) == "(I < J0)"
    with pytest.raises(cg.errors.ForwardModeError):
        cg.jacobian(narrow, mode="forward")(x)
