"""Users' own rules: symbolic zeros, batching, transposes, refusals; both modes."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.custom_derivatives import SymbolicZero, linear_call
from jax.experimental import io_callback

import ckptgrad as cg
from tests.cases.nested import ALL
from tests.support.compare import assert_same, quick

X, Y = jnp.array([0.3, -1.2, 0.7]), jnp.array([1.1, 0.4, -0.2])

BY_CUSTOM_VJP = ("custom_vjp", "custom rules in a loop")


@pytest.mark.parametrize("fun", [f for n, f in ALL.items() if not n.startswith(BY_CUSTOM_VJP)])
def test_forward_mode_of_everything_nested(fun):
    x, t = jnp.array([-1.5, -0.2, 0.0, 0.7, 2.0]), jnp.linspace(0.5, 1, 5)
    ours, theirs = quick(lambda t: (cg.jvp(fun, (x,), (t,)), jax.jvp(fun, (x,), (t,))))(t)
    assert_same(ours, theirs, scale=20)


seen: list = []


@functools.partial(jax.custom_jvp)
def product(x, y):
    return x * y


@functools.partial(product.defjvp, symbolic_zeros=True)
def product_jvp(primals, tangents):
    seen.append([type(t) is SymbolicZero for t in tangents])
    (x, y), (tx, ty) = primals, tangents
    total = jnp.zeros_like(x)
    total = total if type(tx) is SymbolicZero else total + tx * y
    return x * y, total if type(ty) is SymbolicZero else total + 3 * ty * x


@pytest.mark.parametrize("argnums", [0, 1, (0, 1)])
def test_custom_jvp_sees_symbolic_zeros(argnums):
    def loss(x, y):
        return product(x, y).sum()

    wanted = jax.grad(loss, argnums)(X, Y)
    seen.clear()
    assert_same(cg.grad(loss, argnums)(X, Y), wanted)
    assert [k not in (argnums if isinstance(argnums, tuple) else (argnums,)) for k in (0, 1)] in seen


@jax.custom_vjp
def power(x, y):
    return x**2 * y


def power_fwd(x, y):
    return x.value**2 * y.value, (x.value, y.value, x.perturbed, y.perturbed)


def power_bwd(res, ct):
    x, y, wants_x, wants_y = res
    if isinstance(ct, SymbolicZero):
        return None, None
    return (2 * ct * x * y if wants_x else None), (7 * ct * x**2 if wants_y else None)


power.defvjp(power_fwd, power_bwd, symbolic_zeros=True)


@pytest.mark.parametrize("argnums", [0, 1, (0, 1)])
def test_custom_vjp_sees_symbolic_zeros(argnums):
    def loss(x, y):
        return power(x, y)

    with jax.disable_jit(False):
        wanted = jax.grad(loss, argnums)(2.0, 3.0)
        assert_same(cg.grad(loss, argnums)(2.0, 3.0), wanted)


def halved(x, y):
    """y / x with a transpose that is wrong on purpose, so that its use shows."""
    return linear_call(lambda r, v: v / r, lambda r, ct: 5 * ct / r, x, y)


def test_the_users_transpose_is_used():
    assert_same(cg.grad(lambda y: halved(X, y).sum())(Y), jax.grad(lambda y: halved(X, y).sum())(Y))
    assert_same(cg.grad(lambda y: halved(X, y).sum())(Y), 5 / X)
    with pytest.raises(cg.NoDerivativeError, match="linear_call"):
        cg.grad(lambda x: halved(x, Y).sum())(X)


def test_a_rule_that_refuses_integers_is_not_asked_about_them():
    """As with the scale of a Gumbel distribution: x log y of two numbers, off the gradient's way."""

    def loss(x):
        return (jax.scipy.special.xlogy(2, 3.0) * x).sum() + jax.scipy.stats.gumbel_r.logpdf(x).sum()

    assert_same(cg.grad(loss)(X), jax.grad(loss)(X), scale=4)


def test_checkpoint_in_the_users_code_is_taken_apart():
    """The plan decides what is kept, so `jax.checkpoint` leaves no trace of its own."""
    block = jax.checkpoint(lambda x: jnp.sin(jnp.cos(x)))
    graph = cg.trace(lambda x: block(block(x)).sum(), X)
    assert graph.counts == {"cos": 2, "sin": 2, "reduce_sum": 1}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (lambda x: jax.pure_callback(np.sin, x, x), "pure_callback.*Pure callbacks do not support JVP"),
        (lambda x: io_callback(np.sin, x, x), "io_callback.*IO callbacks do not support JVP"),
        (lambda x: jax.ffi.ffi_call("unknown", x)(x), "ffi_call.*The FFI call to `.+` cannot be differentiated"),
    ],
)
def test_foreign_code_is_refused_in_jaxs_words(code, words):
    for door in (lambda f: cg.grad(f)(X), lambda f: cg.jvp(f, (X,), (X,)), lambda f: cg.linearize(f, X)):
        with pytest.raises(ValueError, match=words) as caught:
            door(lambda x: code(x).sum())
        assert isinstance(caught.value, cg.NoDerivativeError)


def test_callbacks_are_refused_as_in_jax():
    def loss(x):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x).sum()

    with pytest.raises(cg.NoDerivativeError, match=r"pure_callback.*test_custom\.py.*custom_vjp"):
        cg.grad(loss)(X)
    # Where no derivative flows, they run.
    assert_same(cg.grad(lambda x: (loss(lax.stop_gradient(x)) * x).sum())(X), jnp.full(3, jnp.sin(X).sum()), scale=4)


def test_a_custom_vjp_that_captures_an_array_and_keeps_its_argument():
    """What it keeps is numbered among the captured arrays and the arguments together."""
    weights = jnp.arange(3.0)

    @jax.custom_vjp
    def weighted(x):
        return (x * weights).sum()

    weighted.defvjp(lambda x: (weighted(x), (x,)), lambda kept, ct: (ct * jnp.cos(kept[0]),))
    x = jnp.array([0.3, -1.2, 0.7])
    assert_same(cg.grad(lambda x: 2 * weighted(x))(x), jax.grad(lambda x: 2 * weighted(x))(x), scale=2)


def test_a_rule_with_symbolic_zeros_is_told_what_is_zero():
    """Which arguments are perturbed, and which cotangents are the sentinel of JAX; no number in its place."""
    told = {}

    @jax.custom_vjp
    def both(x, y, n):
        return x * y, x + y, n

    def forward(x, y, n):
        told["perturbed"] = [v.perturbed for v in (x, y, n)]
        return (x.value * y.value, x.value + y.value, n.value), y.value

    def backward(y, cotangents):
        told["zero"] = [isinstance(ct, jax.custom_derivatives.SymbolicZero) for ct in cotangents]
        return cotangents[0] * y * 2, None, None

    both.defvjp(forward, backward, symbolic_zeros=True)
    found = cg.grad(lambda x: both(x, 3.0, 1)[0])(2.0)
    assert (found, told) == (6.0, {"perturbed": [True, False, False], "zero": [False, True, True]})


@pytest.mark.parametrize("number", [2.0, 5, np.float32(4), np.float64(4), True])
def test_a_rule_may_return_a_number(number):
    """Of Python or NumPy; two rules that differ in it alone are two rules."""

    def with_cotangent(number):
        @jax.custom_vjp
        def fun(x):
            return x * 1

        fun.defvjp(lambda x: (fun(x), None), lambda _, g: (number,))
        return fun

    one, other = with_cotangent(number), with_cotangent(number + 1)
    assert cg.grad(lambda x: one(x) + other(x))(1.0) == 2 * number + 1


def test_forward_mode_through_a_custom_vjp_is_a_type_error_as_in_jax():
    fun = jax.custom_vjp(jnp.sin)
    fun.defvjp(lambda x: (fun(x), jnp.cos(x)), lambda c, g: (c * g,))
    for wrapped in (fun, jax.jit(fun), lambda x: jax.vmap(fun)(x[None])[0]):
        with pytest.raises(TypeError, match=r"can't apply forward-mode autodiff \(jvp\) to a custom_vjp function"):
            cg.jvp(wrapped, (3.0 * jnp.ones(()),), (jnp.ones(()),))


def test_a_rule_that_depends_on_a_batch_that_its_function_ignores_is_refused():
    @jax.custom_jvp
    def zero(x):
        return np.zeros(x.shape, x.dtype)

    zero.defjvp(lambda p, t: (zero(*p), t[0]))
    assert jax.vmap(cg.grad(zero))(jnp.arange(2.0)).tolist() == [1, 1]
    with pytest.raises(cg.NoDerivativeError, match="one result for each entry"):
        cg.grad(lambda x: jax.vmap(zero)(x).sum())(jnp.arange(2.0))


@pytest.mark.parametrize("has_aux", [False, True])
def test_a_linear_solve_in_both_modes(has_aux):
    """Forward mode needs no transpose_solve; what the solver tells besides has no derivative."""
    a, b = jnp.array([[3.0, 1.0], [1.0, 2.0]]), jnp.array([1.0, -1.0])

    def solved(transposed, a, b):
        def solve(_, b):
            x = lax.stop_gradient(jnp.linalg.inv(a)) @ b
            return (x, {"steps": jnp.sum(b)}) if has_aux else x

        symmetric = {"transpose_solve": solve, "symmetric": True} if transposed else {}
        found = lax.custom_linear_solve(lambda x: a @ x, b, solve, has_aux=has_aux, **symmetric)
        return jnp.sum((found[0] if has_aux else found) ** 2)

    def plain(a, b):
        return jnp.sum(jnp.linalg.solve(a, b) ** 2)

    wanted, move = jax.grad(plain, (0, 1))(a, b), (jnp.ones((2, 2)), jnp.ones(2))
    along = jax.jvp(plain, (a, b), move)[1]
    for transposed in (False, True):
        fun = functools.partial(solved, transposed)
        np.testing.assert_allclose(cg.jvp(fun, (a, b), move)[1], along, rtol=1e-4)
        if transposed:
            jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4), cg.grad(fun, (0, 1))(a, b), wanted)
        else:
            with pytest.raises(TypeError, match="transpose_solve required"):
                cg.grad(fun)(a, b)


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: x,
        lambda x: x[np.array([1, 0, 1])],
        lambda x: x[1:],
        lambda x: x * x,
        lambda x: lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, x),
        lambda x: x.at[0].set(x[1]),
    ],
)
def test_a_cotangent_of_another_precision_becomes_that_of_its_value(fun):
    @jax.custom_vjp
    def total(x):
        return x.astype(jnp.float32).sum()

    total.defvjp(lambda x: (total(x), x.shape), lambda shape, g: (jnp.full(shape, g, jnp.float32),))
    x = jnp.ones((2, 3), jnp.bfloat16)
    found = cg.grad(lambda x: total(fun(x)))(x)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found, jax.grad(lambda x: fun(x).astype(jnp.float32).sum())(x))


def test_a_complex_cotangent_of_a_real_argument_is_refused():
    @jax.custom_vjp
    def total(x):
        return x.sum()

    total.defvjp(lambda x: (total(x), x.shape), lambda shape, g: (jnp.full(shape, g + 1j),))
    with pytest.raises(NotImplementedError, match=r"test_custom.*complex64 cotangent for an argument that is float32"):
        cg.grad(lambda x: total(jnp.sin(x)))(X)


@pytest.mark.parametrize(
    "around",
    [
        lambda rule, w: (rule(w), w)[1],
        lambda rule, w: lax.cond(w[0] > 0, lambda: (rule(w), w), lambda: (w, w))[1],
        lambda rule, w: lax.scan(lambda c, _: ((c[0] * 2, rule(c[1])), None), (w, w), None, length=2)[0][0] / 4,
    ],
    ids=["in a row", "in a branch", "in a loop"],
)
def test_a_rule_of_what_nothing_reads_is_not_asked(around):
    @jax.custom_vjp
    def more(w):
        return w * 1.0

    more.defvjp(lambda w: (w * 1.0, None), lambda _, g: (g + 1.0,))
    np.testing.assert_array_equal(cg.grad(lambda w: jnp.sum(around(more, w)))(jnp.ones(3)), 1.0)
