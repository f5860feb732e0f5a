"""`cond` and `switch`: each branch is differentiated, and the same index chooses among the results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jax.extend.core import primitives as p

from ckptgrad.autodiff.rule import Application, WithPull, WithTangents
from ckptgrad.graph.branching import branched
from ckptgrad.graph.graph import Graph
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.rules import program_axes
from ckptgrad.rules.decorators import instantiate, pullback
from ckptgrad.rules.subgraphs import active_outputs, joint_of, push_through, some, typed
from ckptgrad.stage.partition import Partition, partition


def push_cond(op: Application, *tangents: Any) -> WithTangents:
    """Forward mode: a tangent of an output exists if it does in any branch, and is read."""
    needs = op.needs[1:]
    graphs = [from_jaxpr(b) for b in op.params["branches"]]
    active = [any(flags) for flags in zip(*(active_outputs(g, needs) for g in graphs), strict=True)]
    used = [a and w for a, w in zip(active, op.used_outputs, strict=True)]
    present = [t for t in tangents[1:] if t is not None]
    branches = [push_through(g, needs, used) for g in graphs]
    outputs, pushed = branched(op.params, op.inputs[0], branches, list(op.inputs[1:]), present)
    return outputs, some(used, pushed)


@pullback(p.cond_p, push=push_cond, cost="heavy", axes=program_axes.cond)
def cond(op: Application) -> WithPull:
    index, operands = op.inputs[0], op.inputs[1:]
    needs = op.needs[1:]
    graphs = [from_jaxpr(b) for b in op.params["branches"]]
    # A result that may get no cotangent is left out, not given zeros: these are nan where they meet an infinite derivative.
    seeded = sorted({i for g in graphs for i, a in enumerate(active_outputs(g, needs)) if a and op.used_outputs[i]})
    parts = [_kept(g, needs, seeded) for g in graphs]
    slots, places = _share_slots([[v.aval for v in part.residuals] for part in parts])

    def forward_branch(part: Partition, place: Sequence[int]) -> Callable[..., Any]:
        def run(*xs: Any) -> Any:
            outputs, residuals = part.run_forward(xs)
            filled = [None] * len(slots)
            for k, r in zip(place, residuals, strict=True):
                filled[k] = r
            kept = [instantiate(r, aval) for r, aval in zip(filled, slots, strict=True)]
            return typed(outputs, op.out_avals), kept

        return run

    branches = [forward_branch(*pair) for pair in zip(parts, places, strict=True)]
    outputs, kept = branched(op.params, index, branches, *operands)

    def pull(*cotangents: Any) -> list[Any]:
        seeds = [instantiate(cotangents[i], op.out_avals[i]) for i in seeded]

        def backward_branch(graph: Graph, part: Partition, place: Sequence[int]) -> Callable[..., Any]:
            inputs = dict(zip(part.joint.inputs, range(len(operands)), strict=True))

            def run(kept: list[Any], seeds: list[Any], operands: list[Any]) -> Any:
                gradients = iter(
                    part.run_backward([kept[k] for k in place], [operands[inputs[v]] for v in part.reads], seeds)
                )
                return [instantiate(next(gradients), a) for a, n in zip(op.in_avals[1:], needs, strict=True) if n]

            return run

        runs = [backward_branch(*triple) for triple in zip(graphs, parts, places, strict=True)]
        gradients = iter(branched(op.params, index, runs, kept, seeds, list(operands)))
        return [None, *(next(gradients) if n else None for n in needs)]

    return outputs, pull


def _kept(graph: Graph, needs: Sequence[bool], seeded: Sequence[int]) -> Partition:
    """The partition of a subgraph that keeps all that its backward reads directly."""
    joined = joint_of(graph, needs, seeded)
    return partition(joined, joined.frontier)


def _share_slots(avals: Sequence[Sequence[Any]]) -> tuple[list[Any], list[list[int]]]:
    """One list of slots into which each branch's residuals fit, equal types sharing a slot."""
    slots: list[Any] = []
    places = []
    for residuals in avals:
        free = list(range(len(slots)))
        place = []
        for aval in residuals:
            fitting = (k for k in free if slots[k].shape == aval.shape and slots[k].dtype == aval.dtype)
            k = next(fitting, None)
            if k is None:
                k = len(slots)
                slots.append(aval)
            else:
                free.remove(k)
            place.append(k)
        places.append(place)
    return slots, places
