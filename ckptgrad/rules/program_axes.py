# pyright: reportUnknownMemberType=false
"""What `scan` and `cond` do to axes: their programs are followed, and run again for a chunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax import lax

from ckptgrad.axes.cut import Chunk, Split, State
from ckptgrad.axes.programs import Followable, Followed, followed, typed_outputs
from ckptgrad.axes.statements import Passage
from ckptgrad.compat import scan_counts
from ckptgrad.graph.branching import branched
from ckptgrad.graph.graph import Operation
from ckptgrad.graph.trace import from_jaxpr


def _scan(op: Operation, cuts: Sequence[int | None], size: int) -> Passage | None:
    """Not along the axis over which it steps; what is carried is cut alike before and after each step."""
    body, (n, c) = from_jaxpr(op.params["jaxpr"]), scan_counts(op.params)
    if 0 in cuts[n + c :]:
        return None
    inner = [*cuts[: n + c], *(None if axis is None else axis - 1 for axis in cuts[n + c :])]
    while True:
        found = followed(body, inner, size)
        if found is None:
            return None
        carried = [state.axis if isinstance(state, Split) else None for state in found.results[:c]]
        settled = list(found.operands)
        settled[n : n + c] = [
            after if axis is None else axis for axis, after in zip(settled[n : n + c], carried, strict=True)
        ]
        if settled == list(found.operands):
            break
        inner = settled
    if list(found.results[:c]) != [None if a is None else Split(a) for a in found.operands[n : n + c]]:
        return None
    followed_body: Followed = found

    def run(values: Sequence[Any], chunk: Chunk) -> list[Any]:
        def step(carry: Sequence[Any], x: Sequence[Any]) -> Any:
            results = typed_outputs(body, followed_body.run([*values[:n], *carry, *x], chunk))
            return results[:c], results[c:]

        options = {name: op.params[name] for name in ("length", "reverse", "unroll")}
        carry, ys = lax.scan(step, list(values[n : n + c]), list(values[n + c :]), **options)
        return [*carry, *ys]

    operands = [*found.operands[: n + c], *(None if axis is None else axis + 1 for axis in found.operands[n + c :])]
    return Passage(tuple(operands), (*found.results[:c], *map(_stacked, found.results[c:])), run)


def _stacked(state: State) -> State:
    return Split(state.axis + 1) if isinstance(state, Split) else state


def _cond(op: Operation, cuts: Sequence[int | None], size: int) -> Passage | None:
    """By an index that is the same for every chunk, and with the same cuts in all branches."""
    if cuts[0] is not None:
        return None
    graphs, inner = [from_jaxpr(branch) for branch in op.params["branches"]], list(cuts[1:])
    branches: list[Followed] = []
    for _ in range(len(graphs) * len(inner) + 1):
        branches = []
        for graph in graphs:
            found = followed(graph, inner, size)
            if found is None:
                return None
            inner = list(found.operands)
            branches.append(found)
        if all(list(found.operands) == inner for found in branches):
            break
    if any(found.results != branches[0].results for found in branches):
        return None

    def run(values: Sequence[Any], chunk: Chunk) -> list[Any]:
        pairs = zip(graphs, branches, strict=True)
        runs = [lambda *xs, g=g, f=f: typed_outputs(g, f.run(xs, chunk)) for g, f in pairs]
        return list(branched(op.params, values[0], runs, *values[1:]))

    return Passage((None, *inner), branches[0].results, run)


scan, cond = Followable(_scan), Followable(_cond)
