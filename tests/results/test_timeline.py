"""Timelines: what is predicted is the referee's, what XLA holds is followed to the byte, and lines are the user's."""

import itertools
import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.meters.assignment import read_assignment
from ckptgrad.meters.buffers import KINDS
from ckptgrad.planning import get_policy, simulate
from ckptgrad.target.allocated import compiled_memory
from tests.cases import tanh
from tests.cases.tanh import tanh_arguments, tanh_loss

WIDTH, BATCH = 32, 256
WS, X = tanh_arguments(WIDTH, BATCH)


def norm_loss(ws, x):
    for w in ws:
        h = (x - x.mean(1, keepdims=True)) / (x.std(1, keepdims=True) + 1.0)
        x = x + jax.nn.gelu(h @ w) @ w.T
    return jnp.mean(x**2)


def skip_loss(ws, x):
    first = jnp.sin(x)
    for w in ws:
        x = x + jnp.tanh(x @ w) * first
    return jnp.sum(x)


def scan_loss(ws, x):
    def step(h, w):
        return jnp.tanh(h @ w), None

    return jnp.sum(jax.lax.scan(step, x, jnp.stack(ws))[0])


LOSSES = {"tanh": tanh_loss, "norm": norm_loss, "skip": skip_loss, "scan": scan_loss}
CASES = [(name, budget) for name in LOSSES for budget in (None, "min")] + [("tanh", "0.7x"), ("norm", "0.9x")]


@pytest.mark.parametrize(("name", "budget"), CASES)
def test_moments_are_the_referees_action_by_action(name, budget):
    plan = cg.plan(LOSSES[name], WS, X, budget=budget)
    course = plan.timeline()
    assert tuple(m.total for m in course.moments) == plan.simulation.timeline
    assert course.peak_at == plan.simulation.peak_at
    assert course.moments[-1].end == pytest.approx(plan.seconds)
    assert course.inside == plan.at_peak.inside
    assert sum(b.bytes for b in course.alive) == plan.peak_bytes == course.peak_bytes
    assert {b.kind for b in course.alive} <= {*KINDS}
    for kind in KINDS:
        held = sum(b.bytes for b in course.alive if b.kind == kind)
        assert held == course.moments[course.peak_at].bytes[kind]


@pytest.mark.parametrize(("name", "budget"), CASES)
def test_the_curve_of_xlas_buffers_peaks_at_what_xla_allocates(name, budget):
    certified = cg.value_and_grad(LOSSES[name], budget=budget).compile(WS, X)
    assignment = read_assignment(certified.executable)
    peak = max(assignment.live)
    # Gaps between buffers are all that may be missing.
    assert 0.97 * certified.peak_bytes <= peak <= certified.peak_bytes
    assert assignment.temporary_bytes == compiled_memory(certified.executable).temporary_bytes


def test_the_curve_of_any_program_of_jax():
    executable = jax.jit(jax.grad(norm_loss)).lower(WS, X).compile()
    assert max(read_assignment(executable).live) == compiled_memory(executable).peak_bytes


def test_scopes_and_lines_reach_xla():
    text = cg.value_and_grad(tanh_loss).compile(WS, X).executable.as_text()
    assert "forward_0/" in text
    assert "backward_5/" in text
    assert tanh.__file__ in text
    assert "tanh_loss" in text


def test_named_scopes_of_the_user_reach_xla_from_both_directions():
    def loss(w, x):
        with jax.named_scope("attention"):
            y = jnp.tanh(x @ w)
        return jnp.sum(y)

    text = cg.value_and_grad(loss).compile(WS[0], X).executable.as_text()
    assert "attention/dot_general" in text
    assert text.count("attention") >= 2


def test_the_least_budget_is_called_so():
    course = cg.timeline(lambda x: jnp.sum(jnp.sin(x) ** 2), jnp.ones(8), budget="min")
    assert course.budget is None
    assert "beyond the arguments, budget min; predicted" in str(course)


def test_structs_will_do_for_meters_that_do_not_run_it():
    structs = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (WS, X))
    assert cg.timeline(tanh_loss, *structs, budget="0.6x").readings["xla"].bytes


def test_the_text_names_peak_kinds_lines_and_meters():
    text = str(cg.timeline(tanh_loss, WS, X, budget="0.6x", observe=("xla", "ledger")))
    for part in ("predicted peak", "^ peak", "boundaries", "tanh.py", "XLA's buffer assignment", "- budget"):
        assert part in text


def test_plain_data_is_json():
    course = cg.timeline(tanh_loss, WS, X, budget="0.6x")
    found = json.loads(json.dumps(course.to_dict()))
    assert found["peak_bytes"] == course.peak_bytes
    assert len(found["moments"]) == len(course.moments)
    assert found["readings"]["xla"]["bytes"] == course.readings["xla"].bytes


def test_a_plan_without_times_has_moments_of_one_length():
    course = cg.plan(tanh_loss, WS, X).timeline()
    still = replace(course, moments=tuple(replace(m, start=0.0, end=0.0) for m in course.moments))
    assert still.progress[0] == (0.0, 1 / len(course.moments))


@pytest.mark.parametrize("budget", [None, "min"])
def test_inside_a_scan_the_steps_are_seen(budget):
    """Transients rise and fall with every step, forward and backward; the moment tells the worst of it."""
    course = cg.plan(scan_loss, WS, X, budget=budget, costs="estimate").timeline()
    looping = [m for m in course.moments if m.inside]
    assert {m.action[0] for m in looping} == {"F", "B"}
    for moment in looping:
        ends, held = zip(*moment.inside, strict=True)
        assert max(held) == moment.bytes["transients"]
        assert list(ends) == sorted(ends)
        assert ends[-1] == pytest.approx(moment.end)
    backward = [held for _, held in looping[-1].inside]
    assert sum(a < b for a, b in itertools.pairwise(backward)) >= len(WS) - 1
    parts = course.course
    assert parts[0][0] == 0.0
    assert parts[-1][1] == pytest.approx(1.0)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(parts))
    assert max(sum(held.values()) for _, _, held in parts) == course.peak_bytes
    assert len(json.loads(json.dumps(course.to_dict()))["course"]) == len(parts)


def test_what_a_plan_without_a_budget_holds_is_there_to_be_compared():
    """Its own time, its own peak: that of the policy for the same stages."""
    plan = cg.plan(tanh_loss, WS, X, budget="min")
    (reading,) = plan.timeline().references.values()
    assert reading.bytes == simulate(get_policy("store_all")(plan.costs, None), plan.costs).peak
    assert (reading.curve[0][0], reading.curve[-1][0]) == (0.0, pytest.approx(1.0))
    assert cg.plan(tanh_loss, WS, X, policy="store_all").timeline().references == {}
