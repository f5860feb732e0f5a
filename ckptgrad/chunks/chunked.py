"""The joint graph of a stage of which a part runs over chunks.

What does not depend on the cut axis stands before the loop, what reads totals alone after it: both are ordinary operations,
differentiated as such. The loop between them stands in the joint graph as two operations, `chunks_forward` and
`chunks_backward`, which run a `ChunkLoop` and say what that costs.

Of the last stage, whose cotangents are there before its results are asked for, they become one operation
(`one_pass.in_one_pass`): as everybody writes the loss over a large vocabulary by hand, a chunk's logits are made once.

It is differentiated again by its definition, the same operations on all entries at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ckptgrad.autodiff.cotangent import accumulate, whole
from ckptgrad.autodiff.reach import reaching
from ckptgrad.autodiff.reverse import active_variables, fill, forward
from ckptgrad.axes.chunked import Chunkable
from ckptgrad.chunks.chunk_loop import ChunkLoop
from ckptgrad.chunks.markers import backward_p, forward_p
from ckptgrad.chunks.one_pass import in_one_pass
from ckptgrad.graph.evaluate import read
from ckptgrad.graph.graph import Atom, Graph, Operation, Variable, variables_of
from ckptgrad.rules.decorators import instantiate
from ckptgrad.stage.joint import Joint, joint_of_run


def chunked_joint(
    graph: Graph,
    wrt: Sequence[Variable],
    seeds: Sequence[Variable],
    found: Chunkable,
    entries: int,
    like: Joint,
    joints: dict[int, Joint] | None = None,
    last: bool = False,
) -> Joint | None:
    """The joint graph of a stage, a part of it over chunks, before costs are known (`markers.with_costs`).

    Args:
        graph: the forward graph of the stage.
        wrt, seeds: what it is differentiated with respect to, and the outputs that receive a cotangent.
        found: what may run over chunks.
        entries: of each chunk.
        like: the joint graph of the same stage that runs whole, whose inputs, cotangents, outputs and gradients are used.
        joints: those of chunks of other sizes, shared by all calls that differ in `entries` alone.
        last: whether its cotangents may be asked for before its results: one pass may make both.

    Returns:
        None where the results cannot stand in place of those of `like`.
    """
    towards = reaching(graph, seeds)
    active = active_variables(graph, wrt) & towards
    # The copies are no values of the graph, and get gradients as what they are copies of.
    for copy, source in found.copies.items():
        active |= {copy} if source in active else set()
        towards |= {copy} if source in towards else set()
    needs = tuple(v in active for v in found.inputs)
    seeded = tuple(v in active for v in found.outputs)
    loop = ChunkLoop(found, entries, needs, seeded, joints={} if joints is None else joints)
    if any(needs) and not loop.is_alike:
        return None
    before = _part(found.before)
    after = _part(found.after)
    present: list[bool] = []

    def run(args: Sequence[Any], cotangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        env: dict[Variable, Any] = {**graph.constants, **dict(zip(graph.inputs, args, strict=True))}
        tape = forward(before, [env[v] for v in before.inputs], [v for v in before.inputs if v in active], towards=towards)
        env.update(tape.env)
        operands = [env[v] for v in loop.operands]
        env.update(zip(loop.results, forward_p.bind(*operands, loop=loop), strict=True))
        last = forward(after, [env[v] for v in after.inputs], [v for v in after.inputs if v in active], towards=towards)
        env.update(last.env)
        table: dict[Atom, Any] = {}
        for v, ct in zip(seeds, cotangents, strict=True):
            accumulate(table, v, ct)
        fill(last, table, keep=frozenset())
        arriving = [(v, whole(table.pop(v, None))) for v, s in zip(loop.results, seeded, strict=True) if s]
        if any(ct is not None for _, ct in arriving) and any(loop.flowing):
            known = [instantiate(ct, v.aval) for v, ct in arriving]
            gradients = iter(backward_p.bind(*operands, *known, loop=loop))
            for v, flows in zip(loop.operands, loop.flowing, strict=True):
                if flows:
                    accumulate(table, v, next(gradients))
        fill(tape, table, keep=frozenset())
        gradients = [whole(table.get(v)) for v in wrt]
        present[:] = [g is not None for g in gradients]
        return [read(env, a) for a in graph.outputs], [g for g in gradients if g is not None]

    made = joint_of_run(run, graph.inputs, seeds, len(graph.outputs), present)
    return _in_place_of(like, (in_one_pass(made) if last else None) or made)


def _part(operations: Sequence[Operation]) -> Graph:
    """A run of operations as a graph, from all that it reads to nothing in particular."""
    made = {v for op in operations for v in op.outputs}
    inputs = dict.fromkeys(v for op in operations for v in variables_of(op.inputs) if v not in made)
    return Graph(tuple(inputs), (), operations)


def _in_place_of(like: Joint, made: Joint) -> Joint | None:
    """`made` on the inputs, cotangents, outputs and gradients of `like`; None where these do not correspond."""
    if [g is None for g in made.gradients] != [g is None for g in like.gradients]:
        return None
    renamed: dict[Variable, Variable] = dict(zip(made.inputs, like.inputs, strict=True))
    renamed.update(zip(made.cotangents, like.cotangents, strict=True))
    own = {v for op in like.operations for v in op.outputs}
    results = {v for op in made.operations for v in op.outputs}
    targets: set[Variable] = set()
    pairs = zip((*made.outputs, *made.gradients), (*like.outputs, *like.gradients), strict=True)
    for new, old in pairs:
        if not isinstance(old, Variable) or old not in own:
            continue
        if old in targets:
            continue  # One value in two places there is one here too.
        if not isinstance(new, Variable) or new not in results or new in renamed or new.aval.shape != old.aval.shape:
            return None
        if new.aval.dtype != old.aval.dtype:
            return None
        renamed[new] = old
        targets.add(old)
    operations = tuple(_renamed(op, renamed) for op in made.operations)
    return Joint(like.inputs, like.cotangents, like.outputs, like.gradients, operations, made.constants)


def _renamed(op: Operation, names: Mapping[Variable, Variable]) -> Operation:
    inputs = [names.get(a, a) if isinstance(a, Variable) else a for a in op.inputs]
    return op.replace(inputs, [names.get(v, v) for v in op.outputs])
