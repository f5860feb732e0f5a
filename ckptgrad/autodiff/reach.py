"""Which results a derivative can reach, and from where: inside loops and branches one value is told from another."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias

from ckptgrad.autodiff.reverse import is_differentiable
from ckptgrad.autodiff.rule import is_zero
from ckptgrad.compat import custom_jvp_call, scan_counts
from ckptgrad.graph.graph import Graph, Operation, Variable, variables_of
from ckptgrad.graph.trace import from_jaxpr


def reaching(graph: Graph, seeds: Collection[Variable]) -> set[Variable]:
    """The variables from which a seed is reached through differentiable operations.

    What is not among them has no cotangent, rather than one of zeros, which an infinite derivative makes nan.
    """
    found = set(seeds)
    for op in reversed(graph.operations):
        wanted = [v in found for v in op.outputs]
        if any(wanted) and not is_zero(op):
            needed = _FROM[op.name](op, wanted) if op.name in _FROM else [True] * len(op.inputs)
            found.update(variables_of(a for a, n in zip(op.inputs, needed, strict=True) if n))
    return found


def grown(flags: Sequence[bool], places: Sequence[int], follow: Callable[[list[bool]], Sequence[bool]]) -> list[bool]:
    """`flags`, with those of carried values that follow from them after any number of steps.

    Args:
        flags: of the inputs of a loop's body, or of its outputs.
        places: where the carried values stand among them.
        follow: from flags to those of the carried values on the other side of a step, first of all that it returns.
    """
    flags = list(flags)
    while True:
        more = [i for i, found in zip(places, follow(flags), strict=False) if found and not flags[i]]
        if not more:
            return flags
        for i in more:
            flags[i] = True


def moving_carry(body: Graph, wanted: Sequence[bool], carry: int, count: int) -> list[bool]:
    """`wanted` outputs of a loop's body, with every carried one that they depend on in a later step.

    Args:
        body: its first outputs are the new carried values.
        wanted: of its outputs.
        carry: where its carried inputs begin.
        count: how many there are.
    """
    return grown(wanted, range(count), lambda flags: inputs_reaching(body, flags)[carry:])


def operands_reaching(body: Graph, consts: int, carry: int) -> list[bool]:
    """Of a loop of a body: on which operands (constants, carried, stacked) any result depends."""
    return _from_loop(body, [True] * len(body.outputs), consts, carry)


def inputs_reaching(graph: Graph, wanted: Sequence[bool]) -> list[bool]:
    """Of each input, whether a wanted output is reached from it."""
    found = reaching(graph, wanted_variables(graph, wanted))
    return [v in found for v in graph.inputs]


def wanted_variables(graph: Graph, wanted: Sequence[bool]) -> list[Variable]:
    """The variables among the wanted outputs."""
    return variables_of(a for a, w in zip(graph.outputs, wanted, strict=True) if w)


def _from_scan(op: Operation, wanted: list[bool]) -> list[bool]:
    n, c = scan_counts(op.params)
    return _from_loop(from_jaxpr(op.params["jaxpr"]), wanted, n, c)


def _from_while(op: Operation, wanted: list[bool]) -> list[bool]:
    k, n = op.params["cond_nconsts"], op.params["body_nconsts"]
    return [False] * k + _from_loop(from_jaxpr(op.params["body_jaxpr"]), wanted, n, len(wanted))


def _from_loop(body: Graph, wanted: list[bool], carry: int, count: int) -> list[bool]:
    """Of the operands of a loop; `carry` is where its carried ones begin, `count` how many there are."""
    wanted = moving_carry(body, wanted, carry, count)
    found = inputs_reaching(body, wanted)
    return [*found[:carry], *wanted[:count], *found[carry + count :]]


def _from_cond(op: Operation, wanted: list[bool]) -> list[bool]:
    branches = [inputs_reaching(from_jaxpr(b), wanted) for b in op.params["branches"]]
    return [False, *(any(found) for found in zip(*branches, strict=True))]


_FROM: dict[str, Callable[[Operation, list[bool]], list[bool]]] = {
    "scan": _from_scan,
    "while": _from_while,
    "cond": _from_cond,
}

# From which inputs of a program move to which of its outputs do.
Follow: TypeAlias = Callable[[Graph, Sequence[bool]], list[bool]]


def reached(graph: Graph, moving: Sequence[bool]) -> list[bool]:
    """Which outputs have a tangent where the moving inputs have one.

    Finer than `active_variables`, for which a loop is one operation, all of whose results depend on all its operands.
    """
    active = {v for v, m in zip(graph.inputs, moving, strict=True) if m and is_differentiable(v.aval)}
    for op in graph.operations:
        flags = [a in active for a in op.inputs]
        if any(flags) and not is_zero(op):
            found = _through(op, flags, reached)
            active.update(v for v, f in zip(op.outputs, found, strict=True) if f and is_differentiable(v.aval))
    return [a in active for a in graph.outputs]


def _read(graph: Graph, moving: Sequence[bool]) -> list[bool]:
    """Which outputs depend on the moving inputs, with a derivative or without."""
    active = {v for v, m in zip(graph.inputs, moving, strict=True) if m}
    for op in graph.operations:
        flags = [a in active for a in op.inputs]
        if any(flags):
            active.update(v for v, f in zip(op.outputs, _through(op, flags, _read), strict=True) if f)
    return [a in active for a in graph.outputs]


def _through(op: Operation, flags: list[bool], follow: Follow) -> list[bool]:
    if op.name in _PROGRAMS:
        return _PROGRAMS[op.name](op, flags, follow)
    return [True] * len(op.outputs)


def _scan(op: Operation, flags: list[bool], follow: Follow) -> list[bool]:
    n, c = scan_counts(op.params)
    return _looped(from_jaxpr(op.params["jaxpr"]), flags, n, c, follow)


def _while(op: Operation, flags: list[bool], follow: Follow) -> list[bool]:
    k, n = op.params["cond_nconsts"], op.params["body_nconsts"]
    found = _looped(from_jaxpr(op.params["body_jaxpr"]), flags[k:], n, len(op.outputs), follow)
    return found if follow is reached or not any(flags[:k]) else [True] * len(found)


def _looped(body: Graph, flags: list[bool], carry: int, count: int, follow: Follow) -> list[bool]:
    """Of the results of a loop; `carry` is where its carried inputs begin, `count` how many there are."""
    flags = grown(flags, range(carry, carry + count), lambda found: follow(body, found))
    return [*flags[carry : carry + count], *follow(body, flags)[count:]]


def _cond(op: Operation, flags: list[bool], follow: Follow) -> list[bool]:
    if flags[0]:
        return [True] * len(op.outputs)
    branches = [follow(from_jaxpr(b), flags[1:]) for b in op.params["branches"]]
    return [any(found) for found in zip(*branches, strict=True)]


def _custom_jvp(op: Operation, flags: list[bool], follow: Follow) -> list[bool]:
    """Of what the function reads: its rule may give a derivative to what has none by itself."""
    return _read(from_jaxpr(custom_jvp_call(op.params).primal), flags)


_PROGRAMS: dict[str, Callable[[Operation, list[bool], Follow], list[bool]]] = {
    "scan": _scan,
    "while": _while,
    "cond": _cond,
    "custom_jvp_call": _custom_jvp,
}
