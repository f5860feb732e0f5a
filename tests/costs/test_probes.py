"""Probes: which bytes a plan counts beside them, and how few of them are compiled."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.costs.compiled import places_of, probes_of
from ckptgrad.costs.estimated import estimated_costs
from ckptgrad.costs.probes import Place, Probe, compile_probes, given_bytes
from tests.support.probes import probes_from_now_on

X, W = jax.ShapeDtypeStruct((64, 16), jnp.float32), jax.ShapeDtypeStruct((16, 16), jnp.float32)
STATE, MATRIX = 64 * 16 * 4, 16 * 16 * 4
ALONE = Place(False, (), ())


def loss(ws, x):
    for w in ws:
        x = cg.stage(lambda w, x: jnp.tanh(x @ w))(w, x)
    return (x**2).sum()


@pytest.fixture
def middle(monkeypatch):
    """The kind of a stage in the middle, of which nothing is known, and the programs that are compiled from now on."""
    asked = probes_from_now_on(monkeypatch)
    return cg.plan(loss, [W] * 4, X, costs="estimate").program.stages[1].kind, asked


def test_the_program_of_a_probe(middle):
    """A forward that does not produce its output makes what it keeps alone."""
    kind, _ = middle
    everything = max(range(len(kind.options)), key=lambda k: len(kind.options[k].partition.residuals))
    forward, hidden = (Probe(kind, run, everything).program for run in ("forward", "hidden"))
    assert {*hidden.makes} <= {*forward.makes}
    backward = Probe(kind, "backward", everything, ALONE).program
    assert {*kind.joint.cotangents} <= {*backward.reads}


def test_equal_programs_are_compiled_once_and_each_probe_once(middle):
    kind, asked = middle
    probes = [*probes_of(kind, ALONE)]
    compile_probes([*probes, *probes])
    first = len(asked)
    assert 0 < first <= len(probes)
    compile_probes(probes)
    assert len(asked) == first
    assert len({lowered.as_text() for lowered in asked}) == first
    assert all(probe.figures.bytes >= 0 and probe.figures.seconds is None for probe in probes)


def test_bytes_of_what_a_backward_is_given(middle):
    """Its cotangent and its own residuals; the incoming boundary where no backward after it reads that, and running sums."""
    kind, _ = middle
    inputs_only = next(k for k, o in enumerate(kind.options) if not o.partition.residuals)
    (position,) = [p for p, k in enumerate(kind.wrt) if kind.graph.inputs[k].shape == (16, 16)]
    assert given_bytes(kind, inputs_only, ALONE) == 2 * STATE
    assert given_bytes(kind, inputs_only, Place(True, (), ())) == STATE
    assert given_bytes(kind, inputs_only, Place(False, (position,), ())) == 2 * STATE + MATRIX


def test_places_are_those_of_the_program():
    def tied(w, x):
        return loss([w] * 3, x)

    program = cg.plan(tied, W, X, costs="estimate").program
    places = places_of(program, estimated_costs(program))
    assert [place.summed for place in places] == program.summed
    assert [place.starting for place in places] == program.starting
    assert not places[0].stays
