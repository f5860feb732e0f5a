# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""The seconds that one stage takes on the target: its forward and backward run alone, option by option."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from ckptgrad.chain.kind import PerKind, StageKind
from ckptgrad.chain.program import Program
from ckptgrad.costs.compiled import compiled_costs
from ckptgrad.execution.stage_functions import stage_functions
from ckptgrad.graph.random_keys import from_numbers, is_key, numbers_struct
from ckptgrad.graph.value_types import cotangent_struct, struct
from ckptgrad.planning.costs import ChainCosts, StageCost
from ckptgrad.stage.partition import Run
from ckptgrad.target.calibrate import best_seconds
from ckptgrad.target.remember import remembered

REPEATS = 5


def measured_costs(program: Program) -> ChainCosts:
    """Compiled costs, with measured times: seconds of the fastest of a few runs of each distinct stage's programs.

    Measured once per device and version: `remember`. Times of stages with loops, which have many options, and of stages
    on several devices stay estimates: a clock that differs by process must not decide.
    """
    costs = compiled_costs(program)
    times = {kind: _times(kind) for kind in program.kinds if kind.is_probed_whole and not kind.is_laid_out}
    seen: dict[tuple[Any, ...], StageCost] = {}
    stages: list[StageCost] = []
    for stage, cost in zip(program.stages, costs.stages, strict=True):
        key = (id(stage.kind), id(cost))
        if stage.kind not in times:
            seen[key] = cost
        elif key not in seen:
            seconds = times[stage.kind]
            options = tuple(
                replace(
                    option,
                    forward_time=seconds["forward", k],
                    backward_time=seconds["backward", k],
                    output_time=min(max(0.0, seconds["forward", k] - seconds["hidden", k]), seconds["forward", -1]),
                )
                for k, option in enumerate(cost.options)
            )
            seen[key] = replace(cost, options=options, forward_time=seconds["forward", -1])
        stages.append(seen[key])
    return replace(costs, stages=tuple(stages))


def _nothing_timed(kind: StageKind) -> dict[tuple[str, int], float]:
    return {}


# Seconds of the programs of a kind.
_timed = PerKind(_nothing_timed)


def _times(kind: StageKind) -> dict[tuple[str, int], float]:
    known = _timed(kind)
    functions = stage_functions(kind)
    for k in range(-1, len(kind.options)):
        if ("forward", k) not in known:
            run, call = functions.forward(None if k < 0 else k)
            known["forward", k] = _seconds(call, kind, run)
        if k >= 0 and ("backward", k) not in known:
            run, call = functions.backward(k)
            known["backward", k] = _seconds(partial(_without_totals, call), kind, run)
        if k >= 0 and ("hidden", k) not in known:
            run, call = functions.forward(k, output=False)
            known["hidden", k] = _seconds(call, kind, run) if run.makes else 0.0
    return known


def _without_totals(backward: Callable[..., list[Any]], values: Sequence[Any]) -> list[Any]:
    return backward((values, []))


def _seconds(function: Any, kind: StageKind, run: Run) -> float:
    cotangents = {*kind.joint.cotangents}
    avals = [cotangent_struct(v.aval) if v in cotangents else struct(v.aval) for v in run.reads]
    known = {v: c for v, c in kind.joint.constants.items() if not isinstance(c, Tracer)}
    args = [known[v] if v in known else _value(a) for v, a in zip(run.reads, avals, strict=True)]
    lowered = kind.target.lower(jax.jit(function), args)

    def measure() -> float:
        compiled = kind.target.compile(lowered)
        return best_seconds(lambda: compiled(args), REPEATS)

    return remembered(kind.target, "seconds", lowered.as_text(), measure, positive=True)


def _value(aval: Any) -> Any:
    """An array of plausible values: small numbers, or zeros."""
    if is_key(aval):
        return from_numbers(_value(numbers_struct(aval)), aval)
    if jax.numpy.issubdtype(aval.dtype, np.inexact):
        draw = np.random.default_rng(0).uniform(0.1, 0.9, aval.shape)
        return jax.numpy.asarray(draw, aval.dtype)
    return jax.numpy.zeros(aval.shape, aval.dtype)
