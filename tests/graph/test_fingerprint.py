"""Keys of operations and runs of operations: equal exactly when the computation is."""

from __future__ import annotations

import gc
import weakref
import zlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

import ckptgrad as cg
from ckptgrad.graph import fingerprint
from ckptgrad.graph.fingerprint import operation_key, segment_key
from tests.support.contexts import MARKED, under


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
    "signed zero of a scalar": (lambda x: x[0] * 0.0, lambda x: x[0] * -0.0),
    "signed zero of a complex scalar": (lambda x: (x[0] + 0j) * complex(1, 0.0), lambda x: (x[0] + 0j) * complex(1, -0.0)),
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


@pytest.mark.parametrize("context", MARKED.values(), ids=MARKED)
def test_where_an_operation_runs_tells_keys_apart(context):
    marked = under(context, jnp.sin)
    assert key(marked, ONE) == key(marked, ONE)
    assert key(marked, ONE) != key(jnp.sin, ONE)


def test_contexts_inside_other_programs_tell_keys_apart():
    assert key(scan_of(jnp.sin), ONE) != key(scan_of(under(MARKED["metadata"], jnp.sin)), ONE)


def number_of(static):
    """A number that belongs to a value and its type: 1, 1.0 and True have three."""
    return 1 + zlib.crc32(f"{type(static).__name__} {static!r}".encode()) % 89 / 10


class Config:
    """An object of a user's whose equality says too much."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return self.name

    def __eq__(self, other):
        return isinstance(other, Config)

    def __hash__(self):
        return 0


# Equal to one another in Python, or unhashable, or with an equality of their own that says too much.
STATICS = (
    1, 1.0, True, np.float32(1), np.int32(1), 0.0, -0.0, "1", b"1", None, (1, 2), (1, 2.0), [1], {"a": 1}, {"a": True},
    jnp.float32, np.float32, np.dtype("float32"), jnp.sin, jnp.cos, Config("a"), Config("b"),
)  # fmt: skip
PLACES = ("plain", "scan", "vmap", "jit", "cond")
FORMS = ("vjp", "vjp, calls itself", "jvp", "jvp, calls itself", "jvp, third level")


def custom_of(form, place, forward, backward):
    """A function whose forward depends on one static argument and whose derivative on another."""

    def value(static, x):
        return x * number_of(static)

    if form.startswith("vjp"):
        f = jax.custom_vjp(lambda a, b, x: value(a, x), nondiff_argnums=(0, 1))

        def fwd(a, b, x):
            return (f(a, b, x) if "itself" in form else value(a, x)), x

        f.defvjp(fwd, lambda a, b, x, g: (g * number_of(b) * jnp.cos(x),))
    else:
        f = jax.custom_jvp(lambda a, b, x: value(a, x), nondiff_argnums=(0, 1))
        inner = jax.custom_jvp(lambda x: x * 1.0)
        inner.defjvp(lambda p, t: (p[0] * 1.0, t[0] * number_of(backward)))

        @f.defjvp
        def _(a, b, primals, tangents):
            (x,), (t,) = primals, tangents
            y = f(a, b, x) if "itself" in form else value(a, x)
            return y, t * inner(x) if "level" in form else t * number_of(b) * jnp.cos(x)

    called = partial(f, forward, backward)
    return {
        "plain": called,
        "scan": lambda x: lax.scan(lambda c, _: (called(c), None), x, None, length=2)[0],
        "vmap": jax.vmap(called),
        "jit": jax.jit(called),
        "cond": lambda x: lax.cond(x[0] > 0, called, lambda x: x, x),
    }[place]


SPECS = st.tuples(st.sampled_from(FORMS), st.sampled_from(PLACES), st.sampled_from(STATICS), st.sampled_from(STATICS))


@st.composite
def pairs_of_specs(draw):
    """Two specifications that are the same, or differ in one thing."""
    first = draw(SPECS)
    second = list(first)
    place = draw(st.integers(0, 4))
    if place < 4:
        second[place] = draw(SPECS)[place]
    return first, tuple(second)


def derivatives(fun):
    x = jnp.array([0.3, -0.2, 0.7])
    first = jax.grad(lambda x: fun(x).sum())
    return np.asarray(fun(x)), np.asarray(first(x)), np.asarray(jax.grad(lambda x: first(x).sum())(x))


@given(pairs_of_specs())
def test_equal_keys_mean_equal_values_and_derivatives(pair):
    """And the same function with the same static arguments has one key, so that not all keys just differ."""
    f, g = (custom_of(*spec) for spec in pair)
    a, b = key(f, ONE), key(g, ONE)
    same = all(x is y for x, y in zip(*pair, strict=True))
    if a == b and not same:
        for x, y in zip(derivatives(f), derivatives(g), strict=True):
            np.testing.assert_array_equal(x, y)
    assert key(f, ONE) == a
    if same:
        assert a == b


LINE = jnp.linspace(0.1, 1.0, 4)


PAIRS = {"vjp": (1, True), "vjp, calls itself": (2.0, 2), "jvp": ("a", "b"), "jvp, third level": (Config("a"), Config("b"))}


@pytest.mark.parametrize(("form", "statics"), PAIRS.items(), ids=PAIRS)
def test_calls_that_differ_by_static_arguments_have_their_own_gradients(form, statics):
    """Within one expression, across calls, in stages."""
    a, b = (custom_of(form, "plain", "same", s) for s in statics)

    def loss(x):
        for _ in range(3):
            x = jnp.tanh(a(x)) + jnp.tanh(b(x)) + a(b(x)) * 0.01
        return x.sum()

    wanted = jax.grad(loss)(LINE)
    for budget in (None, "min"):
        np.testing.assert_allclose(cg.grad(loss, budget=budget)(LINE), wanted, rtol=1e-4, atol=1e-8)
    for f in (a, b):
        alone = partial(jnp.vdot, LINE)
        found = cg.grad(lambda x, f=f: alone(f(x)))(LINE)
        np.testing.assert_allclose(found, jax.grad(lambda x, f=f: alone(f(x)))(LINE), rtol=1e-6)


def test_a_rule_that_reads_what_has_changed_is_traced_again():
    strength = {"now": 1.0}
    f = jax.custom_vjp(lambda x: x * 1.0)
    f.defvjp(lambda x: (x * 1.0, None), lambda _, g: (g * strength["now"],))
    for strength["now"] in (1.0, 3.0):
        np.testing.assert_array_equal(cg.grad(lambda x: f(x).sum())(ONE), strength["now"] * ONE)


def test_a_key_keeps_nothing_alive():
    def made():
        big = jnp.ones(1000) + 1
        f = jax.custom_vjp(lambda x: x * big)
        f.defvjp(lambda x: (x * big, None), lambda _, g: (g * big,))
        return [operation_key(op) for op in cg.trace(scan_of(f), jnp.ones(1000)).operations], weakref.ref(big)

    kept, seen = made()
    jax.clear_caches()
    gc.collect()
    assert kept == kept
    assert seen() is None


def test_jaxs_own_rules_are_traced_once_and_users_each_time(monkeypatch):
    user = jax.custom_jvp(lambda x: 2 * x)
    user.defjvp(lambda p, t: (2 * p[0], 2 * t[0]))
    traced, trace_key = [], fingerprint._traced_key
    monkeypatch.setattr(fingerprint, "_traced_key", lambda *args: traced.append(args) or trace_key(*args))

    def keys(f, x=1.0):
        return [fingerprint.operation_key(op) for op in cg.trace(lambda x: f(f(x)), x).operations]

    for f, times in ((jax.nn.relu, 1), (user, 2)):
        traced.clear()
        with fingerprint.each_rule_once():
            first, second = keys(f)
        assert first == second
        assert len(traced) == times
        with fingerprint.each_rule_once():
            other = keys(f, jnp.ones(3))[0]
        assert other != first


def test_the_equation_of_a_jitted_function_has_one_key_unless_a_users_rule_is_in_it(monkeypatch):
    user = jax.custom_jvp(lambda x: 2 * x)
    user.defjvp(lambda p, t: (2 * p[0], 2 * t[0]))
    made, make_key = [], fingerprint._key
    monkeypatch.setattr(fingerprint, "_key", lambda *args: made.append(args[0].name) or make_key(*args))
    inner = jax.jit(lambda x: jnp.cumsum(jax.lax.scan(lambda c, _: (user(c), None), x, None, length=2)[0]))
    with fingerprint.each_rule_once():
        keys = [fingerprint.operation_key(op) for op in cg.trace(lambda x: inner(inner(x)), jnp.ones(3)).operations]
    assert keys[: len(keys) // 2] == keys[len(keys) // 2 :]
    assert (made.count("cumsum"), made.count("scan")) == (1, 2)


class Scaled(list):
    """A list with a state beside its entries."""

    def __init__(self, values, scale):
        super().__init__(values)
        self.scale = scale


class Marked(float):
    """A number with a state beside it, which its equality does not know."""


def test_containers_and_numbers_of_users_with_a_state_are_equal_to_themselves_alone():
    one, other = Scaled([1, 2], 3.0), Scaled([1, 2], 4.0)
    assert fingerprint.value_key(one) == fingerprint.value_key(one)
    assert fingerprint.value_key(one) != fingerprint.value_key(other)
    assert fingerprint.value_key(Marked(1.0)) != fingerprint.value_key(Marked(1.0))
    assert fingerprint.value_key(np.float64(0.0)) != fingerprint.value_key(np.float64(-0.0))
    assert fingerprint.value_key(np.float64(2.0)) == fingerprint.value_key(np.float64(2.0))
