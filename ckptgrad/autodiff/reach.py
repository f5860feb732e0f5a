"""Where derivatives flow: `reaching` backward from results, `reached` forward from inputs.

Inside loops and branches each value is followed on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias

from ckptgrad.autodiff.reverse import is_differentiable
from ckptgrad.autodiff.rule import is_zero
from ckptgrad.compat import CUSTOM_JVP, custom_jvp_call, scan_counts
from ckptgrad.graph.graph import Atom, Graph, Operation, Variable, variables_of
from ckptgrad.graph.trace import from_jaxpr


def reaching(graph: Graph, seeds: Collection[Variable]) -> set[Variable]:
    """The variables from which a seed is reached through differentiable operations.

    The others have no cotangent, rather than one of zeros, which an infinite derivative would make nan.
    """
    reach = set(seeds)
    for op in reversed(graph.operations):
        used = [v in reach for v in op.outputs]
        if any(used) and not is_zero(op):
            needed = _FROM[op.name](op, used) if op.name in _FROM else [True] * len(op.inputs)
            reach.update(variables_where(op.inputs, needed))
    return reach


def grown(flags: Sequence[bool], places: Sequence[int], follow: Callable[[list[bool]], Sequence[bool]]) -> list[bool]:
    """The flags, with those of carried values that are set by them after any number of steps.

    Args:
        flags: of the inputs of a loop's body, or of its outputs.
        places: where the carried values stand among them.
        follow: from flags to those of the carried values on the other side of a step, which come first in its result.
    """
    flags = list(flags)
    while True:
        more = [i for i, flag in zip(places, follow(flags), strict=False) if flag and not flags[i]]
        if not more:
            return flags
        for i in more:
            flags[i] = True


def moving_carry(body: Graph, used: Sequence[bool], carry: int, count: int) -> list[bool]:
    """The used outputs of a loop's body, with every carried one on which they depend in a later step.

    Args:
        body: its first outputs are the new carried values.
        used: for each of its outputs.
        carry: where its carried inputs begin.
        count: the number of carried values.
    """
    return grown(used, range(count), lambda flags: inputs_reaching(body, flags)[carry:])


def operands_reaching(body: Graph, consts: int, carry: int) -> list[bool]:
    """For each operand of the loop of a body (constants, carried, stacked), whether any result depends on it."""
    return _from_loop(body, [True] * len(body.outputs), consts, carry)


def inputs_reaching(graph: Graph, used: Sequence[bool]) -> list[bool]:
    """For each input, whether a used output is reached from it."""
    reach = reaching(graph, variables_where(graph.outputs, used))
    return [v in reach for v in graph.inputs]


def variables_where(atoms: Sequence[Atom], flags: Sequence[bool]) -> list[Variable]:
    """The variables among the atoms whose flag is set."""
    return variables_of(a for a, flag in zip(atoms, flags, strict=True) if flag)


def _from_scan(op: Operation, used: list[bool]) -> list[bool]:
    n, c = scan_counts(op.params)
    return _from_loop(from_jaxpr(op.params["jaxpr"]), used, n, c)


def _from_while(op: Operation, used: list[bool]) -> list[bool]:
    k, n = op.params["cond_nconsts"], op.params["body_nconsts"]
    return [False] * k + _from_loop(from_jaxpr(op.params["body_jaxpr"]), used, n, len(used))


def _from_loop(body: Graph, used: list[bool], carry: int, count: int) -> list[bool]:
    """For each operand of a loop; `carry` is where the carried ones begin, `count` their number."""
    used = moving_carry(body, used, carry, count)
    needed = inputs_reaching(body, used)
    return [*needed[:carry], *used[:count], *needed[carry + count :]]


def _from_cond(op: Operation, used: list[bool]) -> list[bool]:
    branches = [inputs_reaching(from_jaxpr(b), used) for b in op.params["branches"]]
    return [False, *(any(flags) for flags in zip(*branches, strict=True))]


_FROM: dict[str, Callable[[Operation, list[bool]], list[bool]]] = {
    "scan": _from_scan,
    "while": _from_while,
    "cond": _from_cond,
}

# From which inputs of a program are moving to which of its outputs are.
Follow: TypeAlias = Callable[[Graph, Sequence[bool]], list[bool]]


def reached(graph: Graph, moving: Sequence[bool]) -> list[bool]:
    """Which outputs have a tangent where the moving inputs have one.

    Finer than `active_variables`, for which every result of a loop depends on every operand.
    """
    active = {v for v, m in zip(graph.inputs, moving, strict=True) if m and is_differentiable(v.aval)}
    for op in graph.operations:
        flags = [a in active for a in op.inputs]
        if any(flags) and not is_zero(op):
            moves = _through(op, flags, reached)
            active.update(v for v, m in zip(op.outputs, moves, strict=True) if m and is_differentiable(v.aval))
    return [a in active for a in graph.outputs]


def _read(graph: Graph, moving: Sequence[bool]) -> list[bool]:
    """Which outputs depend on the moving inputs, with a derivative or without."""
    active = {v for v, m in zip(graph.inputs, moving, strict=True) if m}
    for op in graph.operations:
        flags = [a in active for a in op.inputs]
        if any(flags):
            active.update(v for v, m in zip(op.outputs, _through(op, flags, _read), strict=True) if m)
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
    moves = _looped(from_jaxpr(op.params["body_jaxpr"]), flags[k:], n, len(op.outputs), follow)
    return moves if follow is reached or not any(flags[:k]) else [True] * len(moves)


def _looped(body: Graph, flags: list[bool], carry: int, count: int, follow: Follow) -> list[bool]:
    """For each result of a loop; `carry` is where its carried inputs begin, `count` their number."""
    flags = grown(flags, range(carry, carry + count), lambda moving: follow(body, moving))
    return [*flags[carry : carry + count], *follow(body, flags)[count:]]


def _cond(op: Operation, flags: list[bool], follow: Follow) -> list[bool]:
    if flags[0]:
        return [True] * len(op.outputs)
    branches = [follow(from_jaxpr(b), flags[1:]) for b in op.params["branches"]]
    return [any(moves) for moves in zip(*branches, strict=True)]


def _custom_jvp(op: Operation, flags: list[bool], follow: Follow) -> list[bool]:
    """By what the function reads: its rule may give a derivative where the operations inside have none."""
    return _read(from_jaxpr(custom_jvp_call(op.params).primal), flags)


_PROGRAMS: dict[str, Callable[[Operation, list[bool], Follow], list[bool]]] = {
    "scan": _scan,
    "while": _while,
    "cond": _cond,
    CUSTOM_JVP: _custom_jvp,
}
