"""Every buffer, and when it is held: at each moment they add up to what the plan holds."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.planning.ledger import follow
from ckptgrad.results.lives import held_during

X, W = jnp.ones((64, 16)), jnp.eye(16)


def loss(ws, x):
    first = jnp.sin(x)
    for w in ws:
        x = cg.stage(lambda w, x, first: x + jnp.tanh(x @ w) * first)(w, x, first)
    return jnp.sum(x)


@pytest.fixture(scope="module", params=["store_all", "recompute_all"])
def course(request):
    return cg.plan(loss, [W] * 3, X, policy=request.param, costs="estimate").timeline("loss")


def test_buffers_add_up_to_what_is_held(course):
    for k, moment in enumerate(course.moments):
        alive = course.alive_during(k)
        if moment.place is not None:
            assert sum(b.bytes for b in alive) >= moment.total
        assert [b.bytes for b in alive] == sorted((b.bytes for b in alive), reverse=True)
        assert all(b.bytes for b in alive)
    assert sum(b.bytes for b in course.alive) == course.peak_bytes


def test_buffers_know_what_made_them(course):
    index = next(k for k, m in enumerate(course.moments) if m.action.startswith("B"))
    alive = course.alive_during(index)
    gradients = [b for b in alive if b.what == "gradient of an argument"]
    assert [(b.type, b.stage, b.name) for b in gradients] == [("float32[16,16]", None, f"ws[{k}]") for k in range(3)]
    assert [b.type for b in alive if b.what == "output"] == ["float32[]"]
    boundaries = [b for b in alive if b.kind == "boundaries"]
    assert all(b.source.file == __file__ and b.type == "float32[64,16]" for b in boundaries)


def test_a_life_is_as_long_as_the_schedule_holds_it(course):
    """Results from the first to the last moment; what a stage keeps until its own backward."""
    last = len(course.moments) - 1
    for life in course.lives:
        assert 0 <= life.first <= life.last <= last
        if life.buffer.kind == "results":
            assert (life.first, life.last) == (0, last)
        if life.buffer.kind == "residuals":
            assert course.moments[life.first].action.startswith(f"F{life.buffer.stage}:")
            assert course.moments[life.last].action == f"B{life.buffer.stage}"


def test_what_waits_is_one_buffer_for_as_long_as_it_waits(course):
    waiting = [life for life in course.lives if life.buffer.what == "sin"]
    assert [(life.buffer.kind, life.buffer.stage) for life in waiting] == [("boundaries", 0)]
    assert all(life.last > life.first for life in waiting)


def test_an_unfinished_sum_of_gradients_belongs_to_the_stage_of_its_value():
    plan = cg.plan(loss, [W] * 3, X, argnums=(0, 1), costs="estimate")
    sums = [life.buffer for life in plan.timeline("loss").lives if life.buffer.what == "gradient of sin"]
    assert [(b.kind, b.stage) for b in sums] == [("gradients", 0)]


@pytest.mark.parametrize("policy", ["store_all", "recompute_all"])
def test_what_is_held_during_one_action_is_what_lives_then(policy):
    plan = cg.plan(loss, [W] * 3, X, policy=policy, costs="estimate")
    course = plan.timeline("loss")
    for k, balance in enumerate(follow(plan.costs, plan.schedule)):
        named = [b for b in course.alive_during(k) if b.kind != "transients"]
        assert sorted(map(repr, held_during(plan.program, balance))) == sorted(map(repr, named))
