"""Where JAX has a convention, ours is the same: ties, kinks, poles, infinities, empty arrays, complex numbers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import ckptgrad as cg
from tests.support.compare import quick

INF, NAN = jnp.inf, jnp.nan
ZERO, MIXED = jnp.zeros(3), jnp.array([-INF, -1.0, -0.0, 0.0, 1.0, INF, NAN])
TIES = jnp.array([[1.0, 2, 2], [2, 2, 0]])
Z = jnp.array([0.0, 1 - 2j, -3.0 + 0j, 2j])


def safe_norm(x):
    square = (x * x).sum()
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)


CORNERS = {
    "abs at 0": (jnp.abs, MIXED),
    "sign": (lambda x: jnp.sign(x) * x, MIXED),
    "sqrt at 0": (jnp.sqrt, MIXED),
    "cbrt at 0": (jnp.cbrt, MIXED),
    "norm at 0": (jnp.linalg.norm, ZERO),
    "norm at 0 through where": (safe_norm, ZERO),
    "where hides a nan badly": (lambda x: jnp.where(x > 0, jnp.log(x), 0.0), ZERO - 1),
    "maximum of equals": (lambda x: jnp.maximum(x, x * 1), MIXED),
    "maximum with 0": (lambda x: jnp.maximum(x, 0), MIXED),
    "relu at 0": (jax.nn.relu, MIXED),
    "relu6 at its bounds": (jax.nn.relu6, jnp.array([0.0, 6.0, 3.0])),
    "clip at its bounds": (lambda x: jnp.clip(x, -1, 1), MIXED),
    "max of ties": (lambda x: x.max(1), TIES),
    "min of ties": (lambda x: x.min(), TIES),
    "sort of ties": (lambda x: jnp.sort(x, 1) * jnp.arange(3.0), TIES),
    "top_k of ties": (lambda x: lax.top_k(x, 2)[0] * jnp.array([1.0, 3]), TIES),
    "median of ties": (jnp.median, TIES),
    "quantile": (lambda x: jnp.quantile(x, 0.3), TIES),
    "cummax of ties": (lambda x: lax.cummax(x, 1), TIES),
    "segment_max of ties": (lambda x: jax.ops.segment_max(x.ravel(), jnp.array([0, 1, 1, 1, 0, 0]), 2), TIES),
    "at max of ties": (lambda x: x.at[0].max(x[1]), TIES),
    "pow 0 to 0": (lambda x: x**0.0, ZERO),
    "pow 0 to the variable": (lambda x: 0.0**x, jnp.array([0.0, 1.0, 2.0])),
    "pow integer": (lambda x: x**3 + x**0 + x**1, MIXED),
    "pow negative": (lambda x: x**-2, MIXED),
    "pow of negative base": (lambda x: jnp.power(x, 2.0), MIXED),
    "pow of half": (lambda x: jnp.power(x, 0.5), MIXED),
    "square root of square": (lambda x: jnp.sqrt(x * x), MIXED),
    "reciprocal": (lambda x: 1 / x, MIXED),
    "log": (jnp.log, MIXED),
    "log1p at -1": (jnp.log1p, MIXED),
    "exp": (jnp.exp, MIXED),
    "tanh": (jnp.tanh, MIXED),
    "atan2 at 0": (lambda x: jnp.arctan2(x, x * 0), MIXED),
    "hypot at 0": (lambda x: jnp.hypot(x, x), ZERO),
    "asin at 1": (jnp.arcsin, MIXED),
    "logaddexp of -inf": (lambda x: jnp.logaddexp(x, -INF), MIXED),
    "logsumexp of -inf": (jax.nn.logsumexp, jnp.full(3, -INF)),
    "softmax of -inf": (jax.nn.softmax, jnp.array([-INF, 0.0, 1.0])),
    "log_softmax of inf": (jax.nn.log_softmax, jnp.array([INF, 0.0, 1.0])),
    "sinc at 0": (jnp.sinc, jnp.array([0.0, 1.0, -2.0])),
    "xlogy at 0": (lambda x: jax.scipy.special.xlogy(x, x), ZERO),
    "entr at 0": (jax.scipy.special.entr, jnp.array([0.0, 1.0, -1.0])),
    "std of equals": (jnp.std, jnp.ones(3)),
    "var of one": (lambda x: jnp.var(x, ddof=1), jnp.ones(1)),
    "prod with a zero": (jnp.prod, jnp.array([0.0, 2, 3])),
    "prod with two zeros": (jnp.prod, jnp.array([0.0, 0, 3])),
    "cumprod with a zero": (jnp.cumprod, jnp.array([2.0, 0, 3])),
    "remainder": (lambda x: jnp.mod(x, 1.5), MIXED),
    "fmod": (lambda x: jnp.fmod(x, 1.5), MIXED),
    "floor": (lambda x: jnp.floor(x) * x, MIXED),
    "nan_to_num": (jnp.nan_to_num, MIXED),
    "gelu far out": (jax.nn.gelu, jnp.array([-50.0, 50, 0])),
    "logistic far out": (jax.nn.sigmoid, jnp.array([-500.0, 500, 0])),
    "softplus far out": (jax.nn.softplus, jnp.array([-500.0, 500, 0])),
    "erf_inv at 1": (lax.erf_inv, jnp.array([-1.0, 0, 1.0])),
    "lgamma at poles": (lax.lgamma, jnp.array([0.0, -1.0, 2.0, INF])),
    "gather outside": (lambda x: x.at[jnp.array([0, 5])].get(mode="fill", fill_value=7.0), jnp.ones(3)),
    "scatter outside": (lambda x: x.at[jnp.array([0, 5])].set(x[:2] * 2, mode="drop"), jnp.ones(3)),
    "scatter to one place twice": (lambda x: x.at[jnp.array([1, 1])].add(x[:2] * 2), jnp.arange(3.0)),
    "dynamic_slice clamped": (lambda x: lax.dynamic_slice(x, (5,), (2,)), jnp.arange(3.0)),
    "empty": (lambda x: jnp.sin(x).sum() + x.prod(), jnp.zeros((0, 3))),
    "empty matrix product": (lambda x: x @ x.T, jnp.zeros((3, 0))),
    "empty concatenation": (lambda x: jnp.concatenate([x, x[:0]]), jnp.ones(3)),
    "complex abs at 0": (jnp.abs, Z),
    "complex angle": (jnp.angle, Z[1:]),
    "complex conjugate": (lambda z: jnp.conj(z) * z, Z),
    "complex square root": (jnp.sqrt, Z[1:]),
    "complex log": (jnp.log, Z[1:]),
    "complex power": (lambda z: z**1.5, Z[1:]),
    "complex sum of squares": (lambda z: (z * z.conj()).real.sum(), Z),
    "complex of real": (lambda x: jnp.exp(1j * x), jnp.array([0.0, 1.0])),
    "complex sort": (lambda z: jnp.sort(z), Z),
}  # fmt: skip


@pytest.mark.parametrize(("fun", "x"), CORNERS.values(), ids=CORNERS)
def test_the_value_is_that_of_jax(fun, x):
    """With cotangents of 1 and of 0: zero times an infinite slope is a nan in both."""
    out = jax.eval_shape(fun, x)

    @quick
    def all_four(x):
        cts = [jnp.full(out.shape, c, out.dtype) for c in (1, 0)]
        return [[vjp(fun, x)[1](ct)[0] for ct in cts] for vjp in (cg.vjp, jax.vjp)]

    ours, theirs = all_four(x)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6)


def test_integers_and_booleans_get_float0():
    def fun(i, b, x):
        return jnp.where(b, x * i, x)

    args = jnp.array([1, 2]), jnp.array([True, False]), jnp.array([3.0, 4])
    ours, theirs = (vjp(fun, *args)[1](jnp.ones(2)) for vjp in (cg.vjp, jax.vjp))
    assert [g.dtype for g in ours] == [g.dtype for g in theirs]
    assert [g.shape for g in ours] == [g.shape for g in theirs]


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: jnp.dot(x, x) * jnp.dot(2.0, x),
        lambda x: jnp.cumsum(x[None])[0],
        lambda x: jnp.max(x) * jnp.prod(x),
        lambda x: jax.lax.dynamic_update_slice(jnp.zeros(3), x[None], (1,)).sum(),
        lambda x: jnp.linalg.solve(x[None, None], x[None])[0] * x,
    ],
)
def test_python_numbers_are_arguments_in_both_modes(fun):
    """Rules see arrays, whatever the caller gave."""
    wanted = jax.grad(fun)(3.0)
    np.testing.assert_allclose(cg.grad(fun)(3.0), wanted, rtol=1e-5)
    np.testing.assert_allclose(cg.jvp(fun, (3.0,), (1.0,))[1], wanted, rtol=1e-5)
    np.testing.assert_allclose(cg.linearize(fun, 3.0)[1](1.0), wanted, rtol=1e-5)


def test_a_scatter_that_applies_a_function_is_refused_as_in_jax():
    with pytest.raises(cg.NoDerivativeError, match="scatter"):
        cg.grad(lambda x: x.at[1].apply(jnp.sin).sum())(jnp.ones(3))


@jax.custom_vjp
def second(y, x):
    return x + 0 * y


second.defvjp(lambda y, x: (second(y, x), None), lambda _, g: (None, g))


@jax.custom_jvp
def tripled(pair):
    return 2 * pair[0], 3 * pair[1]


tripled.defjvp(lambda p, t: (tripled(*p), (2 * t[0][0], 3 * t[0][1])))


def by_a_loop(pair):
    return lax.scan(lambda c, _: ((c[0] * 2, c[1] * 3), None), pair, None, length=2)[0][1]


def by_a_loop_that_shifts(triple):
    return lax.scan(lambda c, _: ((c[0], c[2], 3 * c[2]), None), triple, None, length=3)[0][1]


@pytest.mark.parametrize(
    ("of_both", "wanted"),
    [
        (lambda root, x: lax.optimization_barrier((root, x))[1], 1),
        (second, 1),
        (lambda root, x: tripled((root, x))[1], 3),
        (lambda root, x: by_a_loop((root, x)), 9),
        (lambda root, x: by_a_loop_that_shifts((root, x, x)), 9),
        (lambda root, x: lax.scan(lambda c, _: (3 * c, (c, jnp.sqrt(c))), x, None, length=2)[0], 9),
        (lambda root, x: lax.scan(lambda c, _: (3 * c, (c, jnp.sqrt(c))), x, None, length=2)[1][0].sum(), 4),
        (lambda root, x: lax.while_loop(lambda s: s[0] < 2, lambda s: (s[0] + 1, s[1], 3 * s[2]), (0, root, x))[2], 9),
        (lambda root, x: lax.cond(x < 1, lambda a, b: (a, 3 * b), lambda a, b: (a, b), root, x)[1], 3),
        (lambda root, x: by_a_loop((jnp.sin(by_a_loop((root, root))), by_a_loop((root, x)))), 81),
    ],
)
@pytest.mark.parametrize("policy", ["optimal", "store_all"])
def test_what_gets_no_cotangent_gets_no_zeros(of_both, wanted, policy):
    """The root has an infinite derivative at zero, which zeros would make nan."""
    assert cg.grad(lambda x: of_both(jnp.sqrt(x), x), policy=policy)(0.0) == wanted


def test_operations_of_other_platforms_are_not_compiled():
    def fun(x):
        return lax.platform_dependent(x, cpu=jnp.sin, default=jnp.tanh)

    for derivative in (cg.grad(fun), lambda x: cg.jvp(fun, (x,), (x,))[1], cg.grad(cg.grad(fun))):
        assert "tanh" not in jax.jit(derivative).lower(1.0).as_text()
    np.testing.assert_allclose(jax.jit(cg.grad(cg.grad(fun)))(1.0), -np.sin(1.0), rtol=1e-6)


@pytest.mark.parametrize(
    "fun",
    [
        lambda a: jnp.linalg.cholesky(a @ a.mT + jnp.eye(3)[None]).sum(),
        *(
            pytest.param(fun, marks=pytest.mark.slow)
            for fun in (
                lambda a: jnp.linalg.eigh(a + a.mT)[0].sum(),
                jnp.linalg.det,
                lambda a: jnp.linalg.svd(a)[1].sum(),
                lambda a: jnp.linalg.qr(a)[1].sum(),
            )
        ),
    ],
)
def test_rules_mix_ranks_and_dtypes_whatever_the_user_forbids_himself(fun):
    x = jnp.array([[[2.0, 0.3, 0.1], [0.5, 1.0, -0.4], [0.2, 0.7, 3.0]]])

    def loss(x):
        return fun(x).sum()

    wanted = cg.grad(loss)(x)
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        np.testing.assert_array_equal(cg.grad(loss)(x), wanted)
        cg.jvp(loss, (x,), (x,))
