"""Equal stages share one kind, which is differentiated once; what computes differently never does."""

from __future__ import annotations

import gc
import threading
import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.autodiff import rule as registry
from ckptgrad.chain import kind as kind_module
from ckptgrad.chain import recent
from ckptgrad.chain.program import build_program, forget_kinds
from ckptgrad.chunks.markers import ONE_PASS
from ckptgrad.graph.graph import Graph
from ckptgrad.target.attached import attached
from ckptgrad.target.platform import platform_named
from tests.support.compare import assert_same

X = jnp.linspace(-1, 1, 12).reshape(4, 3)
W = jnp.linspace(-0.5, 0.5, 9).reshape(3, 3)


def layer(w, x):
    return x + jnp.tanh(x @ w)


def chain_of(layers):
    def loss(ws, x):
        for run, w in zip(layers, ws, strict=True):
            x = run(w, x)
        return x.sum()

    return loss


def kinds_inside(*layers, x=X, w=W):
    """The kinds of the stages between the first and the last, each one of `layers`."""
    program = cg.plan(chain_of([layer, *layers, layer]), [w] * (len(layers) + 2), x).program
    assert len(program.stages) == len(layers) + 2
    return [stage.kind for stage in program.stages[1:-1]]


@pytest.fixture
def differentiated(monkeypatch):
    """The graphs that were differentiated while the test ran, beginning without any known kind."""
    forget_kinds()
    seen = []

    def counted(graph, wrt, seeds, **options):
        seen.append(graph)
        return original(graph, wrt, seeds, **options)

    original = kind_module.joint
    monkeypatch.setattr(kind_module, "joint", counted)
    return seen


@pytest.mark.parametrize("depth", [10, 1000])
def test_equal_layers_are_differentiated_once_a_kind(differentiated, depth):
    loss, ws = chain_of([layer] * depth), [W] * depth
    program = cg.plan(loss, ws, X, budget="0.75x").program
    assert len(program.stages) == depth
    assert len(program.kinds) == len(differentiated) == 3


def test_a_function_traced_again_is_not_differentiated_again(differentiated):
    loss, ws = chain_of([layer] * 6), [W] * 6
    first = cg.plan(loss, ws, X, budget="min").program.kinds
    again = cg.plan(loss, ws, X).program.kinds
    shorter = cg.plan(chain_of([layer] * 4), ws[:4], X).program.kinds
    assert first == again == shorter
    assert len(differentiated) == 3


def test_kinds_are_forgotten_in_time(differentiated, monkeypatch):
    monkeypatch.setattr(recent, "MOST_ENTRIES", 2)
    for width in (3, 4, 5, 3):
        cg.plan(chain_of([layer]), [jnp.ones((width, width))], jnp.ones((2, width)))
        gc.collect()
    assert len(differentiated) == 4


def closed_over(array):
    return lambda w, x: layer(w, x) * array


def with_rule(slope):
    @jax.custom_jvp
    def f(x):
        return jnp.sin(x)

    f.defjvp(lambda p, t: (jnp.sin(p[0]), t[0] * slope))
    return lambda w, x: f(x @ w)


ONES, TWOS = jnp.ones(3), np.full(3, 2.0, np.float32)

EQUAL = {
    "the same function": (layer, layer),
    "equal functions": (lambda w, x: layer(w, x), lambda p, y: layer(p, y)),
    "under jit or not": (layer, jax.jit(layer)),
    "under checkpoint or not": (layer, jax.checkpoint(layer)),
    "closures with different arrays": (closed_over(ONES), closed_over(TWOS)),
    "equal literals": (lambda w, x: layer(w, x) * 2.0, lambda w, x: layer(w, x) * 2.0),
    "one custom rule made twice": (with_rule(2.0), with_rule(2.0)),
}

DIFFERENT = {
    "literal": (lambda w, x: layer(w, x) * 2.0, lambda w, x: layer(w, x) * 3.0),
    "nearly equal literals": (
        lambda w, x: layer(w, x) * np.float32(2.0),
        lambda w, x: layer(w, x) * np.nextafter(np.float32(2), 3, dtype=np.float32),
    ),
    "primitive": (layer, lambda w, x: x + jnp.sin(x @ w)),
    "which operand": (lambda w, x: x - jnp.tanh(x @ w), lambda w, x: jnp.tanh(x @ w) - x),
    "static parameter": (lambda w, x: layer(w, x) ** 2, lambda w, x: layer(w, x) ** 3),
    "precision": (layer, lambda w, x: x + jnp.tanh(jnp.matmul(x, w, precision="highest"))),
    "what is not differentiated": (layer, lambda w, x: x + jnp.tanh(x @ jax.lax.stop_gradient(w))),
    "custom rule": (with_rule(2.0), with_rule(3.0)),
}


@pytest.mark.parametrize(("left", "right"), EQUAL.values(), ids=EQUAL)
def test_equal_stages_share_a_kind(left, right):
    first, second = kinds_inside(left, right)
    assert first is second


@pytest.mark.parametrize(("left", "right"), DIFFERENT.values(), ids=DIFFERENT)
def test_different_stages_do_not(left, right):
    first, second = kinds_inside(left, right)
    assert first is not second


@pytest.mark.parametrize("budget", [None, "min"])
@pytest.mark.parametrize(("left", "right"), [*EQUAL.values(), *DIFFERENT.values()], ids=[*EQUAL, *DIFFERENT])
def test_each_stage_computes_what_is_its_own(left, right, budget):
    loss, ws = chain_of([layer, left, right, left, layer]), [W, W * 0.5, W.T, W, -W]
    found = cg.value_and_grad(loss, (0, 1), budget=budget)(ws, X)
    assert_same(found, jax.value_and_grad(loss, (0, 1))(ws, X), scale=8)


def test_types_and_shapes_tell_kinds_apart():
    (plain,) = kinds_inside(layer)
    assert kinds_inside(layer)[0] is plain
    assert kinds_inside(layer, x=X.astype(jnp.bfloat16), w=W.astype(jnp.bfloat16))[0] is not plain
    assert kinds_inside(layer, x=X[:2])[0] is not plain
    with jax.enable_x64(True):
        assert kinds_inside(layer)[0] is not plain


def test_a_replaced_rule_makes_new_kinds(differentiated):
    (before,) = kinds_inside(layer)
    generation, rule = registry.generation(), registry.registered()["tanh"]
    registry.unregister("tanh")
    try:
        cg.bprop_rule("tanh")(lambda app, ct: (ct * 100.0,))
        assert registry.generation() > generation
        (during,) = kinds_inside(layer)
        found = cg.grad(chain_of([layer]))([W], X)[0]
        assert_same(found, 100.0 * jnp.tile(X.sum(0)[:, None], 3), scale=4)
    finally:
        registry.unregister("tanh")
        registry.register(rule)
    (after,) = kinds_inside(layer)
    assert len({id(kind) for kind in (before, during, after)}) == 3
    assert_same(cg.grad(chain_of([layer]))([W], X), jax.grad(chain_of([layer]))([W], X), scale=4)


def test_a_kind_whose_rule_captured_a_tracer_is_not_used_by_another_trace():
    """`scale` is a tracer of one outer trace: another must not meet it."""

    def step(scale):
        @jax.custom_vjp
        def f(x):
            return x * 2.0

        f.defvjp(lambda x: (x * 2.0, None), lambda _, ct: (ct * scale,))
        return cg.grad(lambda x: f(jnp.tanh(x)).sum(), budget="min")(X)

    for s in (2.0, 3.0):
        assert_same(jax.jit(step)(s), (1 - jnp.tanh(X) ** 2) * s, scale=4)


def attention(w, x):
    """With a weight whose gradient contracts two axes, and a product in batches."""
    k = x @ w
    return jnp.einsum("bqd,bkd->bqk", x, k).astype(jnp.float32).sum()


def batched_products(graph):
    return [op for op in graph.operations if op.name == "dot_general" and op.params["dimension_numbers"][1][0]]


def contracted_axes(graph):
    return max(len(op.params["dimension_numbers"][0][0]) for op in graph.operations if op.name == "dot_general")


@pytest.mark.parametrize(("chip", "most", "cotangent"), [("tpu", 2, 0), ("gpu", 1, 1), ("cpu", 1, 1)])
@pytest.mark.parametrize("over_chunks", [False, True])
def test_gradients_of_products_have_the_form_for_the_target_over_chunks_too(chip, most, cotangent, over_chunks):
    target = replace(attached(), platform=platform_named(chip), attached=False)
    graph = cg.trace(attention, W, jnp.ones((8, 5, 3)))
    (stage,) = build_program(graph, graph.inputs, graph.outputs, target, cuts=[], chunked=True).stages
    operations = (op for option in stage.kind.options for op in option.partition.joint.operations)
    joint = next(op.params["loop"] for op in operations if op.name == ONE_PASS).joint(2) if over_chunks else stage.kind.joint
    graph = Graph(joint.inputs, joint.gradients, joint.operations, joint.constants)
    assert contracted_axes(graph) == most
    # Of the three the last makes the gradient of the second operand.
    forward, *backward = batched_products(graph)
    assert forward.outputs[0].shape[1:] == (5, 5)
    places = [[a.aval.shape[1:] for a in op.inputs].index((5, 5)) for op in backward]
    assert sorted(places) == sorted([0, cotangent])


def test_a_rule_may_differentiate_while_another_thread_does():
    """What is computed once for a kind traces users' rules, so it may hold no lock that another kind needs."""

    def inner(x):
        return jnp.sum(jax.lax.scan(lambda c, _: (jnp.tanh(jnp.sin(c) * c), None), x, None, length=4)[0])

    inside = threading.Event()

    @jax.custom_vjp
    def cubic(x):
        return x**3

    def backward(x, ct):
        inside.set()
        time.sleep(0.5)  # The other thread is in the middle of differentiating `inner`.
        return (ct * 3 * x**2 + 0 * cg.grad(inner)(x),)

    cubic.defvjp(lambda x: (x.value**3, x.value), backward, symbolic_zeros=True)
    gradients = {}

    def with_rule():
        loss = lambda x: jnp.sum(jax.lax.scan(lambda c, _: (cubic(c) * 0.1, None), x, None, length=3)[0])
        gradients["rule"] = cg.grad(loss)(X[0])

    def without_rule():
        inside.wait(60)
        gradients["inner"] = cg.grad(inner)(X[0])

    threads = [threading.Thread(target=run, daemon=True) for run in (with_rule, without_rule)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert gradients.keys() == {"rule", "inner"}
    assert_same(gradients["inner"], jax.grad(inner)(X[0]))
