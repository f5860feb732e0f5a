"""A program whose stages are whole blocks, and where these begin."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.chain.blocks import block_cuts
from ckptgrad.chain.cut import find_cuts
from ckptgrad.chain.program import build_program
from ckptgrad.costs.blocks import block_program
from ckptgrad.costs.estimated import estimated_costs
from ckptgrad.planning import minimum_peak
from tests.support.compare import assert_same

F32 = jnp.float32
WS = [(jnp.full((16, 64), 0.01, F32), jnp.full((64, 16), 0.02, F32), jnp.full((16, 16), 0.03, F32))] * 4
X = jnp.linspace(-1, 1, 32 * 16).reshape(32, 16)


def block(w, x):
    up, down, mix = w
    x = x + jnp.tanh(x @ up) @ down
    return x + jax.nn.softmax(x @ mix)


def loss(ws, x, block=block):
    for w in ws:
        x = block(w, x)
    return (x**2).sum()


def program_of(loss, target):
    """The program of a gradient with regard to the parameters, cut as finely as it is by default."""
    return cg.plan(loss, WS, X, target=target).program


def block_program_of(loss, target):
    program = program_of(loss, target)
    return block_program(program.graph, program.wrt, program.seeds, target)


def test_blocks_begin_where_the_smallest_plan_takes_fewest_bytes():
    target = cg.target("cpu")
    program = program_of(loss, target)
    chosen = block_program_of(loss, target)
    assert len(chosen.stages) < len(program.stages)
    offered = [
        build_program(program.graph, program.wrt, program.seeds, target, cuts)
        for cuts in block_cuts(program.graph, find_cuts(program.graph, target))
    ]
    assert len(offered) > 1
    least = [minimum_peak(estimated_costs(p))[0] for p in offered]
    assert minimum_peak(estimated_costs(chosen))[0] == min(least)


def test_there_are_none_where_users_have_marked_stages_or_nothing_repeats():
    target = cg.target("cpu")
    assert block_program_of(lambda ws, x: loss(ws, x, cg.stage(block)), target) is None
    assert block_program_of(lambda ws, x: loss(ws[:1], x), target) is None


@pytest.mark.parametrize("budget", ["0.6x", "min", 10**9])
def test_where_a_target_asks_for_whole_blocks_the_gradient_is_the_same(budget, monkeypatch):
    """And plans are of whole blocks, where these are faster."""
    monkeypatch.setitem(vars(cg.target("cpu").platform), "whole_blocks", True)
    found = cg.value_and_grad(loss, budget=budget).compile(WS, X)
    # What a softmax hands back cancels in part: rounding is that of the largest entries.
    assert_same(found(WS, X), jax.value_and_grad(loss)(WS, X), scale=8, whole=True)
    if budget == 10**9:
        assert len(found.plan.program.stages) == len(block_program_of(loss, cg.target("cpu")).stages)
