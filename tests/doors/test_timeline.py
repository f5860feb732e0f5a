"""`cg.timeline`: what is asked of meters, and what is compiled."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.execution.certified import Certified
from ckptgrad.meters.meter import Reading, meter, meters

X, W = jnp.ones((64, 16)), jnp.eye(16)


def loss(w, x, scale=1.0):
    return scale * jnp.sum(jnp.tanh(jnp.tanh(x @ w) @ w))


@pytest.fixture
def subjects(monkeypatch):
    """A meter that keeps what it is given."""
    monkeypatch.setattr("ckptgrad.meters.meter._METERS", {**meters()})
    seen = []

    @meter("keeping", label="keeps", sees="what it is given", cannot_see="anything else", runs=False)
    def keeping(subject):
        seen.append(subject)
        return Reading(7)

    return seen


def test_the_prediction_alone_compiles_nothing(monkeypatch):
    monkeypatch.setattr(Certified, "__init__", lambda *_, **__: pytest.fail("compiled"))
    course = cg.timeline(loss, W, X, observe=())
    assert (course.name, course.readings) == ("loss", {})
    assert course.peak_bytes == cg.plan(loss, W, X).peak_bytes


def test_a_meter_is_given_the_program_its_arguments_and_where_actions_are(subjects):
    course = cg.timeline(loss, W, X, scale=2.0, budget="min", observe="keeping")
    (subject,) = subjects
    assert course.readings == {"keeping": Reading(7)}
    assert course.least
    assert len(subject.places) == len(course.moments)
    assert subject.places[0][0] == "forward_0"
    assert subject.places[-1][2] == pytest.approx(1.0)
    assert [x.shape for x in jax.tree.leaves((subject.args, subject.kwargs))][:2] == [(16, 16), (64, 16)]
    held = []
    subject.staged(lambda arrays: held.append(sum(x.nbytes for x in arrays)))
    assert len(held) == len(course.moments)


def test_the_budget_that_was_asked_for_is_that_of_the_timeline(subjects):
    course = cg.timeline(loss, W, X, budget="64KiB", observe="keeping")
    assert (course.budget, course.least) == (65536, False)


def test_an_unknown_meter_is_refused_before_anything_is_traced():
    with pytest.raises(cg.OptionError, match="no meter 'thermometer'"):
        cg.timeline(lambda x: pytest.fail("traced"), X, observe="thermometer")


def test_every_report_knows_the_arguments():
    """In its figures and as plain data; what the certified program is given is as large."""
    arguments, expected = ([W] * 2, X), {"w": 2 * W.nbytes, "x": X.nbytes}

    def layers(w, x):
        return loss(w[1], loss(w[0], x) + x)

    course = cg.timeline(layers, *arguments, observe=())
    curve = cg.frontier(layers, *arguments, costs="estimate")
    assert dict(course.arguments) == dict(curve.arguments) == expected
    assert course.to_dict()["argument_bytes"] == curve.to_dict()["argument_bytes"] == expected
    assert course.to_dict()["total_bytes"] == course.peak_bytes + 2 * W.nbytes + X.nbytes
    certified = cg.value_and_grad(layers).compile(*arguments)
    assert certified.memory.argument_bytes == 2 * W.nbytes + X.nbytes
    assert f"arguments     6.0 KiB; {(certified.peak_bytes + 6 * 1024) / 1024:.1f} KiB with them" in str(certified)
    checked = cg.validate(layers, *arguments, meters="none", repeats=1)
    assert dict(checked.arguments) == checked.to_dict()["argument_bytes"] == expected


def test_timelines_and_validations_may_leave_stages_whole():
    weights, x = [jnp.ones((8, 256))] * 3, jnp.ones((64, 8))

    def deep(ws, x):
        for w in ws:
            x = x + jnp.tanh(x @ w) @ w.T
        return jnp.mean(x**2)

    whole, chunked = (cg.timeline(deep, weights, x, budget="min", chunks=chunks, observe=()) for chunks in (False, True))
    assert chunked.peak_bytes < whole.peak_bytes
    table = cg.validate(deep, weights, x, budget="min", policies=["optimal"], meters=(), repeats=1, chunks=False)
    assert table.rows[-1].predicted_peak_bytes > chunked.peak_bytes
