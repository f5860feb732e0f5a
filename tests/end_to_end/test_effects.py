"""Side effects and random bits under recomputation: effects happen once, random bits are drawn alike."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import io_callback

import ckptgrad as cg
from tests.support.compare import assert_same

DEPTH = 5
X = jnp.linspace(-1, 1, 64 * 8).reshape(64, 8)
WS = [jnp.linspace(-0.5, 0.5, 64).reshape(8, 8) / (k + 1) for k in range(DEPTH)]
POLICIES = ["store_all", "recompute_all", "sqrt", "optimal"]


def chain_with(effect, at=range(DEPTH)):
    """A chain whose layers `at` call `effect(k, x)` before they compute, each layer a stage."""

    def layer(k):
        def run(w, x):
            if k in at:
                effect(k, x)
            return x + jnp.tanh(x @ w)

        return cg.stage(run)

    layers = [layer(k) for k in range(DEPTH)]

    def loss(ws, x):
        for run, w in zip(layers, ws, strict=True):
            x = run(w, x)
        return (x**2).mean()

    return loss


def finished(run):
    result = jax.block_until_ready(run())
    jax.effects_barrier()
    return result


def recomputed(policy, loss):
    budget = "min" if policy == "optimal" else None
    return cg.plan(loss, WS, X, policy=policy, budget=budget).simulation.recomputations


def doors(policy, loss):
    door = cg.value_and_grad(loss, policy=policy, budget="min" if policy == "optimal" else None)
    return {
        "plain": lambda: door(WS, X),
        "jit": lambda: jax.jit(door)(WS, X),
        "compiled": lambda: door.compile(WS, X)(WS, X),
    }


@pytest.mark.parametrize("how", ["plain", *(pytest.param(how, marks=pytest.mark.slow) for how in ("jit", "compiled"))])
@pytest.mark.parametrize("policy", POLICIES)
def test_a_callback_runs_once_though_its_stage_is_recomputed(policy, how):
    seen = []
    loss = chain_with(lambda k, x: jax.debug.callback(lambda mean: seen.append((k, float(mean))), x.mean()))
    assert (recomputed(policy, loss) > 0) is (policy != "store_all")
    found = finished(doors(policy, loss)[how])
    assert sorted(k for k, _ in seen) == list(range(DEPTH))
    wanted = list(seen)
    seen.clear()
    assert_same(found, finished(lambda: jax.value_and_grad(loss)(WS, X)), scale=4)
    np.testing.assert_allclose(sorted(wanted), sorted(seen), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_print_prints_once(policy, capfd):
    loss = chain_with(lambda k, x: jax.debug.print("layer {k}", k=k))
    finished(doors(policy, loss)["jit"])
    printed = [line for line in capfd.readouterr().out.splitlines() if line.startswith("layer")]
    assert sorted(printed) == [f"layer {k}" for k in range(DEPTH)]


def test_a_callback_whose_result_is_read_runs_once_or_is_refused():
    """A second run might give another result, and nothing would agree with anything."""
    calls = []

    def host(mean):
        calls.append(1)
        return np.float32(mean)

    def loss(ws, x):
        for k, w in enumerate(ws):
            if k == 3:
                x = x + io_callback(host, jax.ShapeDtypeStruct((), jnp.float32), jax.lax.stop_gradient(x.mean()))
            x = x + jnp.tanh(x @ w)
        return (x**2).mean()

    found = finished(doors("store_all", loss)["jit"])
    assert len(calls) == 1
    assert_same(found, finished(lambda: jax.value_and_grad(loss)(WS, X)), scale=4)
    calls.clear()
    with pytest.raises(cg.EffectError, match=r"result is read .*test_effects\.py:\d+"):
        finished(doors("recompute_all", loss)["jit"])
    assert calls == []


ORDERED = {
    "debug.callback": lambda seen: lambda k, x: jax.debug.callback(lambda m: seen.append(k), x.mean(), ordered=True),
    "debug.print": lambda seen: lambda k, x: (
        jax.debug.print("{k}", k=k, ordered=True), jax.debug.callback(lambda m: seen.append(k), x.mean()),
    ),
    "io_callback": lambda seen: lambda k, x: io_callback(lambda m: seen.append(k), None, x.mean(), ordered=True),
}  # fmt: skip


@pytest.mark.parametrize("how", ["plain", "jit", "compiled"])
@pytest.mark.parametrize("effect", ORDERED.values(), ids=ORDERED)
def test_an_ordered_effect_that_would_run_again_is_refused_before_anything_runs(effect, how):
    seen = []
    loss = chain_with(effect(seen), at=[2])
    with pytest.raises(cg.EffectError, match=r"stage 2 .*test_effects\.py:\d+.*store_all") as caught:
        finished(doors("recompute_all", loss)[how])
    assert isinstance(caught.value, ValueError)
    jax.effects_barrier()
    assert seen == []


def test_an_ordered_effect_runs_in_order_where_nothing_is_recomputed():
    seen = []
    loss = chain_with(ORDERED["debug.callback"](seen))
    found = finished(lambda: jax.jit(cg.value_and_grad(loss, policy="store_all"))(WS, X))
    assert seen == list(range(DEPTH))
    assert_same(found, finished(lambda: jax.value_and_grad(loss)(WS, X)), scale=4)


def test_an_ordered_effect_in_a_stage_that_is_not_recomputed_is_no_matter():
    """The last stage is never run twice, whatever the plan does to those before."""
    seen = []
    loss = chain_with(lambda k, x: None)

    def talking(ws, x):
        value = loss(ws, x)
        jax.debug.callback(lambda v: seen.append(float(v)), value, ordered=True)
        return value

    assert recomputed("recompute_all", talking) > 0
    value, _ = finished(lambda: jax.jit(cg.value_and_grad(talking, policy="recompute_all"))(WS, X))
    assert seen == [float(value)]


@pytest.mark.parametrize("impl", ["threefry2x32", pytest.param("rbg", marks=pytest.mark.slow), "raw"])
@pytest.mark.parametrize("policy", POLICIES)
def test_recomputation_draws_the_same_dropout(policy, impl):
    key = jax.random.PRNGKey(7) if impl == "raw" else jax.random.key(7, impl=impl)

    def loss(ws, x, key):
        for w in ws:
            key, here = jax.random.split(key)
            keep = jax.random.bernoulli(here, 0.7, x.shape)
            x = x + jnp.where(keep, jnp.tanh(x @ w) / 0.7, 0.0)
        return (x**2).mean()

    door = cg.value_and_grad(loss, policy=policy, budget="min" if policy == "optimal" else None)
    assert_same(jax.jit(door)(WS, X, key), jax.jit(jax.value_and_grad(loss))(WS, X, key), scale=4)


def test_random_bits_of_the_backward_are_those_of_the_forward():
    """With zeros where dropped, the gradient's zeros are exactly the forward's."""

    def loss(x, key):
        kept = []
        for k in jax.random.split(key, 6):
            x = jnp.where(jax.random.bernoulli(k, 0.8, x.shape), x * 1.1, 0.0)
            kept.append(x)
        return x.sum(), kept[-1]

    grad, last = cg.grad(loss, has_aux=True, policy="recompute_all")(jnp.ones((64, 64)), jax.random.key(0))
    assert ((grad == 0) == (last == 0)).all()
    assert 0.1 < float((grad != 0).mean()) < 0.5


WHOLE = jax.ShapeDtypeStruct(X.shape, X.dtype)
P = X + 2


def drawing(ordered):
    """A loss that is linear in p, by numbers that are others each time they are asked for."""
    rng = np.random.default_rng(0)

    def drawn():
        return io_callback(lambda: rng.normal(size=X.shape).astype(np.float32), WHOLE, ordered=ordered)

    return drawn


def stepped(p, drawn):
    return jax.lax.scan(lambda total, _: (total + (jnp.tanh(drawn()) * p).sum(), None), 0.0, length=3)[0]


def in_layers(p, drawn):
    return sum((jnp.tanh(drawn()) * p).sum() for _ in range(3))


def in_a_branch(p, drawn):
    return jax.lax.cond(p[0, 0] > 0, lambda p: (jnp.tanh(drawn()) * p).sum(), lambda p: p.sum(), p)


def uniform():
    return jax.lax.rng_uniform(0.0, 1.0, X.shape)


@pytest.mark.parametrize("drawn", [drawing(False), drawing(True), uniform], ids=["io_callback", "ordered", "rng_uniform"])
@pytest.mark.parametrize("loss", [in_layers, stepped, in_a_branch])
def test_what_is_drawn_is_drawn_once_and_the_gradient_is_that_of_what_was_drawn(loss, drawn):
    """The backward drew other numbers: a stage that keeps only its input asked the host again."""
    if drawn is not uniform and loss is in_a_branch:
        drawn = drawing(False)  # A branch has no ordered effects in JAX.
    value, gradient = cg.value_and_grad(lambda p: loss(p, drawn)).compile(P)(P)
    np.testing.assert_allclose(jnp.vdot(gradient, P), value, rtol=1e-4, atol=1e-3)
    assert float(jnp.abs(gradient).max()) > 0.1


@pytest.mark.parametrize("drawn", [drawing(False), uniform])
def test_what_is_drawn_in_a_loop_of_unknown_length_is_refused(drawn):
    def loss(p, n):
        return jax.lax.fori_loop(0, n, lambda i, total: total + (jnp.tanh(drawn()) * p).sum(), 0.0)

    with pytest.raises(cg.EffectError, match=r"while at .*test_effects\.py:\d+"):
        cg.grad(loss)(P, jnp.int32(3))


def test_what_is_drawn_in_a_planned_loop_is_refused():
    def loss(p):
        return cg.scan(lambda total, _: (total + (jnp.tanh(uniform()) * p).sum(), None), 0.0, length=3)[0]

    for grad in (cg.grad, jax.grad):
        with pytest.raises(cg.EffectError, match=r"scan at .*test_effects\.py:\d+"):
            grad(loss)(P)


@pytest.mark.parametrize("options", [{}, {"budget": "min"}], ids=str)
def test_what_only_a_custom_rule_draws_is_drawn_once_in_a_loop(options):
    """Neither the loop nor its body says anything of it: it stands in the rule."""

    @jax.custom_vjp
    def noisy(p):
        return p.sum()

    def forward(p):
        noise = jnp.tanh(uniform())
        return (noise * p).sum(), noise

    noisy.defvjp(forward, lambda noise, g: (g * noise,))

    def loss(p):
        return jax.lax.scan(lambda total, _: (total + noisy(p), None), 0.0, length=9)[0]

    value, gradient = cg.value_and_grad(loss, **options).compile(P)(P)
    np.testing.assert_allclose(jnp.vdot(gradient, P), value, rtol=1e-4)


def test_drawing_again_is_refused():
    def loss(p):
        for _ in range(3):
            p = cg.stage(lambda p: jnp.tanh(p + uniform()))(p)
        return p.sum()

    with pytest.raises(cg.EffectError, match=r"rng_uniform at .*test_effects\.py:\d+.*use jax.random"):
        cg.grad(loss, policy="recompute_all")(P)
