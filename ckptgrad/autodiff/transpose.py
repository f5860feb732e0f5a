"""Transposition: a linear function run backwards by the reverse engine.

Nothing that depends on the arguments is evaluated, since a linear function's derivative does not
read them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from ckptgrad.autodiff.reverse import Tape, accumulate, backpropagate, forward
from ckptgrad.graph.graph import Variable
from ckptgrad.graph.trace import cotangent_struct, from_jaxpr


def transposed(fun: Callable, avals: Sequence[Any], wanted: Sequence[bool], cotangents: Sequence[Any]) -> list[Any]:
    """Cotangents of the arguments of a linear function.

    Args:
        fun: of one tangent an aval (None where not wanted), to tangents (None: zero), linear.
        avals: of the arguments.
        wanted: the arguments that have a tangent.
        cotangents: of the results; None for zero.

    Returns:
        One entry an argument: a cotangent, or None where it is zero or not wanted.
    """
    places = [i for i, w in enumerate(wanted) if w]
    live: list[int] = []

    def run(*tangents):
        given: list[Any] = [None] * len(avals)
        for i, t in zip(places, tangents, strict=True):
            given[i] = t
        results = fun(*given)
        pairs = zip(results, cotangents, strict=True)
        live[:] = [k for k, (t, ct) in enumerate(pairs) if t is not None and ct is not None]
        return [results[k] for k in live]

    graph = from_jaxpr(jax.make_jaxpr(run)(*(cotangent_struct(avals[i]) for i in places)))
    tape = forward(graph, [None] * len(places), graph.inputs, linear=True)
    return scatter(pull_from(tape, [cotangents[k] for k in live]), places, len(avals))


def pull_from(tape: Tape, cotangents: Sequence[Any], wrt: Sequence[Variable] | None = None) -> list[Any]:
    seeds: dict[Variable, Any] = {}
    for atom, ct in zip(tape.graph.outputs, cotangents, strict=True):
        if ct is not None and isinstance(atom, Variable) and atom in tape.active:
            accumulate(seeds, atom, ct)
    return backpropagate(tape, seeds, tape.graph.inputs if wrt is None else wrt)


def scatter(found: Sequence[Any], places: Sequence[int], count: int) -> list[Any]:
    entries: list[Any] = [None] * count
    for i, value in zip(places, found, strict=True):
        entries[i] = value
    return entries
