"""Gradients of checkified functions, with custom rules inside, and checks of gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify

import ckptgrad as cg


@jax.custom_jvp
def sine(x):
    return jnp.sin(x)


sine.defjvp(lambda p, t: (sine(p[0]), jnp.cos(p[0]) * t[0]))


# The rules are not the derivatives, so that it is seen which residual each was given.
@jax.custom_vjp
def product(x, y):
    return x * y


product.defvjp(lambda x, y: (x * y, (x, y)), lambda r, g: (2 * r[1] * g, 3 * r[0] * g))

X = 1.5
FUNCTIONS = {
    "custom_jvp": (sine, np.cos(X)),
    "custom_vjp, residuals passed on": (lambda x: product(x, x + 1), 2 * (X + 1) + 3 * X),
    "custom_vjp of a result": (lambda x: product(2 * x, 3.0), 2 * 2 * 3.0),
    "both": (lambda x: sine(product(x, 2.0)), np.cos(2 * X) * 2 * 2.0),
    "in a scan": (
        lambda x: jax.lax.scan(lambda c, _: (product(c, x), None), x, None, length=2)[0],
        2 * X * (2 * X + 3 * X) + 3 * X**2,
    ),
    "in a cond": (lambda x: jax.lax.cond(x > 0, sine, lambda x: x, x), np.cos(X)),
}
ERRORS = {
    "user": checkify.user_checks,
    "all": checkify.all_checks,
    "none before": checkify.float_checks,
}


def checked(fun, errors):
    """The value and the error of `fun`, whose argument is told by the check that comes before it."""

    def with_a_check(x):
        checkify.check(x > 1, "{x} is too small", x=x)
        return fun(x)

    return lambda x: checkify.checkify(with_a_check if errors != "none before" else fun, ERRORS[errors])(x)


@pytest.mark.parametrize("errors", ERRORS)
@pytest.mark.parametrize(("fun", "wanted"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_custom_rules_inside_checkify(fun, wanted, errors):
    checks = checked(fun, errors)
    gradient, error = cg.grad(lambda x: checks(x)[::-1], has_aux=True)(X)
    np.testing.assert_allclose(gradient, wanted, rtol=1e-5)
    assert error.get() is None
    if fun is sine:
        np.testing.assert_allclose(cg.jvp(lambda x: checks(x)[1], (X,), (1.0,))[1], wanted, rtol=1e-5)


def test_errors_are_told_beside_the_gradient():
    checks = checked(lambda x: sine(x / 0.0), "all")
    for x, told in ((0.5, "0.5 is too small"), (X, "division by zero")):
        _, error = cg.grad(lambda x: checks(x)[::-1], has_aux=True)(x)
        assert told in error.get()


def test_checkify_within_checkify():
    twice = checkify.checkify(lambda x: checked(lambda x: product(x, x + 1), "user")(x)[1], checkify.all_checks)
    np.testing.assert_allclose(cg.grad(lambda x: twice(x)[1])(X), 2 * (X + 1) + 3 * X, rtol=1e-6)


def test_what_an_error_tells_has_its_own_derivative():
    """Here twice the argument, passed on by the custom function."""

    def fun(x):
        checkify.check(x > 9, "{x}", x=2 * x)
        return sine(x)

    def told(x):
        leaves = jax.tree.leaves(checkify.checkify(fun, checkify.all_checks)(x)[0])
        return next(leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating))

    assert (cg.grad(told)(X), cg.jvp(told, (X,), (1.0,))[1]) == (2.0, 2.0)


def test_checks_of_a_gradient():
    error, gradient = checkify.checkify(cg.grad(lambda x: jnp.sqrt(sine(x))), checkify.float_checks)(0.0)
    assert not np.isfinite(gradient)
    assert "division by zero" in error.get()
