"""Rules of users' own primitives, and what is said where a rule is missing."""

from __future__ import annotations

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

import ckptgrad as cg
from ckptgrad.autodiff.rule import registered, unregister
from ckptgrad.errors import DuplicateRuleError


def new_primitive(name):
    """x -> x cubed, as a primitive that JAX can run and lower but nobody can differentiate."""
    primitive = Primitive(name)
    primitive.def_impl(lambda x: x**3)
    primitive.def_abstract_eval(lambda x: x)
    mlir.register_lowering(primitive, mlir.lower_fun(lambda x: x**3, multiple_results=False))
    batching.defvectorized(primitive)
    return primitive


cube_p = new_primitive("cube_of_this_test")


def cube(x):
    return cube_p.bind(x)


@pytest.fixture
def cube_rule():
    @cg.bprop_rule(cube_p)
    def rule(op, g):
        (x,) = op.inputs
        return (3 * x**2 * g,)

    yield rule
    unregister(cube_p.name)


def loss(x):
    return jnp.sum(cube(jnp.sin(x)))


X = jnp.array([0.2, 1.3])
WANTED = 3 * jnp.sin(X) ** 2 * jnp.cos(X)


@pytest.mark.usefixtures("cube_rule")
@pytest.mark.parametrize("budget", [None, "min"])
@pytest.mark.parametrize("around", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_a_users_rule_is_used(budget, around):
    np.testing.assert_allclose(around(cg.grad(loss, budget=budget))(X), WANTED, rtol=1e-6)


@pytest.mark.usefixtures("cube_rule")
def test_a_users_rule_batches():
    found = jax.vmap(cg.grad(lambda x: cube(x) * 2.0))(X)
    np.testing.assert_allclose(found, 6 * X**2, rtol=1e-6)


def test_the_decorator_returns_the_function(cube_rule):
    assert callable(cube_rule)
    assert registered()[cube_p.name].bprop is cube_rule


@pytest.mark.usefixtures("cube_rule")
def test_a_second_rule_is_an_error():
    with pytest.raises(DuplicateRuleError, match=r"cube_of_this_test.*unregister"):
        cg.bprop_rule(cube_p.name)(lambda op, g: (g,))


def test_unregistered_rules_are_gone():
    assert cube_p.name not in registered()


@pytest.mark.parametrize(
    "wrap", [lambda f: f, jax.jit, lambda f: jax.checkpoint(f)], ids=["plain", "in a jit", "in a checkpoint"]
)
def test_a_missing_rule_names_primitive_line_and_remedy(wrap):
    with pytest.raises(cg.MissingRuleError) as caught:
        cg.grad(lambda x: wrap(loss)(x))(X)
    error = caught.value
    assert error.primitive == cube_p.name
    assert error.source is not None
    assert error.source.file == __file__
    assert error.source.line == inspect.getsourcelines(cube)[1] + 1
    for part in (
        cube_p.name,
        f"{__file__}:{error.source.line}",
        f"@ckptgrad.bprop_rule('{cube_p.name}')",
        "use_implementation",
    ):
        assert part in str(error)
    assert isinstance(error, cg.CkptgradError)


def rule_of_jax_only():
    primitive = Primitive("with_a_rule_of_jax_only")
    primitive.def_impl(partial(apply_as_jax, primitive))
    ad.defjvp(primitive, lambda g, x: 3 * g)
    return primitive, "use_jax_rule"


def implementation_only():
    primitive = Primitive("with_an_implementation_only")
    primitive.def_impl(lambda x: 3 * x)
    return primitive, "use_implementation"


def apply_as_jax(primitive, x):
    """As most of JAX's own primitives are implemented: compiled, by the primitive itself."""
    return jax.jit(primitive.bind)(x)


@pytest.mark.parametrize("make", [rule_of_jax_only, implementation_only])
def test_only_remedies_that_work_are_offered(make):
    primitive, remedy = make()
    primitive.def_abstract_eval(lambda x: x)
    mlir.register_lowering(primitive, mlir.lower_fun(lambda x: 3 * x, multiple_results=False))
    with pytest.raises(cg.MissingRuleError) as caught:
        cg.grad(primitive.bind)(1.0)
    (offered,) = caught.value.remedies
    assert offered.startswith(f"ckptgrad.{remedy}('{primitive.name}')")
    getattr(cg, remedy)(primitive.name)
    try:
        assert cg.grad(primitive.bind)(1.0) == 3.0
    finally:
        unregister(primitive.name)


def test_by_its_implementation_twice_is_once():
    cg.use_implementation(cube_p)
    cg.use_implementation(cube_p)
    assert unregister(cube_p.name) is not None


def test_a_missing_rule_off_the_gradients_way_does_not_matter():
    assert cg.grad(lambda x, y: x * cube(y))(2.0, jnp.float32(3.0)) == 27.0


@pytest.mark.usefixtures("cube_rule")
def test_a_replaced_rule_counts_at_once():
    before = cg.grad(cube)(jnp.float32(2.0))
    unregister(cube_p.name)
    cg.bprop_rule(cube_p)(lambda op, g: (-g,))
    assert (float(before), float(cg.grad(cube)(jnp.float32(2.0)))) == (12.0, -1.0)


def test_a_primitive_by_its_implementation_in_both_modes():
    cg.use_implementation(cube_p)
    try:
        np.testing.assert_allclose(jax.jit(cg.grad(loss))(X), WANTED, rtol=1e-6)
        np.testing.assert_allclose(cg.jvp(loss, (X,), (X,))[1], WANTED @ X, rtol=1e-6)
        np.testing.assert_allclose(cg.hessian(cube)(X[0]), 6 * X[0], rtol=1e-6)
        assert cg.plan(loss, X).borrowed == []
    finally:
        unregister(cube_p.name)


def test_a_token_among_the_captured_values():
    token = lax.create_token()
    try:
        jax.jit(lax.optimization_barrier)(token)
    except AttributeError:
        pytest.skip("this JAX compiles no barrier over a token")
    ordered = Primitive("ordered")
    ordered.def_abstract_eval(lambda x, token: x)
    mlir.register_lowering(ordered, lambda ctx, x, token: [x])
    cg.bprop_rule("ordered")(lambda op, g: (g, None))
    found = cg.grad(lambda x: jnp.sin(ordered.bind(x**2, token)))(1.5)
    assert float(found) == pytest.approx(3 * np.cos(1.5**2), rel=1e-6)
