"""Sources of costs agree in what is exact, and each says more than the one before."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.costs import source
from ckptgrad.costs.source import SOURCES, program_costs
from ckptgrad.request import Request

X = jax.ShapeDtypeStruct((64, 16), jnp.float32)
WS = [jax.ShapeDtypeStruct((16, 16), jnp.float32)] * 4


def loss(ws, x):
    for w in ws:
        x = jnp.tanh(x @ w)
    return x.sum()


def exact(costs):
    """Bytes of boundaries, cotangents and residuals."""
    return [(s.boundary_bytes, s.cotangent_bytes, [o.residual_bytes for o in s.options]) for s in costs.stages]


def test_sources_differ_in_transients_and_times_alone():
    program = cg.plan(loss, WS, X).program
    estimated, compiled, measured = (SOURCES[name](program) for name in ("estimate", "compile", "measure"))
    assert exact(estimated) == exact(compiled) == exact(measured)
    transients = [[[o.backward_transient for o in s.options] for s in c.stages] for c in (estimated, compiled, measured)]
    assert transients[0] != transients[1] == transients[2]
    times = [[s.forward_time for s in c.stages] for c in (estimated, compiled, measured)]
    assert times[0] == times[1] != times[2]


def test_auto_compiles_the_stages_of_what_is_compiled():
    program = cg.plan(loss, WS, X).program
    assert program_costs(program, "auto") == program_costs(program, "estimate")
    assert program_costs(program, "auto", compiling=True) == program_costs(program, "compile")


@pytest.mark.parametrize("name", source.CHOICES)
def test_every_source_can_be_asked_for(name):
    assert Request(costs=name).costs == name
