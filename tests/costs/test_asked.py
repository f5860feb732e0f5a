"""A compiler is asked about the stages of which no estimate is sure: predictions hold, and few programs are compiled."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import ckptgrad as cg
from ckptgrad.chain.program import forget_kinds
from ckptgrad.costs import asked
from ckptgrad.costs.asked import AskedCosts
from ckptgrad.example_models import unet
from ckptgrad.target.allocated import compiled_memory
from ckptgrad.target.target import described
from tests.support.probes import probes_from_now_on

DEPTH = 8
X = jax.ShapeDtypeStruct((256, 64), jnp.float32)
WS = [jax.ShapeDtypeStruct((64, 64), jnp.float32)] * DEPTH


def norm(x):
    return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)


def recurrence(x):
    return lax.associative_scan(lambda p, q: (p[0] * q[0], q[0] * p[1] + q[1]), (jax.nn.sigmoid(x), x), axis=1)[1]


LAYERS = {
    "layer norm": lambda x, w: norm(jnp.tanh(x @ w)),
    "cumlogsumexp": lambda x, w: jnp.tanh(lax.cumlogsumexp(x @ w, axis=0)),
    "cumprod": lambda x, w: x + lax.cumprod(jnp.tanh(x @ w), axis=0),
    "cummax": lambda x, w: jnp.sin(lax.cummax(x @ w, axis=0)),
    "map": lambda x, w: lax.map(lambda row: jnp.tanh(row @ w), x),
    "sort": lambda x, w: jnp.sin(jnp.sort(x @ w, axis=-1)),
    "softmax": lambda x, w: x + jax.nn.softmax(x @ w),
    "pool": lambda x, w: jnp.sin(lax.reduce_window(x @ w, -jnp.inf, lax.max, (3, 1), (1, 1), "SAME")),
    "associative scan": lambda x, w: x + recurrence(x @ w),
}
QUICK = ("layer norm",)
every_layer = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in LAYERS]
)


def loss_of(name, depth=DEPTH):
    return lambda ws, x: (functools.reduce(lambda h, w: LAYERS[name](h, w), ws[:depth], x) ** 2).mean()


@pytest.fixture
def compilations(monkeypatch):
    """The programs that are compiled to learn their bytes, in kinds that nothing is known of yet."""
    return probes_from_now_on(monkeypatch)


@every_layer
def test_under_plain_jit_the_compiler_takes_what_is_predicted(name):
    loss = loss_of(name)
    for budget in ("0.5x", "min"):
        door = cg.grad(loss, budget=budget)
        predicted = door.plan(WS, X).peak_bytes
        assert compiled_memory(jax.jit(door).lower(WS, X).compile()).peak_bytes == pytest.approx(predicted, rel=0.1)


def test_stages_of_one_kind_are_asked_about_once(compilations):
    """The first stage, those between and the last: twice as many stages take no more questions; equal calls none.

    Where the smallest plan takes more than estimated, those between are asked about as other plans run them too.
    """
    cg.plan(loss_of("layer norm", DEPTH // 2), WS, X, budget="min")
    few = len(compilations)
    assert 0 < few <= 16
    cg.plan(loss_of("layer norm"), WS, X, budget="min")
    assert len(compilations) <= 2 * few
    before = len(compilations)
    cg.plan(loss_of("layer norm"), WS, X, budget="min")
    assert len(compilations) == before


def test_answers_are_remembered_on_disk(compilations, monkeypatch, tmp_path):
    monkeypatch.setenv("CKPTGRAD_CACHE", str(tmp_path))
    first = cg.plan(loss_of("layer norm"), WS, X, budget="min")
    before = len(compilations)
    forget_kinds()
    assert cg.plan(loss_of("layer norm"), WS, X, budget="min").schedule == first.schedule
    assert len(compilations) == before > 0


@pytest.mark.slow
def test_compiling_asks_about_loops_before_a_budget_is_refused():
    """Estimates take more for the smallest plans of loops than the compiler does."""

    def loss(ws, x):
        return (lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, ws)[0] ** 2).mean()

    args = jax.ShapeDtypeStruct((DEPTH, 64, 64), jnp.float32), X
    least = cg.grad(loss, budget="min").compile(*args)
    assert least.peak_bytes == pytest.approx(least.plan.peak_bytes, rel=0.05)
    assert least.peak_bytes < cg.plan(loss, *args, budget="min", costs="estimate").peak_bytes
    assert cg.grad(loss, budget=least.peak_bytes).compile(*args).peak_bytes <= least.peak_bytes


def test_what_is_sure_is_not_asked(compilations):
    def loss(ws, x):
        return (functools.reduce(lambda h, w: jnp.tanh(h @ w), ws, x) ** 2).mean()

    assert cg.plan(loss, WS, X, budget="min").peak_bytes > 0
    # Without a budget there is nothing to keep, and estimates that are asked for are estimates.
    cg.plan(loss_of("layer norm"), WS, X)
    cg.plan(loss_of("layer norm"), WS, X, budget="min", costs="estimate")
    # So little is not worth a compilation.
    cg.plan(loss_of("layer norm"), WS, jax.ShapeDtypeStruct((4, 64), jnp.float32), budget="min")
    assert compilations == []


def test_a_hopeless_budget_is_refused_without_questions(compilations):
    with pytest.raises(cg.BudgetError):
        cg.plan(loss_of("layer norm"), WS, X, budget=1000)
    assert compilations == []


@pytest.mark.parametrize("budget", [None, "min"])
def test_a_scan_over_layers_is_predicted(budget):
    """Without a budget by the estimate alone, else after the compiler was asked about the loop's plans."""

    def loss(ws, x):
        def step(h, w):
            return h + jax.nn.relu(h @ w[0]) @ w[1], None

        return (lax.scan(step, x, ws)[0] ** 2).mean()

    up, down = (jax.ShapeDtypeStruct((DEPTH, *shape), jnp.float32) for shape in ((32, 128), (128, 32)))
    args = (up, down), jax.ShapeDtypeStruct((512, 32), jnp.float32)
    door = cg.value_and_grad(loss, budget=budget)
    predicted = door.plan(*args).peak_bytes
    assert compiled_memory(jax.jit(door).lower(*args).compile()).peak_bytes == pytest.approx(predicted, rel=0.05)


@pytest.mark.slow
def test_a_unet_is_not_refused_before_the_compiler_was_asked():
    loss, args = unet(levels=2, width=8, size=32)
    args = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), args)
    budget = int(0.9 * cg.plan(loss, *args, budget="min", costs="estimate").peak_bytes)
    door = cg.grad(loss, budget=budget)
    predicted = door.plan(*args).peak_bytes
    assert predicted <= budget
    assert compiled_memory(jax.jit(door).lower(*args).compile()).peak_bytes == pytest.approx(predicted, rel=0.1)
    assert door.compile(*args).peak_bytes <= budget


def test_nothing_is_asked_about_a_forward_that_runs_nothing(monkeypatch):
    """That of a last stage which does all in one pass over chunks: it is no repetition of the stage run whole."""

    def loss(ws, x):
        for w in ws:
            x = x + jnp.tanh(x @ w) @ w.T
        return (x**2).mean()

    probed = []
    monkeypatch.setattr(asked, "compile_probes", probed.extend)
    monkeypatch.setattr(asked, "with_probes", lambda program, alone, places, asked: alone)
    ws, x = [jax.ShapeDtypeStruct((64, 512), jnp.float32)] * 4, jax.ShapeDtypeStruct((2048, 64), jnp.float32)
    plan = cg.plan(loss, ws, x, budget="min", chunks=True, costs="estimate", target=described("tpu"))
    last = plan.program.stages[-1].kind
    keep = plan.schedule.kept[len(plan.program.stages) - 1]
    assert last.options[keep].name.endswith("in one pass")
    assert AskedCosts(plan.program).ask(plan.schedule, sure=True, most=100, only_backwards=True)
    assert [(p.run, p.option) for p in probed if p.kind is last] == [("backward", keep)]
