"""What one stage really takes: its forward and backward run alone, option by option."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax import dtypes

from ckptgrad.chain.program import Program, StageKind
from ckptgrad.graph.graph import Variable
from ckptgrad.graph.trace import cotangent_struct, struct
from ckptgrad.planning.costs import ChainCosts, StageCost
from ckptgrad.runtime.calibrate import best_seconds
from ckptgrad.runtime.compiled import stage_functions
from ckptgrad.runtime.remember import remembered

REPEATS = 5


def measured_costs(program: Program, costs: ChainCosts) -> ChainCosts:
    """The same costs with measured times: seconds of the fastest of a few runs of each distinct stage's programs.

    Measured once a device and version: `remember`.
    """
    times = {kind: _times(kind) for kind in program.kinds}
    seen: dict[tuple, StageCost] = {}
    stages = []
    for stage, cost in zip(program.stages, costs.stages, strict=True):
        key = (id(stage.kind), id(cost))
        if key not in seen:
            found = times[stage.kind]
            options = tuple(
                replace(option, forward_time=found["forward", k], backward_time=found["backward", k])
                for k, option in enumerate(cost.options)
            )
            seen[key] = replace(cost, options=options, forward_time=found["forward", -1])
        stages.append(seen[key])
    return replace(costs, stages=tuple(stages))


def _times(kind: StageKind) -> dict[tuple[str, int], float]:
    known: dict[tuple[str, int], float] = kind.attached.setdefault("times", {})
    functions = stage_functions(kind)
    for k in range(-1, len(kind.options)):
        if ("forward", k) not in known:
            inputs = _values(kind.joint.inputs)
            known["forward", k] = _seconds(functions.forward(None if k < 0 else k, False, frozenset()), inputs, [])
        if k >= 0 and ("backward", k) not in known:
            part = kind.options[k].partition
            cotangents = [_value(cotangent_struct(v.aval)) for v in part.joint.cotangents]
            arguments = _values(part.residuals), _values(part.reads), cotangents
            known["backward", k] = _seconds(functions.backward(k), *arguments)
    return known


def _seconds(function: Any, *args: Any) -> float:
    lowered = function.lower(*args)

    def measure() -> float:
        compiled = lowered.compile()
        return best_seconds(lambda: compiled(*args), REPEATS)

    return remembered("seconds", lowered.as_text(), measure)


def _values(variables: Sequence[Variable]) -> list[Any]:
    return [_value(struct(v.aval)) for v in variables]


def _value(aval: Any) -> Any:
    """An array of plausible values: small numbers, or zeros."""
    if dtypes.issubdtype(aval.dtype, dtypes.prng_key):
        return jax.random.split(jax.random.key(0), aval.shape) if aval.shape else jax.random.key(0)
    if dtypes.issubdtype(aval.dtype, np.inexact):
        draw = np.random.default_rng(0).uniform(0.1, 0.9, aval.shape)
        return jax.numpy.asarray(draw, aval.dtype)
    return jax.numpy.zeros(aval.shape, aval.dtype)
