"""Programs for targets that keep barriers, run here: the compiler drops them, the gradients must be right all the same."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import ckptgrad as cg
from ckptgrad.execution.interpreter import SUMS_AFTER_OPEN
from ckptgrad.target.allocated import compiled_memory
from ckptgrad.target.attached import attached
from ckptgrad.target.platform import platform_named
from ckptgrad.target.target import Target
from tests.support.compare import assert_same
from tests.support.devices import on_four_devices

HERE = attached()
W = jnp.linspace(-0.4, 0.5, 64).reshape(8, 8)
X = jnp.linspace(-1, 1, 256).reshape(32, 8)


def like(name):
    """This machine, with programs as for another platform."""
    other = platform_named(name)
    ways = {k: getattr(other, k) for k in ("isolation", "calls_if_spread", "sums_last", "open_if_stored", "forms")}
    return replace(HERE, platform=replace(HERE.platform, **ways))


TARGETS = {name: like(name) for name in ("gpu", "tpu")}


def shared(w, x):
    """The same weights in every layer: gradients are totals, to which stages add."""
    for _ in range(4):
        x = x + jnp.tanh(x @ w)
    return (x**2).mean()


def attention(w, x):
    for _ in range(2):
        q, k = x @ w, x @ w.T
        x = x + jax.nn.softmax(q @ k.T) @ jnp.sin(x)
    return (x**2).mean()


def rows(w, x):
    """Contracts several axes for the gradient of the weights."""
    x = x.reshape(4, 8, 8)
    for _ in range(3):
        x = jnp.sin(x @ w) + x
    return x.sum()


def looped(w, x):
    x = jax.lax.scan(lambda x, _: (jnp.tanh(x @ w) + x, None), x, None, length=3)[0]
    return (jnp.sin(x @ w) ** 2).mean()


def random(w, x):
    key = jax.random.key(0)
    for k in range(3):
        x = jnp.sin(x @ w) * jax.random.bernoulli(jax.random.fold_in(key, k), 0.5, x.shape)
    return x.sum()


def mutable(w, x):
    total = jax.new_ref(jnp.zeros_like(x))
    for _ in range(3):
        x = jnp.sin(x @ w)
        total[...] += x
    return (total[...] ** 2).mean()


LOSSES = (shared, attention, rows, looped, random, mutable)
PLANS = {"stored": {"policy": "store_all"}, "again": {"policy": "recompute_all"}, "least": {"budget": "min"}}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", TARGETS)
def test_gradients_are_those_of_jax(name, loss, plan):
    found = jax.jit(cg.grad(loss, (0, 1), target=TARGETS[name], **plan))(W, X)
    assert_same(found, jax.jit(jax.grad(loss, (0, 1)))(W, X), scale=20, whole=True)


def ours(plan):
    return cg.grad(shared, target=TARGETS["tpu"], **plan)


AROUND = {
    "vmap": (lambda f: lambda w, x: jax.vmap(f, (None, 0))(w, jnp.stack([x, 2 * x])), 1),
    "grad of grad": (lambda f: jax.grad(lambda w, x: jnp.sin(f(w, x)).sum()), 2),
    "ours of ours": (lambda f: cg.grad(lambda w, x: jnp.sin(f(w, x)).sum(), target=TARGETS["gpu"], budget="min"), 2),
    "jvp": (lambda f: lambda w, x: jax.jvp(lambda w: f(w, x), (w,), (w,)), 2),
    "scan": (lambda f: lambda w, x: jax.lax.scan(lambda c, _: (c - 0.1 * f(c, x), None), w, None, length=2)[0], 1),
}


@pytest.mark.parametrize("plan", [PLANS["again"], PLANS["least"]], ids=["again", "least"])
@pytest.mark.parametrize(("around", "order"), AROUND.values(), ids=AROUND)
def test_gradients_under_transformations(around, order, plan):
    found = jax.jit(around(ours(plan)))(W, X)
    assert_same(found, jax.jit(around(jax.grad(shared)))(W, X), scale=100 * order, whole=True)


def test_a_pullback_runs_again_what_it_needs():
    value, pull = cg.vjp(shared, W, X, target=TARGETS["gpu"], budget="min")
    expected, pull_of_jax = jax.vjp(shared, W, X)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    for seed in (1.0, 2.0):
        assert_same(pull(jnp.float32(seed)), pull_of_jax(jnp.float32(seed)), scale=20, whole=True)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_effects_happen_once(plan):
    seen = []

    def loud(w, x):
        for _ in range(3):
            x = jnp.tanh(x @ w)
            jax.debug.callback(lambda v: seen.append(float(v)), x[0, 0])
        return x.sum()

    jax.block_until_ready(jax.jit(cg.grad(loud, target=TARGETS["gpu"], **plan))(W, X))
    jax.effects_barrier()
    assert len(seen) == 3


def test_gradients_inside_shard_map():
    """Values that vary over a mesh, and others that do not, pass no barrier together."""
    mesh = Mesh(np.array(jax.devices()[:1]), ("data",))

    def of(grad):
        def step(w, x):
            return jax.lax.psum(grad(lambda w: shared(w, x))(w), "data")

        return jax.jit(jax.shard_map(step, mesh=mesh, in_specs=(P(), P("data")), out_specs=P()))(W, X)

    again = of(lambda f: cg.grad(f, target=TARGETS["gpu"], policy="recompute_all"))
    assert_same(again, of(jax.grad), scale=20, whole=True)


def fences(name, **plan):
    """The number of barriers in a lowered gradient, of layers that share nothing."""

    def loss(ws, x):
        for w in ws:
            x = x + jnp.tanh(x @ w)
        return (x**2).mean()

    # Wide enough for a product to take longer than reading its result.
    wide = jax.ShapeDtypeStruct((256, 256), jnp.float32)
    text = (
        jax.jit(cg.grad(loss, target=TARGETS[name], **plan))
        .lower([wide] * 4, jax.ShapeDtypeStruct((1024, 256), jnp.float32))
        .as_text()
    )
    return text.count("stablehlo.optimization_barrier")


def test_only_what_runs_again_is_fenced():
    """On TPU nothing of a plan that stores all."""
    assert fences("tpu", policy="store_all") == 0
    assert fences("tpu", policy="recompute_all") > 0
    assert fences("gpu", policy="store_all") > 0


def check_over_devices():
    """Where barriers keep nothing that runs again, as on several TPUs, stages are calls: within a budget of these here, too.

    XLA's CPU compiler of jaxlib 0.10 drops barriers, that of 0.12 keeps the one that matters here.
    """
    mesh = jax.make_mesh((4,), ("data",))
    x = jnp.sin(jnp.arange(8192 * 8.0)).reshape(8192, 8)
    args = jax.device_put(W, NamedSharding(mesh, P())), jax.device_put(x, NamedSharding(mesh, P("data")))

    def deep(w, x):
        for _ in range(6):
            x = jnp.tanh(jnp.sin(x) @ w) + x
        return (x**2).mean()

    rival = jax.jit(jax.value_and_grad(deep)).lower(*args).compile()
    budget = int(0.6 * compiled_memory(rival).peak_bytes)
    target = TARGETS["tpu"]
    found = cg.value_and_grad(deep, budget=budget, target=target).compile(*args)
    barriers_only = replace(target, platform=replace(target.platform, calls_if_spread=False))
    if found.plan.called:
        with pytest.raises(cg.BudgetError):
            cg.value_and_grad(deep, budget=budget, target=barriers_only).compile(*args)
    else:
        assert cg.value_and_grad(deep, budget=budget, target=barriers_only).compile(*args).peak_bytes <= budget
    assert found.peak_bytes <= budget
    assert ("calls that are not inlined" in str(found.plan)) == found.plan.called
    assert_same(found(*args), rival(*args), scale=50)


def test_over_several_devices_stages_are_called_where_barriers_keep_nothing_apart():
    on_four_devices(__name__, "check_over_devices()")


def layers(ws, x):
    """Weights of their own, and weights that all layers share, whose gradients are totals."""
    *ws, shared = ws
    for w in ws:
        x = jnp.tanh(x @ w) + x @ shared
    return (x**2).mean()


def check_sums():
    """What is summed over devices is there before the next backward, where all would wait for the end; cut or whole."""
    mesh = jax.make_mesh((4,), ("data",))
    x = jax.device_put(X, NamedSharding(mesh, P("data")))
    target = TARGETS["tpu"]
    late = replace(target, platform=replace(target.platform, sums_last=False))
    for spec in (P(), P("data")):  # Replicated, as by data parallelism, or cut, as by FSDP.
        ws = jax.device_put([(k + 1) * W / 4 for k in range(4)], NamedSharding(mesh, spec))
        expected = jax.jit(jax.value_and_grad(layers))(ws, x)
        for plan in PLANS.values():
            found = cg.value_and_grad(layers, target=target, **plan)
            assert_same(jax.jit(found)(ws, x), expected, scale=20)
            now, then = (
                jax.jit(cg.value_and_grad(layers, target=t, **plan)).lower(ws, x).as_text().count("optimization_barrier")
                for t in (target, late)
            )
            assert now > then


def test_sums_over_devices_do_not_wait_for_the_end():
    on_four_devices(__name__, "check_sums()")


def check_sums_between_open_stages():
    """They are there some backwards later; the last ones when the compiler likes."""
    mesh = jax.make_mesh((4,), ("data",))
    x = jax.device_put(X, NamedSharding(mesh, P("data")))
    target = TARGETS["tpu"]
    late = replace(target, platform=replace(target.platform, sums_last=False))
    compile_program, programs = Target.compile, []
    Target.compile = lambda self, lowered: programs.append(lowered.as_text()) or compile_program(self, lowered)
    for spec in (P(), P("data")):
        ws = jax.device_put([(k + 1) * W / 8 for k in range(7)], NamedSharding(mesh, spec))
        expected = jax.jit(jax.value_and_grad(layers))(ws, x)
        counts = []
        for t in (target, late):
            programs.clear()
            safe = cg.value_and_grad(layers, target=t).compile(ws, x)
            assert not safe.plan.fenced
            assert_same(safe(ws, x), expected, scale=20)
            counts.append(programs[-1].count("optimization_barrier"))
        sums = sum(len(stage.differentiated) > 1 for stage in safe.plan.program.stages)
        assert 0 < counts[0] - counts[1] <= sums - SUMS_AFTER_OPEN


def test_sums_over_devices_wait_for_some_backwards_of_open_stages():
    on_four_devices(__name__, "check_sums_between_open_stages()")
