"""`shard_map`: the body is differentiated inside, under the same mesh.

The backward pass runs the body again from its inputs: what a device would keep has no place in the
specifications of the outputs.
"""

from __future__ import annotations

import math
from typing import Any

import jax
from jax import lax
from jax.extend.core import ClosedJaxpr

from ckptgrad.autodiff.reverse import accumulate, backpropagate, forward
from ckptgrad.graph.evaluate import apply
from ckptgrad.graph.graph import Graph, Variable
from ckptgrad.graph.registry import Application
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.rules.kinds import instantiate, pullback
from ckptgrad.rules.subgraphs import active_outputs, push_through, some


def under_mesh(op: Application, fun: Any, in_specs: Any, out_specs: Any) -> Any:
    """`fun` mapped as the operation maps its body."""
    params = op.params
    options = {"mesh": params["mesh"], "check_vma": params["check_vma"], "axis_names": set(params["newly_manual_axes"])}
    return jax.shard_map(fun, in_specs=tuple(in_specs), out_specs=tuple(out_specs), **options)


def absent(op: Application, spec: Any) -> tuple[Any, ...]:
    """The mesh axes of the operation that a specification does not mention."""
    mentioned = {n for part in spec if part is not None for n in (part if isinstance(part, tuple) else (part,))}
    return tuple(a for a in op.params["mesh"].axis_names if a in op.params["newly_manual_axes"] and a not in mentioned)


def body_of(op: Application) -> Graph:
    return from_jaxpr(ClosedJaxpr(op.params["jaxpr"], ()))


def push_shard_map(op: Application, *tangents: Any):
    body = body_of(op)
    wanted = active_outputs(body, op.needs)
    run = push_through(body, op.needs, wanted)
    count = len(op.inputs)
    given = [t for t in tangents if t is not None]
    specs, out_specs = op.params["in_specs"], op.params["out_specs"]
    mapped = under_mesh(
        op,
        lambda *xs: tuple(x for part in run(xs[:count], xs[count:]) for x in part),
        [*specs, *(s for s, n in zip(specs, op.needs, strict=True) if n)],
        [*out_specs, *(s for s, w in zip(out_specs, wanted, strict=True) if w)],
    )
    found = mapped(*op.inputs, *given)
    return found[: len(out_specs)], some(wanted, found[len(out_specs) :])


@pullback("shard_map", push=push_shard_map)
def shard_map(op: Application):
    body, typed = body_of(op), op.params["check_vma"]
    in_specs, out_specs = op.params["in_specs"], op.params["out_specs"]
    sizes = dict(op.params["mesh"].shape)
    seeded = [i for i, a in enumerate(active_outputs(body, op.needs)) if a]
    wrt = [v for v, n in zip(body.inputs, op.needs, strict=True) if n]
    wrt_specs = [s for s, n in zip(in_specs, op.needs, strict=True) if n]
    count = len(op.inputs)

    def backward(*given: Any):
        tape = forward(body, given[:count], wrt)
        seeds: dict[Variable, Any] = {}
        for i, ct in zip(seeded, given[count:], strict=True):
            # Without types, every device that holds the output holds the whole cotangent.
            shares = 1 if typed else math.prod(sizes[a] for a in absent(op, out_specs[i]))
            accumulate(seeds, body.outputs[i], ct if shares == 1 else ct / shares)
        found = [instantiate(g, v.aval) for g, v in zip(backpropagate(tape, seeds, wrt), wrt, strict=True)]
        if typed:
            return tuple(found)
        pairs = zip(found, (absent(op, s) for s in wrt_specs), strict=True)
        return tuple(lax.psum(g, axes) if axes else g for g, axes in pairs)

    def pull(*cotangents: Any):
        cts = [instantiate(cotangents[i], op.out_avals[i]) for i in seeded]
        mapped = under_mesh(op, backward, [*in_specs, *(out_specs[i] for i in seeded)], wrt_specs)
        return some(op.needs, mapped(*op.inputs, *cts))

    return apply(op.op, op.inputs), pull
