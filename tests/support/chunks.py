"""Runs a graph over chunks of an axis, one after the other, and compares with the whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ckptgrad.axes.chunked import Chunkable, chunkable
from ckptgrad.axes.cut import Split
from ckptgrad.graph.evaluate import apply, read
from ckptgrad.graph.graph import Operation
from ckptgrad.graph.trace import trace
from tests.support.compare import quick


def over_chunks(found: Chunkable, args: Sequence[Any], entries: int) -> list[Any]:
    """The outputs of the graph, by chunks of so many entries; the last one may have fewer."""
    graph = found.graph
    env: dict[Any, Any] = {**graph.constants, **dict(zip(graph.inputs, args, strict=True))}
    run(found.before, env)
    made = []
    for start in range(0, found.size, entries):
        n = min(entries, found.size - start)
        made.append(found.for_chunk(n)(*(part(found, v, env[v], start, n) for v in found.inputs)))
    for (v, state), parts in zip(found.outputs.items(), zip(*made, strict=True), strict=True):
        env[v] = lax.concatenate(parts, state.axis) if isinstance(state, Split) else sum(parts[1:], parts[0])
    run(found.after, env)
    return [read(env, a) for a in graph.outputs]


def part(found: Chunkable, v: Any, value: Any, start: int, n: int) -> Any:
    if v not in found.sliced:
        return value
    axis = found.sliced[v]
    places = v.aval.shape[axis] // found.size
    return lax.slice_in_dim(jnp.asarray(value), start * places, (start + n) * places, axis=axis)


def run(operations: Sequence[Operation], env: dict[Any, Any]) -> None:
    for op in operations:
        env.update(zip(op.outputs, apply(op, [read(env, a) for a in op.inputs]), strict=True))


def found_for(fun: Callable[..., Any], args: Sequence[Any], cuts: Mapping[int, int]) -> Chunkable | None:
    """What `chunkable` says where the arguments at some positions (among all leaves) are cut along axes."""
    graph = trace(fun, *args)
    return chunkable(graph, {graph.inputs[i]: axis for i, axis in cuts.items()})


def assert_as_whole(found: Chunkable, fun: Callable[..., Any], args: Sequence[Any], gradients: bool = False) -> None:
    """In float64, in chunks even and uneven: the values, and if asked for the gradients of a weighted sum of them."""
    leaves, tree = jax.tree.flatten(tuple(args))
    moving = [i for i, x in enumerate(leaves) if jnp.issubdtype(jnp.asarray(x).dtype, np.inexact)] if gradients else []

    def weighed(outputs: Sequence[Any]) -> Any:
        floats = [y for y in outputs if jnp.issubdtype(y.dtype, np.inexact)]
        return sum(jnp.sum(jnp.cos(jnp.arange(y.size).reshape(y.shape)) * y) for y in floats)

    def whole(*xs: Any) -> Any:
        return weighed(jax.tree.leaves(fun(*jax.tree.unflatten(tree, xs))))

    expected = jax.tree.leaves(fun(*args))
    for entries in dict.fromkeys((3, found.size // 2) if found.size > 3 else (1,)):
        chunks = quick(partial(over_chunks, found, entries=entries))(leaves)
        for ours, theirs in zip(chunks, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)
    if moving:
        theirs = quick(jax.grad(whole, moving))(*leaves)
        ours = quick(jax.grad(lambda *xs: weighed(over_chunks(found, xs, 3)), moving))(*leaves)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
