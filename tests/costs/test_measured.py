"""Measured times of stages: each distinct program is timed once, and its seconds stand where estimates stood."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import ckptgrad as cg
from ckptgrad.chain.program import forget_kinds
from ckptgrad.costs import measured
from ckptgrad.costs.estimated import estimated_costs
from ckptgrad.costs.measured import measured_costs
from ckptgrad.target.target import Target

X, W = jax.ShapeDtypeStruct((8, 4), jnp.float32), jax.ShapeDtypeStruct((4, 4), jnp.float32)


def loss(ws, key, x):
    for w in ws:
        x = cg.stage(lambda w, key, x: jnp.tanh(x @ w) * jax.random.bernoulli(key, 0.5, x.shape))(w, key, x)
    return (x**2).sum()


@pytest.fixture
def timed(monkeypatch):
    """The programs that were timed, each as a second less than the one before; none is compiled."""
    forget_kinds()
    programs = []

    def best_seconds(run, repeats):
        assert repeats == measured.REPEATS
        run()
        return 100.0 - len(programs)

    monkeypatch.setattr(measured, "best_seconds", best_seconds)
    monkeypatch.setattr(measured, "compiled_costs", estimated_costs)
    monkeypatch.setattr(Target, "compile", lambda target, lowered: lambda args: programs.append((lowered, args)))
    yield programs
    forget_kinds()


def test_each_kind_is_timed_once(timed):
    program = cg.plan(loss, [W] * 4, jax.random.key(0), X, costs="estimate").program
    estimated, costs = estimated_costs(program), measured_costs(program)
    count = len(timed)
    assert 0 < count <= sum(1 + 3 * len(kind.options) for kind in program.kinds)
    assert measured_costs(program) == costs
    assert len(timed) == count
    assert costs.stages[1] is costs.stages[2]
    for before, after in zip(estimated.stages, costs.stages, strict=True):
        assert after.forward_time > 1
        assert after.boundary_bytes == before.boundary_bytes
        for one, other in zip(before.options, after.options, strict=True):
            assert one.backward_transient == other.backward_transient
            assert other.output_time <= min(other.forward_time, after.forward_time)


def test_programs_are_timed_on_values_of_their_types(timed):
    """Small numbers, zeros for integers, keys for keys."""
    measured_costs(cg.plan(loss, [W], jax.random.key(0), X, costs="estimate").program)
    for lowered, args in timed:
        wanted = jax.tree.leaves(lowered.args_info)
        assert [(a.shape, a.dtype) for a in args] == [(i.shape, i.dtype) for i in wanted]
        for a in args:
            assert not jnp.issubdtype(a.dtype, jnp.inexact) or ((a > 0) & (a < 1)).all()
    assert any(jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key) for _, args in timed for a in args)


def test_times_of_stages_with_loops_stay_estimates(timed):
    def looping(w, x):
        return lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, None, length=5)[0].sum()

    program = cg.plan(looping, W, X, costs="estimate").program
    assert measured_costs(program) == estimated_costs(program)
    assert timed == []
