"""Keys of operations and runs of operations: equal exactly when the computation is."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import ckptgrad as cg
from ckptgrad.graph.fingerprint import segment_key
from ckptgrad.graph.simplify import merge_common


def key(fun, *args):
    graph = cg.trace(fun, *args)
    return segment_key(graph.operations, graph.inputs, graph.outputs)


def custom(slope):
    """The identity with a derivative of its own."""

    @jax.custom_jvp
    def f(x):
        return x * 1.0

    f.defjvp(lambda p, t: (p[0] * 1.0, t[0] * slope))
    return f


def scan_of(body):
    return lambda x: lax.scan(lambda c, _: (body(c), None), x, None, length=3)[0]


ONE = jnp.ones(3)

EQUAL = {
    "layer": (lambda x: x + jnp.tanh(x), lambda y: y + jnp.tanh(y)),
    "jit or not": (jax.jit(jnp.sin), jnp.sin),
    "scan": (scan_of(jnp.sin), scan_of(lambda c: jnp.sin(c))),
    "cond": (lambda x: lax.cond(True, jnp.sin, jnp.cos, x), lambda x: lax.cond(True, jnp.sin, jnp.cos, x)),
    "custom_jvp made twice": (custom(2.0), custom(2.0)),
    "relu, whose rule calls relu": (jax.nn.relu, jax.nn.relu),
    "softplus": (jax.nn.softplus, jax.nn.softplus),
    "nan literal": (lambda x: x * jnp.nan, lambda x: x * jnp.nan),
}

DIFFERENT = {
    "literal": (lambda x: x * 2.0, lambda x: x * 3.0),
    "softplus for relu": (jax.nn.softplus, jax.nn.relu),
    "signed zero": (lambda x: x * 0.0, lambda x: x * -0.0),
    "primitive": (jnp.sin, jnp.cos),
    "order of operands": (lambda x: x - 2.0 * x, lambda x: 2.0 * x - x),
    "parameters": (lambda x: lax.integer_pow(x, 2), lambda x: lax.integer_pow(x, 3)),
    "body of a scan": (scan_of(jnp.sin), scan_of(jnp.cos)),
    "literal in a scan": (scan_of(lambda c: c * 2.0), scan_of(lambda c: c * 3.0)),
    "custom_jvp rule": (custom(2.0), custom(3.0)),
    "custom_jvp rule in a scan": (scan_of(custom(2.0)), scan_of(custom(3.0))),
    "outputs": (lambda x: (x, jnp.sin(x)), lambda x: (jnp.sin(x), x)),
    "custom rule or not": (custom(1.0), lambda x: x * 1.0),
}


@pytest.mark.parametrize("pair", EQUAL.values(), ids=EQUAL)
def test_equal_computations_have_equal_keys(pair):
    a, b = (key(f, ONE) for f in pair)
    assert a == b
    assert hash(a) == hash(b)


@pytest.mark.parametrize("pair", DIFFERENT.values(), ids=DIFFERENT)
def test_different_computations_have_different_keys(pair):
    a, b = (key(f, ONE) for f in pair)
    assert a != b


@pytest.mark.parametrize("other", [jnp.ones(4), jnp.ones(3, jnp.bfloat16), jnp.ones((1, 3))])
def test_types_of_inputs_tell_keys_apart(other):
    assert key(jnp.sin, ONE) != key(jnp.sin, other)


def test_custom_vjp_rules_tell_keys_apart():
    def doubled(scale):
        f = jax.custom_vjp(lambda x: x * 1.0)
        f.defvjp(lambda x: (x * 1.0, None), lambda _, g: (g * scale,))
        return f

    assert key(doubled(2.0), ONE) != key(doubled(3.0), ONE)


def test_one_custom_vjp_function_has_one_key():
    f = jax.custom_vjp(lambda x: x * 1.0)
    f.defvjp(lambda x: (x * 1.0, None), lambda _, g: (g * 3.0,))
    assert key(f, ONE) == key(f, ONE)


def test_merging_does_each_pure_computation_once():
    graph = cg.trace(lambda x: jnp.sin(x) * 2.0 + jnp.sin(x) * 2.0, ONE)
    merged = merge_common(graph)
    assert [op.name for op in merged.operations] == ["sin", "mul", "add"]
    assert (merged(ONE)[0] == graph(ONE)[0]).all()


def test_merging_leaves_effects_alone():
    def talk(x):
        jax.debug.print("x")
        jax.debug.print("x")
        return x

    assert len(merge_common(cg.trace(talk, ONE)).operations) == 2
