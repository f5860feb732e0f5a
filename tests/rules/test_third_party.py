"""Primitives of other packages: by their implementation, and those of Equinox."""

from __future__ import annotations

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import Primitive
from jax.interpreters import mlir

import ckptgrad as cg
from ckptgrad.autodiff.rule import register, registered, unregister
from tests.support.compare import assert_same

X, Y = jnp.array([0.3, -1.2, 0.7]), jnp.array([1.1, 0.4, -0.2])


@pytest.fixture
def softly():
    """A primitive with two results, which only its implementation tells how to differentiate."""
    primitive = Primitive("softly_of_a_package")
    primitive.multiple_results = True

    def implementation(x, *, shift):
        return jnp.sqrt(x**2 + shift), x * 2

    primitive.def_impl(implementation)
    primitive.def_abstract_eval(lambda x, *, shift: (x, x))
    mlir.register_lowering(primitive, mlir.lower_fun(implementation, multiple_results=True))
    yield lambda x: primitive.bind(x, shift=9.0)
    unregister(primitive.name)


def test_a_primitive_is_differentiated_by_its_implementation(softly):
    def plain(x):
        return jnp.sqrt(x**2 + 9), x * 2

    with pytest.raises(cg.MissingRuleError, match=r"ckptgrad.use_implementation\('softly_of_a_package'\)"):
        cg.grad(lambda x: softly(x)[0].sum())(X)
    cg.use_implementation("softly_of_a_package", cost="transcendental")
    loss = lambda f: lambda x: (f(x)[0] * f(x)[1] * Y).sum()
    assert_same(cg.grad(loss(softly))(X), jax.grad(loss(plain))(X), scale=8)
    assert_same(cg.jvp(softly, (X,), (Y,))[1], [*jax.jvp(plain, (X,), (Y,))[1]], scale=8)
    # Twice is once: a definition stays as it is, and a rule of another kind is not replaced.
    rule = registered()["softly_of_a_package"]
    cg.use_implementation("softly_of_a_package")
    assert registered()["softly_of_a_package"] is rule
    with pytest.raises(cg.OptionError, match="unknown"):
        cg.use_implementation("softly_of_a_package", cost="cheap")


def test_a_derivative_that_a_package_forbids_stays_forbidden():
    with pytest.raises(cg.NoDerivativeError, match="cannot be reverse-mode"):
        cg.grad(lambda x: eqxi.nondifferentiable_backward(x * 2, name="this"))(1.0)
    assert cg.grad(lambda x: eqxi.nonbatchable(x * 2.0))(1.0) == 2.0


def test_an_implementation_that_calls_its_own_primitive_is_refused():
    primitive = next(op.primitive for op in cg.trace(jax.lax.linalg.schur, jnp.eye(2)).operations)
    rule = unregister(primitive.name)
    assert rule is not None
    try:
        cg.use_implementation(primitive)
        with pytest.raises(cg.NoDerivativeError, match="the primitive itself"):
            cg.grad(lambda x: jax.lax.linalg.schur(x)[0].sum())(jnp.eye(2))
    finally:
        unregister(primitive.name)
        register(rule)
