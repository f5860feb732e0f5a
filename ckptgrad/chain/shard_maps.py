# pyright: reportUnknownMemberType=false
"""A `shard_map` whose body is a chain, as a chain of `shard_map`s: what a device keeps between two of them can be planned.

What crosses from one part to the next leaves along a first axis that is sharded over the devices on which it differs, and
enters the same way, as residuals of its derivative do (`rules.sharded`): every device goes on with what it had.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import jax
from jax import lax
from jax.sharding import PartitionSpec as P

from ckptgrad.chain.cut import find_cuts
from ckptgrad.graph.evaluate import apply, like_aval, read
from ckptgrad.graph.graph import Atom, Graph, Operation, Variable, variables_of
from ckptgrad.graph.source import at_line_of
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.graph.value_types import is_manual, struct
from ckptgrad.rules.sharded import body_of, residual_spec, under_mesh
from ckptgrad.target.target import Target


def split_shard_maps(graph: Graph, target: Target) -> Graph:
    """The graph with each `shard_map` in parts, where its body is a chain; as it is if none is.

    Regions that the user marked as stages keep what they hold: such a graph is left as it is.
    """
    if graph.stage_marks or all(op.name != "shard_map" for op in graph.operations):
        return graph
    now: dict[Atom, Atom] = {}
    operations: list[Operation] = []
    for op in graph.operations:
        inputs = [now.get(a, a) for a in op.inputs]
        parts = _parts(op, target) if op.name == "shard_map" else None
        if parts is None:
            operations.append(op.replace(inputs, op.outputs) if inputs != [*op.inputs] else op)
            continue
        inside: dict[Atom, Atom] = dict(zip(parts.inputs, inputs, strict=True))
        operations += [part.replace([inside.get(a, a) for a in part.inputs], part.outputs) for part in parts.operations]
        now.update((v, inside.get(a, a)) for v, a in zip(op.outputs, parts.outputs, strict=True))
    return Graph(graph.inputs, [now.get(a, a) for a in graph.outputs], operations, graph.constants)


def _parts(op: Operation, target: Target) -> Graph | None:
    """One `shard_map` as several; None where it is to stay one."""
    if op.effects or any(is_manual(a.aval) for a in op.inputs):
        return None
    body = body_of(op)
    cuts = find_cuts(body, target)
    if not cuts or body.constants or any(o.effects for o in body.operations):
        return None
    chain = _Chain(op, body, cuts)
    parts = from_jaxpr(jax.make_jaxpr(chain.run)(*(struct(a.aval) for a in op.inputs)))
    return None if parts.constants else parts


class _Chain:
    """The body of a `shard_map`, cut into segments."""

    def __init__(self, op: Operation, body: Graph, cuts: Sequence[int]) -> None:
        self._op, self._body = op, body
        edges = [0, *cuts, len(body.operations)]
        self._segments = [body.operations[a:b] for a, b in itertools.pairwise(edges)]
        self._given: dict[Variable, Any] = dict(zip(body.inputs, op.params["in_specs"], strict=True))

    def run(self, *args: Any) -> list[Any]:
        """The results of the whole, one segment after the other."""
        env: dict[Atom, Any] = dict(zip(self._body.inputs, args, strict=True))
        results: dict[int, Any] = {}
        for number, operations in enumerate(self._segments):
            with at_line_of(operations[0].source_info):
                self._run(number, operations, env, results)
        return [results[k] for k in range(len(self._body.outputs))]

    def _run(self, number: int, operations: Sequence[Operation], env: dict[Atom, Any], results: dict[int, Any]) -> None:
        made = {v for o in operations for v in o.outputs}
        last = number == len(self._segments) - 1
        # What no segment makes is returned by the last one.
        returned = [k for k, a in enumerate(self._body.outputs) if a in made or (last and k not in results)]
        later = {v for segment in self._segments[number + 1 :] for o in segment for v in variables_of(o.inputs)}
        crossing = [v for o in operations for v in o.outputs if v in later]
        atoms = [a for o in operations for a in o.inputs] + [self._body.outputs[k] for k in returned]
        reads = [v for v in dict.fromkeys(variables_of(atoms)) if v not in made]

        def segment(*values: Any) -> tuple[Any, ...]:
            inner: dict[Variable, Any] = {v: self._entered(v, x) for v, x in zip(reads, values, strict=True)}
            for o in operations:
                inner.update(zip(o.outputs, apply(o, [read(inner, a) for a in o.inputs]), strict=True))
            outputs = [like_aval(read(inner, a), a.aval) for a in (self._body.outputs[k] for k in returned)]
            return *outputs, *(_with_axis(inner[v]) for v in crossing)

        out_specs = [self._op.params["out_specs"][k] for k in returned] + [self._spec(v) for v in crossing]
        mapped = under_mesh(self._op, segment, [self._spec(v) for v in reads], out_specs)(*(env[v] for v in reads))
        results.update(zip(returned, mapped[: len(returned)], strict=True))
        env.update(zip(crossing, mapped[len(returned) :], strict=True))

    def _spec(self, v: Variable) -> P:
        return self._given[v] if v in self._given else residual_spec(self._op, v.aval)

    def _entered(self, v: Variable, value: Any) -> Any:
        return value if v in self._given or v.aval.shape else lax.squeeze(value, (0,))


def _with_axis(value: Any) -> Any:
    return value if value.ndim else lax.expand_dims(value, (0,))
