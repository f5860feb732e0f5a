# pyright: reportUnknownMemberType=false
"""Symbol-to-symbol differentiation: a graph of the gradient (Goodfellow 6.5.5)."""

from __future__ import annotations

from collections.abc import Sequence

import jax

from ckptgrad.autodiff.reverse import backpropagate, forward, is_differentiable
from ckptgrad.errors import GradientTypeError
from ckptgrad.graph.atoms import Array
from ckptgrad.graph.evaluate import needed_operations
from ckptgrad.graph.graph import Graph, Variable
from ckptgrad.graph.simplify import merge_common
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.graph.value_types import cotangent_type, filled, struct


def gradient_graph(graph: Graph, wrt: Variable | int | Sequence[Variable | int] | None) -> Graph:
    """The graph of the gradient of a scalar graph; see `Graph.grad`."""
    targets = _targets(graph, wrt)
    (out,) = graph.outputs if len(graph.outputs) == 1 else (None,)
    if out is None or out.aval.shape != () or not is_differentiable(out.aval):
        types = ", ".join(a.aval.str_short() for a in graph.outputs)
        raise GradientTypeError(
            f"the gradient graph needs one scalar output of a float or complex dtype, the graph has ({types}); trace a "
            f"function that returns a sum or one entry"
        )

    def run(*args: Array) -> list[Array]:
        tape = forward(graph, args, targets)
        seeds = {out: filled(cotangent_type(out.aval), 1)} if isinstance(out, Variable) and out in tape.active else {}
        gradients = backpropagate(tape, seeds, targets)
        return [filled(cotangent_type(v.aval)) if g is None else g for g, v in zip(gradients, targets, strict=True)]

    merged = merge_common(from_jaxpr(jax.make_jaxpr(run)(*(struct(v.aval) for v in graph.inputs))))
    operations = needed_operations(merged.operations, merged.outputs)
    return Graph(merged.inputs, merged.outputs, operations, merged.constants)


def _targets(graph: Graph, wrt: Variable | int | Sequence[Variable | int] | None) -> list[Variable]:
    if wrt is None:
        return [v for v in graph.inputs if is_differentiable(v.aval)]
    chosen = list(wrt) if isinstance(wrt, Sequence) else [wrt]
    targets = [graph.inputs[v] if isinstance(v, int) else v for v in chosen]
    known = set(graph.variables)
    for v in targets:
        if v not in known:
            raise GradientTypeError(f"{v!r} is not a variable of the graph")
        if not is_differentiable(v.aval):
            raise GradientTypeError(f"{v!r} is not a float or complex array, so it has no gradient")
    return targets
