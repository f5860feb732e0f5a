"""What JAX traces differently with opt-in flags: `jax_remat3`, `jax_custom_vjp3`, `optimize_remat`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

import ckptgrad as cg

FLAGS = ("jax_remat3", "jax_custom_vjp3", "optimize_remat")


def _functions(optimize_remat: bool, factor: float):
    """Functions of an array that call a rule which is `factor` times the derivative, by itself and under remat."""

    @jax.custom_vjp
    def called(x, a):
        return jnp.sin(x) * a

    def backward(residuals, ct):
        x, a = residuals
        return factor * ct * jnp.cos(x) * a, jnp.sum(ct * jnp.sin(x))

    called.defvjp(lambda x, a: (jnp.sin(x) * a, (x, a)), backward, optimize_remat=optimize_remat)

    @jax.custom_vjp
    def of_a_tree(scales, x):
        return called(x, scales["a"]), scales["steps"]

    def backward_of_a_tree(scales, cts):
        return {"a": factor * cts[0].sum() * scales["a"], "steps": None, "unused": None}, cts[0]

    of_a_tree.defvjp(lambda s, x: (of_a_tree(s, x), s), backward_of_a_tree, optimize_remat=optimize_remat)

    def plain(x):
        return called(x, x[0]) * x

    def under_remat(x):
        policy = jax.checkpoint_policies.save_only_these_names("kept")
        return jax.checkpoint(lambda x: jnp.sin(checkpoint_name(jnp.sin(plain(x)), "kept")), policy=policy)(x)

    def stages(x):
        for _ in range(4):
            x = under_remat(x) + x
        return x

    return {
        "a call": lambda x: of_a_tree({"a": x[0], "steps": jnp.arange(2), "unused": x}, plain(x))[0],
        "under remat": under_remat,
        "stages": stages,
        "inside a scan": lambda x: jax.lax.scan(lambda c, _: (under_remat(c), None), x, None, length=3)[0],
        "under jit": jax.jit(under_remat),
        "under vmap": lambda x: jax.vmap(plain)(jnp.stack([x, 2 * x])).sum(0),
    }


NAMES = list(_functions(False, 1.0))


@pytest.fixture
def functions(x64, request):
    """The functions, the flag set while the test runs."""

    def with_flag(flag: str, factor: float = 2.0):
        if flag.startswith("jax_"):
            jax.config.update(flag, True)
            request.addfinalizer(lambda: jax.config.update(flag, False))
        return _functions(flag == "optimize_remat", factor)

    return with_flag


def _loss(fun):
    return lambda x: jnp.sum(fun(x) * jnp.arange(1.0, 4.0))


X = np.linspace(0.2, 0.9, 3)


QUICK = ("a call", "inside a scan", "under vmap")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in NAMES])
@pytest.mark.parametrize("flag", FLAGS)
def test_the_rule_is_honoured(flag, name, functions):
    loss = _loss(functions(flag)[name])
    np.testing.assert_allclose(cg.grad(loss)(X), jax.grad(loss)(X), rtol=1e-10)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "stages")) for n in NAMES])
@pytest.mark.parametrize("flag", FLAGS)
def test_within_a_budget(flag, name, functions):
    loss = _loss(functions(flag)[name])
    np.testing.assert_allclose(cg.grad(loss, budget="min")(X), jax.grad(loss)(X), rtol=1e-10)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "under remat")) for n in NAMES])
@pytest.mark.parametrize("flag", FLAGS)
def test_the_second_order(flag, name, functions):
    loss = _loss(functions(flag, factor=1.0)[name])
    step = 1e-5
    found = cg.grad(lambda x: jnp.sum(jnp.cos(cg.grad(loss)(x))))(jnp.asarray(X))

    def inner(x):
        return float(jnp.sum(jnp.cos(jax.grad(loss)(jnp.asarray(x)))))

    wanted = [(inner(X + step * e) - inner(X - step * e)) / (2 * step) for e in np.eye(len(X))]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("flag", FLAGS)
def test_gradients_are_batched(flag, functions):
    loss = _loss(functions(flag)["under remat"])
    rows = jnp.stack([X, X / 2])
    np.testing.assert_allclose(jax.jit(jax.vmap(cg.grad(loss)))(rows), [jax.grad(loss)(row) for row in rows], rtol=1e-10)


def test_the_names_of_kept_values_are_seen(functions):
    """A policy of JAX keeps by name what the flag makes a call of hijax."""
    names = functions("jax_remat3")
    operations = [op for op in cg.trace(names["under remat"], X).operations if op.name == "name"]
    assert [op.params["name"] for op in operations] == ["kept"]


@pytest.mark.parametrize("flag", [None, "jax_custom_vjp3"])
def test_what_a_custom_function_closes_over_has_no_derivative(flag, functions):
    if flag:
        functions(flag)

    def loss(x):
        @jax.custom_vjp
        def times(y):
            return y * x

        times.defvjp(lambda y: (y, None), lambda _, ct: (ct,))
        return times(x)

    with pytest.raises((cg.NoDerivativeError, jax.errors.UnexpectedTracerError), match=r"close[sd]"):
        cg.grad(loss)(2.0)


def test_a_number_as_a_cotangent(functions):
    functions("jax_custom_vjp3")

    @jax.custom_vjp
    def tripled(x):
        return 3 * x

    tripled.defvjp(lambda x: (tripled(x), None), lambda _, g: (3.0,))
    assert float(cg.grad(lambda x: tripled(jnp.sin(x)))(0.0)) == 3
