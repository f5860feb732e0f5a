"""What the rules of `cond`, `shard_map` and loops share: differentiation of their subgraphs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import jax.numpy as jnp

from ckptgrad.autodiff.forward_mode import push_tangents
from ckptgrad.autodiff.reach import grown
from ckptgrad.autodiff.reverse import active_variables
from ckptgrad.compat import CUSTOM_JVP, CUSTOM_VJP, HI_CALL
from ckptgrad.graph.evaluate import like_aval
from ckptgrad.graph.graph import Graph, Operation, Variable
from ckptgrad.graph.work import inner_programs
from ckptgrad.rules.decorators import instantiate
from ckptgrad.stage.joint import Joint, joint


def active_outputs(graph: Graph, needs: Sequence[bool]) -> list[bool]:
    """Which outputs depend on a needed input."""
    active = active_variables(graph, [v for v, n in zip(graph.inputs, needs, strict=True) if n])
    return [a in active for a in graph.outputs]


def joint_of(
    graph: Graph,
    needs: Sequence[bool],
    seeded: Sequence[int],
    planned: bool = False,
    totals: Sequence[Variable] = (),
) -> Joint:
    """The joint graph towards the needed inputs from the seeded outputs; `planned` and `totals` as for `joint`."""
    wrt = [v for v, n in zip(graph.inputs, needs, strict=True) if n]
    return joint(graph, wrt, [graph.outputs[i] for i in seeded], planned, totals)


def carried(graph: Graph, needs: Sequence[bool], carry: int, count: int) -> list[bool]:
    """`needs` with every carried input whose value comes to depend on a needed one.

    Args:
        graph: the body; its first outputs are the new carried values.
        needs: of its inputs.
        carry: where its carried inputs begin.
        count: the number of carried inputs.
    """
    return grown(needs, range(carry, carry + count), lambda flags: active_outputs(graph, flags))


def push_through(graph: Graph, needs: Sequence[bool], used: Sequence[bool]) -> Callable[..., tuple[list[Any], list[Any]]]:
    """(inputs, tangents of the needed ones) -> (outputs, tangents of the used ones), with zeros as arrays."""

    def run(inputs: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        rest = iter(tangents)
        outputs, pushed = push_tangents(graph, inputs, [next(rest) if n else None for n in needs], used)
        avals = [a.aval for a in graph.outputs]
        pairs = zip(pushed, avals, used, strict=True)
        return typed(outputs, avals), [instantiate(t, aval) for t, aval, w in pairs if w]

    return run


def some(flags: Sequence[bool], values: Sequence[Any]) -> list[Any]:
    """Values in order where a flag is set, None elsewhere."""
    rest = iter(values)
    return [next(rest) if f else None for f in flags]


def typed(values: Sequence[Any], avals: Sequence[Any]) -> list[Any]:
    """Values as arrays of the declared type (a literal output is a Python number)."""
    return [
        like_aval(v if hasattr(v, "aval") or hasattr(v, "sharding") else jnp.asarray(v, a.dtype), a)
        for v, a in zip(values, avals, strict=True)
    ]


def calls_custom_vjp(graph: Graph) -> bool:
    """Whether a `jax.custom_vjp` function may be called somewhere inside."""
    return calls_any(graph.operations, (CUSTOM_VJP, HI_CALL))


def calls_custom_rule(graph: Graph) -> bool:
    """Whether a function with a derivative of its own may be called somewhere inside."""
    return calls_any(graph.operations, (CUSTOM_JVP, CUSTOM_VJP, HI_CALL))


def calls_any(operations: Iterable[Operation], names: Collection[str]) -> bool:
    """Whether one of some primitives is among operations, or in a program that they run."""

    def within(programs: Sequence[Any]) -> bool:
        equations = [e for program in programs for e in program.eqns]
        return any(e.primitive.name in names or within(inner_programs(e.params)) for e in equations)

    return any(op.name in names or within(inner_programs(op.params)) for op in operations)
