"""What `jax.custom_jvp` and `jax.custom_vjp` functions do to axes: function and rule are followed, with the same cuts.

A rule often calls the function to which it belongs: inside, that is taken to be what it is outside.  For a chunk there is a
function with a rule of its own again, made of the operations of both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes

from ckptgrad.axes.cut import Chunk, Partial, Split, State
from ckptgrad.axes.programs import Followable, Followed, followed
from ckptgrad.axes.statements import Passage
from ckptgrad.graph.custom_calls import rule_call
from ckptgrad.graph.fingerprint import MAX_RULE_DEPTH, aval_key, value_key
from ckptgrad.graph.graph import Operation
from ckptgrad.graph.trace import from_jaxpr


def _function(op: Operation, cuts: Sequence[int | None], size: int) -> Followed | None:
    """The function itself, if each of its results is cut or summed."""
    found = followed(from_jaxpr(op.params["call_jaxpr"]), cuts, size)
    return None if found is None or None in found.results else found


# The functions inside whose rules one is being followed, and what is known of each.
_ENTERED: ContextVar[Mapping[Any, Passage]] = ContextVar("entered", default=MappingProxyType({}))

# From an operation, the function followed, and the programs of its rule to what a chunk runs.
Rule: TypeAlias = Callable[[Operation, Followed, Any, int], Callable[[Sequence[Any], Chunk], list[Any]] | None]


def _by_rule(follow_rule: Rule) -> Followable:
    def follow(op: Operation, cuts: Sequence[int | None], size: int) -> Passage | None:
        rule = rule_call(op.name, op.params)
        identity = None if rule is None or op.params["num_consts"] else rule.identity()
        if rule is None or identity is None:
            return None
        key = (op.name, value_key(identity), tuple(aval_key(a) for a in rule.in_avals), tuple(cuts), size)
        entered = _ENTERED.get()
        if key in entered:
            return entered[key]
        function = _function(op, cuts, size)
        if function is None:
            return None
        made: list[Callable[[Sequence[Any], Chunk], list[Any]]] = []

        def later(values: Sequence[Any], chunk: Chunk) -> list[Any]:
            return made[0](values, chunk)

        passage = Passage(function.operands, function.results, later)
        token = _ENTERED.set({**entered, key: passage})
        try:
            programs = rule.programs() if len(entered) < MAX_RULE_DEPTH else None
            run = None if programs is None else follow_rule(op, function, programs, size)
        finally:
            _ENTERED.reset(token)
        if run is None:
            return None
        made.append(run)
        return passage

    return Followable(follow)


@_by_rule
def custom_jvp(op: Operation, function: Followed, programs: Any, size: int) -> Any:
    """The rule for tangents, which are cut as their values are."""
    program, zeros = programs
    tangents = followed(from_jaxpr(program), [*function.operands, *function.operands], size)
    moving = [state for state, zero in zip(function.results, zeros, strict=True) if not zero]
    if tangents is None or tangents.operands != (*function.operands, *function.operands):
        return None
    if tangents.results != (*function.results, *moving):
        return None

    def run(values: Sequence[Any], chunk: Chunk) -> list[Any]:
        chosen = jax.custom_jvp(lambda *xs: tuple(function.run(xs, chunk)))

        @chosen.defjvp
        def _(primals: Sequence[Any], moves: Sequence[Any]) -> Any:
            results = tangents.run([*primals, *moves], chunk)
            outputs, rest = tuple(map(jnp.asarray, results[: len(zeros)])), iter(results[len(zeros) :])
            return outputs, tuple(_no_tangent(y) if zero else next(rest) for y, zero in zip(outputs, zeros, strict=True))

        return list(chosen(*values))

    return run


def _no_tangent(value: Any) -> Any:
    if jnp.issubdtype(value.dtype, np.inexact):
        return jnp.zeros_like(value)
    return np.zeros(value.shape, dtypes.float0)


@_by_rule
def custom_vjp(op: Operation, function: Followed, programs: Any, size: int) -> Any:
    """The rule's forward and backward: cotangents are cut as their values are."""
    program, _, forwarded, back, present = programs
    kept = followed(from_jaxpr(program), function.operands, size)
    fresh = sum(f is None for f in forwarded)
    if kept is None or kept.operands != function.operands or kept.results[fresh:] != function.results:
        return None
    own = iter(kept.results[:fresh])
    residuals = [next(own) if f is None else _cut(function.operands[f]) for f in forwarded]
    # Cotangents of parts are parts; that of a sum is the same for all its summands.
    inexact = [jnp.issubdtype(v.dtype, np.inexact) for v in op.outputs]
    cotangents = [state for state, i in zip(function.results, inexact, strict=True) if i]
    starts = [s.axis if isinstance(s, Split) else None for s in (*residuals, *cotangents)]
    if any(isinstance(state, Partial) for state in residuals):
        return None
    backward = followed(from_jaxpr(back), starts, size)
    wanted = [_gradient(axis) for axis, there in zip(function.operands, present, strict=True) if there]
    if backward is None or list(backward.operands) != starts or list(backward.results) != wanted:
        return None

    def run(values: Sequence[Any], chunk: Chunk) -> list[Any]:
        chosen = jax.custom_vjp(lambda *xs: tuple(function.run(xs, chunk)))

        def forward(*xs: Any) -> Any:
            results = kept.run(xs, chunk)
            made = iter(results[:fresh])
            return tuple(results[fresh:]), [next(made) if f is None else xs[f] for f in forwarded]

        def reverse(known: Sequence[Any], arriving: Sequence[Any]) -> Any:
            seeds = [ct for ct, i in zip(arriving, inexact, strict=True) if i]
            gradients = iter(backward.run([*known, *seeds], chunk))
            return tuple(next(gradients) if there else None for there in present)

        chosen.defvjp(forward, reverse)
        return list(chosen(*values))

    return run


def _cut(axis: int | None) -> State:
    return None if axis is None else Split(axis)


def _gradient(axis: int | None) -> State:
    """A gradient has a part for each part of its value, and a summand of each chunk where that is read whole."""
    return Partial() if axis is None else Split(axis)
