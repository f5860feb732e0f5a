"""What differs between two results is what their figures say."""

from __future__ import annotations

import json
from dataclasses import replace

import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.meters.meter import Reading
from ckptgrad.results.changes import Change, changes, contents
from tests.cases.results import KIB, TIMELINE

X, W = jnp.ones((64, 16)), jnp.eye(16)


def loss(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return jnp.mean(x**2)


def plan_of(budget=None, layers=6, batch=64):
    return cg.plan(loss, [W] * layers, jnp.ones((batch, 16)), budget=budget, costs="estimate")


def between(before, after):
    return changes(contents(before), contents(after))


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [(0, 3, "appeared"), (3, 0, "went"), (3, 4, "grew"), (4, 3, "shrank"), (3, 3, "stayed"), (0, 0, "stayed")],
)
def test_a_change_in_a_word(before, after, what):
    assert Change("x", before, after).what == what
    assert Change("x", before, after).by == after - before


def test_what_plans_hold_at_their_peaks_adds_up():
    before, after = plan_of(), plan_of("min")
    found = between(before, after)
    peak, *_ = found.totals
    assert (peak.before, peak.after) == (before.peak_bytes, after.peak_bytes)
    assert sum(change.by for change in found.held) == peak.by < 0
    assert [abs(change.by) for change in found.held] == sorted((abs(change.by) for change in found.held), reverse=True)
    assert found.seconds == (before.seconds, after.seconds)
    assert {change.name: change.by for change in found.totals}["argument x"] == 0


def test_stages_to_which_something_else_happens():
    before, after = plan_of(), plan_of("min")
    found = between(before, after)
    kept = zip(before.choices, after.choices, strict=True)
    repeated = {action.stage for action in after.schedule if isinstance(action, cg.Forward)}
    assert {change.stage for change in found.stages} <= repeated
    assert {i for i, (was, now) in enumerate(kept) if was != now} <= {change.stage for change in found.stages}
    first = found.stages[0]
    assert first.before == f"keeps {before.choices[first.stage]}, 1 x forward"
    assert first.place.startswith(f"ws[{first.stage}], test_changes.py:")


def test_other_arguments_and_other_stages_are_counted():
    found = between(plan_of(), plan_of(layers=7, batch=128))
    assert found.stage_counts == (6, 7)
    assert found.stages == ()
    totals = {change.name: change for change in found.totals}
    assert (totals["argument x"].what, totals["argument x"].by) == ("grew", 64 * 16 * 4)
    assert totals["gradients"].by == W.nbytes
    names = {change.name: change.what for change in found.held}
    assert "appeared" in names.values()
    assert "went" in names.values()


def test_nothing_differs_between_a_result_and_itself():
    plan = plan_of("0.5x")
    assert between(plan, plan_of("0.5x")).is_empty
    assert not between(plan, plan_of("min")).is_empty
    assert between(TIMELINE, TIMELINE).is_empty
    assert not between(TIMELINE, replace(TIMELINE, arguments={"x": KIB})).is_empty


def test_timelines_compare_what_is_alive_and_what_meters_read():
    other = replace(TIMELINE, lives=TIMELINE.lives[1:], readings={"xla": Reading(20 * KIB)})
    found = between(TIMELINE, other)
    assert {change.name: change.by for change in found.totals} == {"peak": 0, "peak by xla": 2 * KIB}
    assert found.held == ()  # what went is not held at the peak
    less = between(TIMELINE, replace(TIMELINE, lives=TIMELINE.lives[2:]))
    assert [(c.what, c.by) for c in less.held] == [("went", -4 * KIB)]
    assert less.held[0].name == "boundaries: float32[8,128] of tanh at model.py:12"


def test_as_plain_data():
    found = between(plan_of(), plan_of("min"))
    written = json.loads(found.to_json())
    assert written == found.to_dict()
    assert written["totals"][0] == {
        "name": "peak",
        "before_bytes": plan_of().peak_bytes,
        "after_bytes": plan_of("min").peak_bytes,
        "change": "shrank",
    }
