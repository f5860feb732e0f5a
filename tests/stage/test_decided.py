"""Decisions by numbers taken from the same array: found, made once, and followed by the backward."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.stage import decided as decided_module
from ckptgrad.stage.decided import decided, with_barriers
from tests.support.arrays import normal
from tests.support.compare import assert_same

X = jnp.linspace(-2, 2, 64 * 96).reshape(64, 96)
PICK = (jnp.arange(96) == 7).astype(jnp.float32)
W = normal(0, 96, 96, scale=0.3)


def top(z):
    return z.max(-1, keepdims=True)


FOUND = {
    "equal to the largest": (lambda x: jnp.where((z := jnp.tanh(x)) == top(z), z, 0), ["eq"], ["tanh"]),
    "arithmetic between": (lambda x: jnp.where((z := jnp.tanh(x)) - top(z) >= 0, z, 0), ["ge"], ["tanh"]),
    "among the first few": (lambda x: jnp.where((z := jnp.exp(x)) >= jnp.sort(z, -1)[:, -3:-2], z, 0), ["ge"], ["exp"]),
    "a sign": (lambda x: jnp.sign((z := jnp.sin(x)) - z[:, :1]) * z, ["sign"], ["sin"]),
    "an integer": (lambda x: ((z := jnp.sin(x)) / top(z)).astype(int) * z, ["convert_element_type"], ["sin"]),
    "of the argument itself": (lambda x: jnp.where(x == top(x), x, 0), ["eq"], []),
    "by a mean": (lambda x: jnp.where((z := jnp.tanh(x)) > z.mean(), z, 0), ["gt"], ["tanh"]),
    "picked by a sum": (
        lambda x: jnp.where((z := jnp.tanh(x)) == (z * PICK).sum(-1, keepdims=True), z, 0),
        ["eq"],
        ["tanh"],
    ),
    "picked by a product": (lambda x: jnp.where((z := jnp.tanh(x)) >= z @ PICK[:, None], z, 0), ["ge"], ["tanh"]),
    "inside a loop": (
        lambda x: jax.lax.map(lambda rows: jnp.where(rows[0] == rows[1], rows[0], 0), (z := jnp.tanh(x), z.max(-1))),
        ["tanh"],
        ["tanh"],
    ),
    "to integers inside a loop": (
        lambda x: jax.lax.map(lambda rows: jnp.argmax(rows[0] >= rows[1]), (z := jnp.tanh(x), z.max(-1)))[:, None] * z,
        ["tanh", "scan"],
        ["tanh"],
    ),
    "in a branch": (
        lambda x: jax.lax.cond(x[0, 0] > 0, lambda z, m: jnp.where(z == m, z, 0), lambda z, m: z, z := jnp.tanh(x), top(z)),
        ["tanh"],
        ["tanh"],
    ),
    "a loop that decides by numbers": (
        lambda x: jax.lax.map(
            lambda rows: jnp.where(rows[0] > 0.5, rows[1], 0), (z := jnp.tanh(x), z.max(-1) @ W[:64, :64])
        ),
        [],
        [],
    ),
    "a relu behind a norm": (lambda x: jax.nn.relu((z := jnp.tanh(x)) - z.mean(-1, keepdims=True)), [], []),
    "after a product": (lambda x: jax.nn.relu((jnp.exp(x) - top(jnp.exp(x))) @ W), [], []),
    "by a number": (lambda x: jnp.where(jnp.tanh(x) > 0.5, x, 0), [], []),
    "leaky": (lambda x: jnp.where(x > 0, x, 0.1 * x), [], []),
    "softmax": (lambda x: jax.nn.relu(jax.nn.softmax(x) @ W), [], []),
    "an index": (lambda x: jnp.where(jnp.arange(96) == jnp.argmax(jnp.tanh(x), -1)[:, None], x, 0), [], []),
}


@pytest.mark.parametrize(("f", "jumps", "barriers"), FOUND.values(), ids=FOUND)
def test_what_is_decided_is_found_and_what_it_compares_is_with_barriers(f, jumps, barriers):
    operations = cg.trace(f, X).operations
    found = set(decided(operations))
    assert [op.name for op in operations if found & {*op.outputs}] == jumps
    behind = with_barriers(operations)
    makers = {v: op.name for op in behind for v in op.outputs}
    assert [makers[op.inputs[0]] for op in behind if op.name == "optimization_barrier"] == barriers


def test_a_search_in_an_array_for_its_own_numbers_is_decided():
    """By a loop, or by a primitive that shows no program: places, which are kept."""
    operations = cg.trace(lambda x: jnp.searchsorted(jnp.sort((z := jnp.tanh(x))[0]), z) * z, X).operations
    assert [v for v in decided(operations) if jnp.issubdtype(v.dtype, jnp.integer)]


def test_where_too_much_lies_behind_what_is_decided_is_kept(monkeypatch):
    operations = cg.trace(lambda x: jnp.where(jnp.tanh(jnp.sin(jnp.cos(x))) > 0.5, x, 0), X).operations
    assert not decided(operations)
    monkeypatch.setattr(decided_module, "MOST", 3)
    assert len(decided(operations)) == 1
    assert with_barriers(operations) == tuple(operations)


ACTIVATIONS = {
    "gelu": jax.nn.gelu,
    "normed": lambda h: (h - h.mean(-1, keepdims=True)) / jnp.sqrt(h.var(-1, keepdims=True) + 1e-5),
    "cheap": lambda h: h * h * 0.3 + h * 0.7 - 0.1 * h * jnp.abs(h),
}


@pytest.mark.parametrize(
    "options",
    [
        {"policy": "recompute_all"},
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"budget": "min"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_the_backward_follows_the_choice_of_the_forward(activation, options):
    """Its entries were off by half of the largest and more, where the backward made the activation again."""

    def loss(ws, x):
        for w in ws:
            z = activation(x @ w)
            x = 0.5 * x + jnp.where(z == top(z), 3 * z, 0.5 * z)
        return (x**2).mean()

    ws = [W, W.T]
    with jax.disable_jit():
        expected = jax.grad(loss)(ws, X)
    assert_same(cg.grad(loss, **options).compile(ws, X)(ws, X), expected, scale=64)


def test_a_mask_takes_a_byte():
    def loss(w, x):
        z = jax.nn.gelu(x @ w)
        return (jnp.where(z == top(z), 3 * z, 0.5 * z) ** 2).sum()

    (kind,) = cg.plan(loss, W, X).program.kinds
    for option in kind.options:
        if not option.name.endswith("as bits"):
            kept = [v for v in option.partition.residuals if v.dtype == np.bool_]
            assert [v.shape for v in kept] == [X.shape]


def test_a_decision_inside_a_loop_over_chunks_is_made_again_in_its_backward():
    """Nothing is kept of a chunk, and the compilation failed for want of what was decided there."""

    @cg.stage
    def layer(w, x):
        z = jnp.sin(jax.nn.gelu(x @ w) @ w)
        return 0.5 * x + jnp.where(z == top(z), 3 * z, 0.5 * z)

    def loss(w, x):
        return (layer(w, layer(w, x)) ** 2).mean()

    w, x = W[:32, :32], jnp.linspace(-2, 2, 256 * 32).reshape(256, 32)
    planned = cg.grad(loss, budget="min", chunks=True)
    assert "chunks of" in str(planned.plan(w, x))
    assert_same(jax.jit(planned)(w, x), jax.grad(loss)(w, x), scale=64)
