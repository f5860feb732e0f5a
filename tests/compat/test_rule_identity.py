"""Which of the user's functions a custom rule consists of."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad import compat


def jvp_of(scale):
    @jax.custom_jvp
    def fun(x):
        return x * scale

    fun.defjvp(lambda p, t: (fun(p[0]), t[0] * scale))
    return fun


def vjp_of(scale):
    @jax.custom_vjp
    def fun(x):
        return x * scale

    fun.defvjp(lambda x: (x * scale, None), lambda _, ct: (ct * scale,))
    return fun


def identities(fun, *args):
    """The rules that a function calls."""
    calls = {"custom_jvp_call": compat.custom_jvp_call, "custom_vjp_call": compat.custom_vjp_call}
    operations = cg.trace(fun, *args).operations
    return [compat.rule_identity(calls[op.name](op.params).wrapped) for op in operations if op.name in calls]


@pytest.mark.parametrize("make", [jvp_of, vjp_of])
def test_two_calls_of_one_function_have_one_rule_and_others_another(make):
    fun, other = make(2.0), make(2.0)
    first, second, third = identities(lambda x: other(fun(fun(x))), 1.0)
    assert first is not None
    assert first == second
    assert first != third


@pytest.mark.parametrize("make", [jvp_of, vjp_of])
def test_also_under_vmap(make):
    fun = make(2.0)
    first, second = identities(lambda x: jax.vmap(fun)(jax.vmap(fun)(x)), jnp.ones(3))
    assert first == second
    across, along = identities(lambda x: (jax.vmap(fun)(x), jax.vmap(fun, 1)(x)), jnp.ones((3, 3)))
    assert across is None or across != along


def test_static_arguments_belong_to_the_rule():
    @functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
    def power(x, n):
        return x**n

    power.defvjp(lambda x, n: (x**n, x), lambda n, x, ct: (ct * n * x ** (n - 1),))
    two, three, again = identities(lambda x: power(power(power(x, 2), 3), 2), 1.5)
    assert two is not None
    assert two == again != three


def test_of_an_unknown_wrapper_nothing_is_said():
    class Wrapped:
        params = None
        transforms = ((lambda f: f, ()),)

        @staticmethod
        def f(x):
            return x

    assert compat.rule_identity([Wrapped()]) is None
    assert compat.rule_identity([len, max]) == [len, max]


def test_whether_a_rule_is_jaxs_own():
    user = jax.custom_jvp(lambda x: 2 * x)
    user.defjvps(lambda t, y, x: 2 * t)  # Wrapped in a function of JAX's.
    relu, users, logistic = identities(lambda x: jax.nn.relu(x) + user(x) + jax.nn.relu6(x), 1.0)
    assert relu == identities(jax.nn.relu, 2.0)[0]
    assert compat.is_jaxs(relu)
    assert compat.is_jaxs(logistic)
    assert not compat.is_jaxs(users)
    assert not compat.is_jaxs([*relu, ("nested", jvp_of)])
