"""`stage` and `Chain`: exactly the named stages, and clear words where they do not fit together."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from tests.support.compare import assert_same

X = jnp.linspace(-1, 1, 16 * 8).reshape(16, 8)
W = jnp.linspace(-0.5, 0.5, 64).reshape(8, 8)
LAYER = ["dot_general", "tanh", "add"]


def layer(w, x):
    return x + jnp.tanh(x @ w)


def two_layers(ws, x):
    return layer(ws[1], layer(ws[0], x))


def names(fun, *args):
    program = cg.plan(fun, *args).program
    return [[op.name for op in stage.kind.graph.operations] for stage in program.stages]


def applied(run, before=lambda x: x, between=lambda x: x, after=jnp.sum):
    def loss(ws, x):
        x = before(x)
        for w in ws:
            x = between(run(w, x))
        return after(x)

    return loss


one, pair = cg.stage(layer), cg.stage(two_layers)
nested = cg.stage(lambda ws, x: one(ws[1], one(ws[0], x)))

MARKED = {
    "one layer a stage": (applied(one), [W] * 3, [LAYER] * 3 + [["reduce_sum"]]),
    "two layers a stage": (applied(pair), [(W, W)] * 3, [LAYER * 2] * 3 + [["reduce_sum"]]),
    "work before": (applied(one, before=jnp.sin), [W] * 2, [["sin"], LAYER, LAYER, ["reduce_sum"]]),
    "work between goes to the stage after": (
        applied(one, between=jnp.sin), [W] * 2, [LAYER, ["sin", *LAYER], ["sin", "reduce_sum"]],
    ),
    "inside jit": (jax.jit(applied(one)), [W] * 2, [LAYER, LAYER, ["reduce_sum"]]),
    "inside another stage": (applied(nested), [(W, W)] * 2, [LAYER] * 4 + [["reduce_sum"]]),
    "a whole function": (cg.stage(applied(layer)), [W] * 4, [LAYER * 4 + ["reduce_sum"]]),
    "the sum in the last stage": (
        applied(one, after=cg.stage(lambda x: (x * 2).sum())), [W], [LAYER, ["mul", "reduce_sum"]],
    ),
    "a partial function": (
        applied(cg.stage(functools.partial(layer))), [W] * 2, [LAYER, LAYER, ["reduce_sum"]],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("loss", "ws", "wanted"), MARKED.values(), ids=MARKED)
def test_marks_are_the_stages(loss, ws, wanted):
    assert names(loss, ws, X) == wanted


@pytest.mark.parametrize("budget", [None, "min"])
@pytest.mark.parametrize(("loss", "ws", "wanted"), MARKED.values(), ids=MARKED)
def test_marked_functions_have_the_gradient_of_unmarked_ones(loss, ws, wanted, budget):
    found = cg.value_and_grad(loss, (0, 1), budget=budget)(ws, X)
    assert_same(found, jax.value_and_grad(loss, (0, 1))(ws, X), scale=4)


def test_a_mark_changes_nothing_under_jax():
    assert_same(one(W, X), layer(W, X))
    assert_same(jax.grad(applied(one))([W], X), jax.grad(applied(layer))([W], X))
    assert_same(jax.vmap(one, (None, 0))(W, X[:, None]), jax.vmap(layer, (None, 0))(W, X[:, None]))


def test_keyword_and_static_like_arguments():
    scaled = cg.stage(lambda w, x, *, scale: layer(w, x) * scale)
    assert names(lambda w, x: scaled(w, x, scale=2.0).sum(), W, X)[-1] == ["reduce_sum"]
    assert_same(scaled(W, X, scale=2.0), layer(W, X) * 2.0)


def widen(w, x):
    return jnp.tanh(x @ w), x


def narrow(w, pair_):
    return pair_[0] @ w + pair_[1]


def test_a_chain_gives_one_stage_an_entry():
    chain = cg.Chain([layer] * 5)
    assert len(chain) == 5
    assert names(lambda ws, x: chain(ws, x).sum(), [W] * 5, X) == [LAYER] * 5 + [["reduce_sum"]]
    program = cg.plan(lambda ws, x: chain(ws, x).sum(), [W] * 5, X).program
    assert len(program.kinds) == 3


def test_a_chain_may_pass_pytrees_between_stages_of_different_kinds():
    chain = cg.Chain([layer, widen, narrow, two_layers])
    params = [W, W, W.T, (W, W)]
    wanted = [LAYER, ["dot_general", "tanh"], ["dot_general", "add"], LAYER * 2, ["reduce_sum"]]

    def loss(ws, x):
        return chain(ws, x).sum()

    assert names(loss, params, X) == wanted
    assert_same(cg.grad(loss, budget="min")(params, X), jax.grad(loss)(params, X), scale=4)


REFUSED = {
    "no stages": (lambda: cg.Chain([]), "at least one stage"),
    "too few params": (lambda: cg.Chain([layer, layer])([W], X), "2 stages got params for 1"),
    "too many params": (lambda: cg.Chain([layer])([W, W], X), "1 stages got params for 2"),
    "shapes that do not fit": (
        lambda: cg.Chain([layer, lambda w, x: x @ w])([W, W[:3, :3]], X),
        r"stage 1 \(<lambda>\).*float32\[16,8\].*float32\[3,3\]",
    ),
    "a pair for an array": (
        lambda: cg.Chain([widen, layer])([W, W], X), r"stage 1 \(layer\).*float32\[16,8\], float32\[16,8\]",
    ),
    "an array for a pair": (lambda: cg.Chain([layer, narrow])([W, W[:3]], X), r"stage 1 \(narrow\)"),
    "the input itself": (lambda: cg.Chain([layer])([W], X[:, :3]), r"stage 0 \(layer\).*float32\[16,3\]"),
    "a stage of one argument": (lambda: cg.Chain([jnp.tanh])([None], X), r"stage 0 \(tanh\)"),
    "inside a gradient": (
        lambda: cg.grad(lambda ws: cg.Chain([layer, layer])(ws, X).sum())([W, W[:3]]), r"stage 1 \(layer\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("call", "words"), REFUSED.values(), ids=REFUSED)
def test_stages_that_do_not_fit_are_named(call, words):
    with pytest.raises(cg.StageError, match=f"(?s){words}"):
        call()
