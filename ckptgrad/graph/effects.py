"""Side effects: which ones an operation has, and what is left of it when it is repeated only for its results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Var

from ckptgrad.compat import is_closed, names_axis
from ckptgrad.graph.graph import Operation
from ckptgrad.graph.work import inner_programs

# The effect of `lax.rng_uniform`, of which JAX says nothing: it has a state, and draws other numbers when it is repeated.
DRAWS = "draws numbers"


def side_effects(eqn: JaxprEqn) -> frozenset[Any]:
    """The effects of an equation; that a collective names an axis is not one: the collective may be repeated."""
    named = frozenset(effect for effect in eqn.effects if not names_axis(effect))
    return named | {DRAWS} if _draws(eqn) else named


def _draws(eqn: JaxprEqn) -> bool:
    return eqn.primitive.name == "rng_uniform" or any(map(_draws, (e for p in inner_programs(eqn.params) for e in p.eqns)))


def is_repeatable(op: Operation) -> bool:
    """Whether an operation may be repeated for its results: that has no side effect then."""
    return not silent(op).effects


def silent(op: Operation) -> Operation:
    """The operation without the side effects inside it whose results nothing reads."""
    if not op.effects:
        return op
    params, effects = _silent_params(op.params)
    left = op.effects if effects is None else effects | (op.effects & {DRAWS})
    return Operation(op.primitive, op.inputs, op.outputs, params, op.source_info, op.context, left)


def _silent_params(params: dict[str, Any]) -> tuple[dict[str, Any], frozenset[Any] | None]:
    """Parameters with silent inner programs, and the effects left in these; None if there are no such programs."""
    replaced: dict[str, Any] = {}
    effects: frozenset[Any] | None = None
    for name, value in params.items():
        container, is_list = cast(Any, type(value)), isinstance(value, (tuple, list))
        programs: Sequence[Any] = cast(Sequence[Any], value) if is_list else (value,)
        if programs and all(isinstance(p, (ClosedJaxpr, Jaxpr)) for p in programs):
            quiet = [_silent_program(p) for p in programs]
            replaced[name] = container(quiet) if is_list else quiet[0]
            effects = frozenset[Any](effects or ()).union(*(p.effects for p in quiet))
    return {**params, **replaced}, effects


def _silent_program(program: Any) -> Any:
    if not program.effects:
        return program
    if is_closed(program):
        return program.replace(jaxpr=_silent_program(program.jaxpr))
    live = {v for v in program.outvars if isinstance(v, Var)}
    kept: list[JaxprEqn] = []
    for eqn in reversed(program.eqns):
        if not any(v in live for v in eqn.outvars):
            continue
        if eqn.effects:
            params, effects = _silent_params(eqn.params)
            eqn = eqn if effects is None else eqn.replace(params=params, effects=effects)
        kept.append(eqn)
        live.update(v for v in eqn.invars if isinstance(v, Var))
    return program.replace(eqns=kept[::-1], effects=frozenset[Any]().union(*(eqn.effects for eqn in kept)))
