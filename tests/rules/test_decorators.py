"""Each decorator registers a rule of its form, once, and both modes follow."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

import ckptgrad as cg
from ckptgrad.autodiff.rule import registered
from ckptgrad.errors import DuplicateRuleError
from ckptgrad.rules.decorators import bprop, cast, defined, elementwise, linear, match, refused, tangent, zero


def test_second_registration_is_an_error():
    with pytest.raises(DuplicateRuleError, match="tanh"):
        zero("tanh", cost="transcendental")


X = jnp.array([0.5, -2.0])


def primitive_of(name, fun):
    """A primitive that computes `fun` of one array."""
    primitive = Primitive(name)
    primitive.def_impl(fun)
    primitive.def_abstract_eval(lambda x: x)
    mlir.register_lowering(primitive, mlir.lower_fun(fun, multiple_results=False))
    batching.defvectorized(primitive)
    return primitive


def cube(x):
    return x * x * x


# Each way to say that the derivative of the cube is three times the square.
FORMS = {
    "bprop": lambda p: bprop(p, cost="elementwise")(lambda op, g: (3 * op.inputs[0] ** 2 * g,)),
    "elementwise": lambda p: elementwise(p, lambda g, y, x: 3 * x**2 * g),
    "tangent": lambda p: tangent(p, cost="elementwise")(lambda op, t: [3 * op.inputs[0] ** 2 * t]),
    "defined": lambda p: defined(p, cost="elementwise")(lambda params, x: [cube(x)]),
}


@pytest.mark.parametrize("form", FORMS)
def test_both_modes_and_orders_follow_from_one_form(form):
    primitive = primitive_of(f"cube_{form}", cube)
    FORMS[form](primitive)
    assert registered()[primitive.name].kind == form

    def loss(x):
        return primitive.bind(x).sum()

    np.testing.assert_allclose(cg.grad(loss)(X), 3 * X**2, rtol=1e-6)
    np.testing.assert_allclose(cg.jvp(primitive.bind, (X,), (X,))[1], 3 * X**3, rtol=1e-6)
    np.testing.assert_allclose(cg.hvp(loss, (X,), (X,)), 6 * X**2, rtol=1e-6)


def test_a_linear_primitive_is_its_own_derivative():
    primitive = primitive_of("reversed_and_doubled", lambda x: 2 * x[::-1])
    linear(primitive, cost="view")(lambda op, g: (2 * g[::-1],))
    np.testing.assert_array_equal(cg.grad(lambda x: primitive.bind(x)[0])(X), [0, 2])
    np.testing.assert_array_equal(cg.jvp(primitive.bind, (X,), (X,))[1], 2 * X[::-1])


def test_no_derivative_flows_or_it_is_refused_with_the_reason():
    rounded, unknown = primitive_of("rounded_here", jnp.round), primitive_of("unknown_here", cube)
    zero(rounded, cost="elementwise")
    refused(unknown, "nobody worked it out")
    np.testing.assert_array_equal(cg.grad(lambda x: (rounded.bind(x) * x).sum())(X), jnp.round(X))
    with pytest.raises(cg.NoDerivativeError, match="nobody worked it out"):
        cg.grad(lambda x: unknown.bind(x).sum())(X)


@pytest.mark.parametrize(
    ("shape", "expected"), [((), 6.0), ((1,), [6.0]), ((2, 1), [[3.0], [3.0]]), ((2, 3), np.ones((2, 3)))]
)
def test_cotangents_of_what_was_broadcast_are_summed(shape, expected):
    found = match(jnp.ones((2, 3)), jax.ShapeDtypeStruct(shape, jnp.bfloat16))
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(found, float), expected)


def test_a_complex_cotangent_of_a_real_value_is_its_real_part():
    assert cast(jnp.complex64(2 + 3j), jnp.float32) == 2
    assert cast(lax.complex(2.0, 3.0), jnp.complex64) == 2 + 3j
