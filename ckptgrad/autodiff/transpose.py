# pyright: reportUnknownMemberType=false
"""Transposition: a linear function run backwards by the reverse engine.

Nothing that depends on the arguments is evaluated, since a linear function's derivative does not
read them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax

from ckptgrad.autodiff.cotangent import accumulate
from ckptgrad.autodiff.reverse import Tape, backpropagate, forward
from ckptgrad.graph.atoms import Array, Aval
from ckptgrad.graph.graph import Variable
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.graph.value_types import cotangent_struct


def transposed(
    fun: Callable[..., Sequence[Array | None]],
    avals: Sequence[Aval],
    moving: Sequence[bool],
    cotangents: Sequence[Array | None],
) -> list[Array | None]:
    """Cotangents of the arguments of a linear function.

    Args:
        fun: of one tangent per aval (None where it is not moving), to tangents (None: zero), linear.
        avals: of the arguments.
        moving: the arguments that have a tangent.
        cotangents: of the results; None for zero.

    Returns:
        One entry per argument: a cotangent, or None where it is zero or the argument is not moving.
    """
    places = [i for i, m in enumerate(moving) if m]
    live: list[int] = []

    def run(*tangents: Array) -> list[Array]:
        results = fun(*spread_over(len(avals), places, tangents))
        pairs = zip(results, cotangents, strict=True)
        live[:] = [k for k, (t, ct) in enumerate(pairs) if t is not None and ct is not None]
        return [results[k] for k in live]

    graph = from_jaxpr(jax.make_jaxpr(run)(*(cotangent_struct(avals[i]) for i in places)))
    tape = forward(graph, [None] * len(places), graph.inputs, linear=True)
    return spread_over(len(avals), places, pull_from(tape, [cotangents[k] for k in live]))


def pull_from(tape: Tape, cotangents: Sequence[Array | None], wrt: Sequence[Variable] | None = None) -> list[Array | None]:
    """Cotangents of `wrt` (all inputs if None) from those of a tape's outputs; None for zero on both sides."""
    seeds: dict[Variable, Array] = {}
    for atom, ct in zip(tape.graph.outputs, cotangents, strict=True):
        if ct is not None and isinstance(atom, Variable) and atom in tape.active:
            accumulate(seeds, atom, ct)
    return backpropagate(tape, seeds, tape.graph.inputs if wrt is None else wrt)


def spread_over(count: int, places: Sequence[int], values: Sequence[Array | None]) -> list[Array | None]:
    """A list of `count` entries with the values at their places, None elsewhere."""
    entries: list[Array | None] = [None] * count
    for i, value in zip(places, values, strict=True):
        entries[i] = value
    return entries
