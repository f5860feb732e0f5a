# pyright: reportUnknownMemberType=false
"""Which `shard_map`s of a graph are taken apart, in its loops too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax
from jax.extend.core import ClosedJaxpr

from ckptgrad.chain.shard_maps.lying import Lying
from ckptgrad.chain.shard_maps.parts import Parts
from ckptgrad.chain.shard_maps.views import views_outside
from ckptgrad.compat import scan_counts
from ckptgrad.graph.evaluate import evaluate
from ckptgrad.graph.graph import Atom, Graph, Operation
from ckptgrad.graph.source import at_line_of
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.graph.value_types import is_manual, struct
from ckptgrad.rules.sharded import body_of
from ckptgrad.rules.subgraphs import typed
from ckptgrad.target.target import Target


def split_shard_maps(graph: Graph, target: Target) -> Graph:
    """The graph with each `shard_map` in parts, where its body is a chain or has loops; as it is if there is none.

    Regions that the user marked as stages keep what they hold: such a graph is left as it is.
    """
    if graph.stage_marks:
        return graph
    now: dict[Atom, Atom] = {}
    operations: list[Operation] = []
    for op in graph.operations:
        inputs = [now.get(a, a) for a in op.inputs]
        parts = _SPLIT[op.name](op, target) if op.name in _SPLIT and not op.effects else None
        if parts is None or parts.constants:
            operations.append(op.replace(inputs, op.outputs) if inputs != [*op.inputs] else op)
            continue
        inside: dict[Atom, Atom] = dict(zip(parts.inputs, inputs, strict=True))
        operations += [part.replace([inside.get(a, a) for a in part.inputs], part.outputs) for part in parts.operations]
        now.update((v, inside.get(a, a)) for v, a in zip(op.outputs, parts.outputs, strict=True))
    if all(a is b for a, b in zip(operations, graph.operations, strict=False)):
        return graph
    return Graph(graph.inputs, [now.get(a, a) for a in graph.outputs], operations, graph.constants)


def _of_shard_map(op: Operation, target: Target) -> Graph | None:
    """One `shard_map` as several; None where it is to stay one."""
    if any(is_manual(a.aval) for a in op.inputs):
        return None
    body = body_of(op)
    if body.constants or any(o.effects for o in body.operations):
        return None
    ins, outs = ([Lying(spec) for spec in op.params[name]] for name in ("in_specs", "out_specs"))
    parts = Parts(op, body, target, ins, outs, views_outside(op, body, ins))
    return _traced(op, parts.run) if parts.several else None


def _of_scan(op: Operation, target: Target) -> Graph | None:
    """A `scan` with the `shard_map`s of its body taken apart; None where there are none."""
    body = _split_body(op.params["jaxpr"], target)
    if body is None:
        return None
    n, c = scan_counts(op.params)

    def run(*operands: Any) -> list[Any]:
        consts, init, xs = (
            operands[:n],
            typed(operands[n : n + c], [v.aval for v in body.inputs[n : n + c]]),
            operands[n + c :],
        )

        def step(carry: Sequence[Any], x: Sequence[Any]) -> tuple[list[Any], list[Any]]:
            outputs = typed(evaluate(body, [*consts, *carry, *x]), [a.aval for a in body.outputs])
            return outputs[:c], outputs[c:]

        with at_line_of(op.source_info):
            final, ys = lax.scan(step, init, xs, **{k: op.params[k] for k in ("length", "reverse", "unroll")})
        return [*final, *ys]

    return _traced(op, run)


def _of_while(op: Operation, target: Target) -> Graph | None:
    """As `_of_scan`, of a `while`."""
    body = _split_body(op.params["body_jaxpr"], target)
    if body is None:
        return None
    predicate = from_jaxpr(op.params["cond_jaxpr"])
    k, n = op.params["cond_nconsts"], op.params["body_nconsts"]

    def run(*operands: Any) -> list[Any]:
        def step(carry: Sequence[Any]) -> list[Any]:
            return typed(evaluate(body, [*operands[k : k + n], *carry]), [a.aval for a in body.outputs])

        init = typed(operands[k + n :], [v.aval for v in body.inputs[n:]])
        with at_line_of(op.source_info):
            return lax.while_loop(lambda carry: evaluate(predicate, [*operands[:k], *carry])[0], step, init)

    return _traced(op, run)


def _split_body(program: ClosedJaxpr, target: Target) -> Graph | None:
    body = from_jaxpr(program)
    split = split_shard_maps(body, target)
    return None if split is body else split


def _traced(op: Operation, run: Callable[..., Sequence[Any]]) -> Graph:
    return from_jaxpr(jax.make_jaxpr(run)(*(struct(a.aval) for a in op.inputs)))


_SPLIT: dict[str, Callable[[Operation, Target], Graph | None]] = {
    "shard_map": _of_shard_map, "scan": _of_scan, "while": _of_while
}  # fmt: skip
