"""Stages are left whole: recomputation is not merged with the first computation, and nothing else changes."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.execution.isolated import add_isolated, isolated
from ckptgrad.planning.schedule import Forward, Free, Schedule
from ckptgrad.target.allocated import compiled_memory
from ckptgrad.target.attached import attached
from tests.support.compare import assert_same

DEPTH = 10
HERE = attached().platform.isolation
X = jnp.linspace(-1, 1, 512 * 32).reshape(512, 32)
WS = [jnp.linspace(-0.5, 0.5, 32 * 32).reshape(32, 32) / (k + 1) for k in range(DEPTH)]
ODD = jnp.array([[jnp.nan, jnp.inf, -jnp.inf], [0.0, -0.0, 1e-38]])


def loss(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return (x**2).mean()


def elementwise(ws, x):
    for w in ws:
        x = jnp.sin(jnp.exp(x * w[0])) + jnp.cos(x)
    return x.sum()


def compiled(fun, *args):
    return jax.jit(fun).lower(*args).compile()


def test_recomputation_survives_the_compiler():
    """Less memory and more arithmetic: both vanish if XLA merges the recomputation away."""
    stored = compiled(cg.grad(loss, policy="store_all"), WS, X)
    again = compiled(cg.grad(loss, policy="recompute_all"), WS, X)
    assert compiled_memory(again).temporary_bytes < 0.7 * compiled_memory(stored).temporary_bytes
    assert again.cost_analysis()["transcendentals"] > 1.5 * stored.cost_analysis()["transcendentals"]


@pytest.mark.parametrize("fun", [loss, elementwise])
def test_fewer_boundaries_take_less_memory(fun):
    stored, fewer = (compiled_memory(compiled(cg.grad(fun, policy=p), WS, X)) for p in ("store_all", "sqrt"))
    assert fewer.temporary_bytes < 0.8 * stored.temporary_bytes


def test_each_recomputed_product_is_in_the_compiled_program():
    def products(policy):
        text = compiled(cg.grad(loss, policy=policy), WS, X).as_text()
        return sum(line.count(" dot(") for line in text.splitlines()) + text.count("__onednn$matmul")

    stored = products("store_all")
    assert stored >= 3 * DEPTH - 1
    assert products("recompute_all") >= stored + DEPTH - 2


def test_two_isolated_calls_are_two_and_of_two_plain_ones_one_is_left():
    """What `isolated` is for, on one product."""

    def twice(run):
        def both(x, w):
            return run([x, w]), run([x, w], [jnp.cos(x[0])])

        return compiled(both, X, WS[0]).cost_analysis()["transcendentals"]

    def product(operands, after=()):
        return [jnp.tanh(operands[0] @ operands[1])]

    assert (twice(product), twice(isolated(product, HERE))) == (X.size, 2 * X.size + X.shape[1])


def test_a_repetition_before_the_first_backward_is_one():
    """No cotangent is there yet to tell it from the first run."""

    def transcendentals(schedule):
        return compiled(cg.grad(loss, policy=schedule), WS, X).cost_analysis()["transcendentals"]

    stored = cg.plan(loss, WS, X, policy="store_all").schedule
    first = Forward(0), Forward(1), Free(1), Free(2)
    twice = Schedule((*first, *first, *stored.actions), "by hand")
    assert transcendentals(twice) >= transcendentals(stored) + 3 * X.size


def test_calls_inside_are_not_left_whole():
    """Small calls in a stage are fused as ever."""
    run = isolated(lambda x: [jax.jit(jnp.sin)(x[0]) + jax.jit(jnp.cos)(x[0])], HERE)
    text = compiled(lambda x: run([x]), X).as_text()
    assert text.count(" call(") == 1


def test_the_next_stage_does_not_do_the_work_of_the_last_one():
    """Along a chain of sums a fusing compiler keeps every term alive, unless each sum is isolated."""

    def chain(add):
        def run(x, ws):
            total = x
            for w in ws:
                total = add(total, total @ w)
            return total

        return compiled_memory(compiled(run, X, WS)).temporary_bytes

    assert chain(partial(add_isolated, isolation=HERE)) <= 3 * X.nbytes + 1024 * DEPTH


VALUES = {
    "float": X, "nan and infinity": ODD, "integers": jnp.arange(6), "booleans": jnp.arange(4) > 1,
    "bfloat16": X.astype(jnp.bfloat16), "complex": ODD * 1j, "scalar": jnp.float32(3), "empty": jnp.zeros((0, 2)),
    "uint8": jnp.arange(3, dtype=jnp.uint8),
}  # fmt: skip


FIRST = [0.0, -1e30, np.inf, -np.inf, np.nan, 1j, 3, np.zeros((0, 2)), np.ones((2, 3), jnp.bfloat16)]


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_what_waits_is_the_same_whatever_it_waits_for(value, first):
    """Also for nan and infinity, and for what cannot tell."""
    first = jnp.asarray(first)
    run = isolated(lambda values: [values[0]], HERE)

    def way(v, f):
        return run([v], [f])[0]

    assert_same(way(value, first), value, bits=True)
    assert_same(jax.jit(way)(value, first), value, bits=True)


def test_keys_are_isolated_too():
    for key in (jax.random.key(3), jax.random.split(jax.random.key(4, impl="rbg"))):
        (seen,) = jax.jit(isolated(lambda keys: [jax.random.clone(keys[0])], HERE))([key], [jnp.ones(3)])
        assert seen.dtype == key.dtype
        assert (jax.random.key_data(seen) == jax.random.key_data(key)).all()


def in_isolation(x, y):
    return isolated(lambda values: [values[0] * values[1] + 1.0, values[0] - 2.0], HERE)([x, y], [y])


def plainly(x, y):
    return [x * y + 1.0, x - 2.0]


AROUND = {
    "plain": lambda f: f,
    "jit": jax.jit,
    "vmap": lambda f: jax.vmap(f),
    "vmap of one": lambda f: lambda x, y: jax.vmap(f, (0, None))(x, y[0]),
    "jit of vmap": lambda f: jax.jit(jax.vmap(f)),
    "reverse": lambda f: jax.grad(lambda x, y: sum((z**2).sum() for z in f(x, y)), (0, 1)),
    "forward": lambda f: lambda x, y: jax.jvp(f, (x, y), (y, x)),
    "reverse of reverse": lambda f: jax.grad(lambda x, y: jax.grad(lambda u: (f(u, y)[0] ** 3).sum())(x).sum(), (0, 1)),
    "reverse of vmap": lambda f: jax.grad(lambda x, y: (jax.vmap(f)(x, y)[0] ** 2).sum()),
    "ours": lambda f: cg.grad(lambda x, y: sum((z**2).sum() for z in f(x, y)), (0, 1), budget="min"),
    "scan": lambda f: lambda x, y: jax.lax.scan(lambda c, _: (f(c, y)[0], c), x, None, length=3),
}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
def test_stages_under_transformations(around):
    x, y = X[:4], jnp.cos(X[:4])
    assert_same(around(in_isolation)(x, y), around(plainly)(x, y), scale=4)


def test_stages_are_taken_apart_where_they_are_differentiated_again():
    """The outer plan decides: no barrier of the inner one is left in its graph."""
    graph = cg.trace(cg.grad(loss, policy="recompute_all"), WS, X)
    assert {"optimization_barrier", "jit", "pjit"}.isdisjoint(op.name for op in graph.operations)


def test_stages_are_left_whole_under_vmap():
    """A batch of gradients takes a batch of the bytes."""
    xs = jnp.stack([X] * 4)
    one, four = (
        compiled_memory(compiled(f, WS, x)).temporary_bytes
        for f, x in ((cg.grad(loss, policy="sqrt"), X), (jax.vmap(cg.grad(loss, policy="sqrt"), (None, 0)), xs))
    )
    stored = compiled_memory(compiled(jax.vmap(cg.grad(loss, policy="store_all"), (None, 0)), WS, xs)).temporary_bytes
    assert four <= 4.2 * one
    assert four < 0.8 * stored
