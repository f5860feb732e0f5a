"""What is held during each action, by kind and buffer by buffer."""

from __future__ import annotations

import itertools
import os
import sysconfig

import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.graph.source import SourceLine
from ckptgrad.results.predicted import moments, within_layer

X, W = jnp.ones((64, 16)), jnp.eye(16)
STATE, GRADIENTS = X.nbytes, 3 * W.nbytes


def loss(ws, x):
    for w in ws:
        x = cg.stage(lambda w, x: x + jnp.tanh(x @ w))(w, x)
    return jnp.sum(x)


@pytest.fixture(scope="module")
def plan():
    return cg.plan(loss, [W] * 3, X, policy="store_all", costs="estimate")


@pytest.fixture(scope="module")
def found(plan):
    return moments(plan.program, plan.costs, plan.schedule)


def test_one_moment_per_action_in_order(plan, found):
    assert [m.action for m in found] == [str(a) for a in plan.schedule]
    assert all(a.end == b.start for a, b in itertools.pairwise(found))
    assert tuple(m.total for m in found) == plan.simulation.timeline
    assert all(m.inside == () for m in found)


def test_results_are_held_throughout_and_boundaries_one_by_one(found):
    """Each layer's output has the bytes of the input; the first layer reads an argument."""
    assert {m.bytes["results"] for m in found} == {GRADIENTS + 4}
    forwards = [m for m in found if m.action[0] == "F"]
    assert [m.bytes["boundaries"] <= (k + 1) * STATE for k, m in enumerate(forwards)] == [True] * len(forwards)
    assert found[-1].bytes["boundaries"] == 0


def test_cotangents_are_held_in_backwards_alone(found):
    assert all(m.bytes["gradients"] == 0 for m in found if m.action[0] == "F")
    assert max(m.bytes["gradients"] for m in found if m.action[0] == "B") >= STATE


def test_a_line_of_a_library_gives_way_to_that_of_the_stage(plan):
    line = SourceLine(os.path.join(sysconfig.get_paths()["purelib"], "typer", "main.py"), 5, "run")
    assert within_layer(line, plan.program, 0) == plan.program.places[0]
    assert within_layer(line, plan.program, None) == line
