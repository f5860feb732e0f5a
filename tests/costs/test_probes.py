"""Probes: which bytes a plan counts beside them, and how few of them are compiled."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import ckptgrad as cg
from ckptgrad.costs.compiled import places_of, probes_of
from ckptgrad.costs.estimated import estimated_costs
from ckptgrad.costs.probes import Place, Probe, compile_probes, given_bytes, without_numbers
from ckptgrad.target.attached import attached
from ckptgrad.target.hlo.tables import count_tables
from ckptgrad.target.hlo.text import read_module
from tests.support.devices import on_four_devices
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


def test_programs_that_differ_in_a_single_number_are_compiled_once(monkeypatch):
    """Layers that fold their number into a key are kinds of their own; a scale is a number, too."""
    asked = probes_from_now_on(monkeypatch)

    def scaled(ws, x):
        for i, w in enumerate(ws):
            x = cg.stage(lambda w, x, i=i: jnp.tanh(x @ w) * (i + 2.5))(w, x)
        return (x**2).sum()

    kinds = [stage.kind for stage in cg.plan(scaled, [W] * 4, X, costs="estimate").program.stages[1:3]]
    assert kinds[0] is not kinds[1]
    probes = [Probe(kind, "backward", 0, ALONE) for kind in kinds]
    compile_probes(probes)
    assert len(asked) == 1
    assert probes[0].figures == probes[1].figures


def test_programs_whose_loops_turn_more_often_are_others():
    def turns(n, key=0):
        def run(x):
            scale = jax.random.uniform(jax.random.fold_in(jax.random.key(0), key))
            return jax.lax.fori_loop(0, n, lambda _, x: x * scale, x)

        return jax.jit(run).lower(X).as_text()

    def scales(n):
        return jax.jit(lambda x: x * n).lower(X).as_text()

    assert without_numbers(turns(3)) != without_numbers(turns(4))
    assert turns(3, key=1) != turns(3, key=2)
    assert without_numbers(turns(3, key=1)) == without_numbers(turns(3, key=2))
    assert scales(3.0) != scales(4.0)
    assert without_numbers(scales(3.0)) == without_numbers(scales(4.0))
    assert without_numbers(scales(np.arange(16.0))) != without_numbers(scales(np.arange(16.0) + 1))


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


def check_tables(devices):
    """Over several devices tables are told apart; on one they are not read."""
    size = 64
    target = replace(attached(), platform=replace(attached().platform, table_bytes=size))
    mesh = jax.make_mesh((devices,), ("data",), devices=jax.devices()[:devices])
    x = jax.ShapeDtypeStruct(X.shape, X.dtype, sharding=NamedSharding(mesh, P("data")))
    ws = [jax.ShapeDtypeStruct(W.shape, W.dtype, sharding=NamedSharding(mesh, P()))] * 4
    kind = cg.plan(loss, ws, x, costs="estimate", target=target).program.stages[1].kind
    assert kind.is_spread == (devices > 1)
    with pytest.MonkeyPatch.context() as patch:
        asked = probes_from_now_on(patch)
        probe = Probe(kind, "backward", 0, ALONE)
        compile_probes([probe])
    (lowered,) = asked
    compiled = target.compile_probe(lowered)
    taken, tables = target.allocated(compiled).temporary_bytes, count_tables(read_module(compiled.as_text()))
    assert taken > size * tables > 0
    expected = (taken - size * tables, size * tables) if devices > 1 else (taken, 0)
    assert (probe.figures.bytes, probe.figures.table_bytes) == expected


def test_tables_are_told_apart_from_what_a_program_takes_beside_them():
    check_tables(1)
    on_four_devices(__name__, "check_tables(4)")
