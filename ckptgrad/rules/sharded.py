"""`shard_map`: the body is differentiated inside, under the same mesh.

What a device keeps for its backward pass leaves the forward map along a first axis that is sharded
over the devices that differ, and enters the backward map the same way.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Protocol

import jax
from jax import lax
from jax.extend.core import ClosedJaxpr
from jax.sharding import PartitionSpec as P

from ckptgrad.autodiff.cotangent import Entry
from ckptgrad.autodiff.rule import Application, WithPull, WithTangents
from ckptgrad.compat import spmd_axis_names
from ckptgrad.graph.atoms import Array
from ckptgrad.graph.graph import Atom, Graph, Variable
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.graph.value_types import cotangent_spec, manual_axes, partitions, varying_axes
from ckptgrad.rules.decorators import instantiate, pullback
from ckptgrad.rules.subgraphs import active_outputs, joint_of, push_through, some
from ckptgrad.stage.kept_plainly import kept_plainly
from ckptgrad.stage.partition import Partition, partition


class Mapped(Protocol):
    """A `shard_map`: as an operation of a graph, or as one that a rule is applied to."""

    @property
    def params(self) -> dict[str, Any]: ...


def under_mesh(op: Mapped, fun: Any, in_specs: Any, out_specs: Any) -> Any:
    """`fun` mapped as the operation maps its body."""
    params = op.params
    options = {"mesh": params["mesh"], "check_vma": params["check_vma"], "axis_names": set(params["newly_manual_axes"])}
    return jax.shard_map(fun, in_specs=tuple(in_specs), out_specs=tuple(out_specs), **options)


def absent(op: Mapped, spec: Any, *also: str) -> tuple[Any, ...]:
    """The mesh axes of the operation that a specification neither mentions nor lists as unreduced, or as `also` says."""
    mentioned = {n for part in partitions(spec) if part is not None for n in (part if isinstance(part, tuple) else (part,))}
    # Unreduced shares are summed by whoever reduces them.
    mentioned.update(*(getattr(spec, how, None) or () for how in ("unreduced", *also)))
    return tuple(a for a in op.params["mesh"].axis_names if a in own_axes(op) and a not in mentioned)


def own_axes(op: Mapped) -> frozenset[Any]:
    """The mesh axes that the operation maps over, without those on which a `vmap` around it puts its examples."""
    return frozenset(op.params["newly_manual_axes"]) - spmd_axis_names()


def body_of(op: Mapped) -> Graph:
    return from_jaxpr(ClosedJaxpr(op.params["jaxpr"], ()))


def push_shard_map(op: Application, *tangents: Any) -> WithTangents:
    body = body_of(op)
    active = active_outputs(body, op.needs)
    run = push_through(body, op.needs, active)
    count = len(op.inputs)
    present = [t for t in tangents if t is not None]
    specs, out_specs = op.params["in_specs"], op.params["out_specs"]
    mapped = under_mesh(
        op,
        lambda *xs: tuple(x for part in run(xs[:count], xs[count:]) for x in part),
        [*specs, *(s for s, n in zip(specs, op.needs, strict=True) if n)],
        [*out_specs, *(s for s, w in zip(out_specs, active, strict=True) if w)],
    )
    results = mapped(*op.inputs, *present)
    return results[: len(out_specs)], some(active, results[len(out_specs) :])


@pullback("shard_map", push=push_shard_map, cost="heavy")
def shard_map(op: Application) -> WithPull:
    body = body_of(op)
    # A result that may get no cotangent is left out, not given zeros: these are nan where they meet an infinite derivative.
    seeded = [i for i, a in enumerate(active_outputs(body, op.needs)) if a and op.used_outputs[i]]
    part = split_under_mesh(op, body, seeded)
    in_specs, out_specs = op.params["in_specs"], op.params["out_specs"]
    kept_specs = [residual_spec(op, v.aval) for v in part.residuals]
    # A residual that is returned anyway, and lies as it is to be kept, is not returned twice.
    returned = [_place_of(v, s, part.joint.outputs, out_specs) for v, s in zip(part.residuals, kept_specs, strict=True)]
    own = [place is None for place in returned]
    reads = [part.joint.inputs.index(v) for v in part.reads]
    # To what the body reads for its shape alone nothing flows back: no zeros are made, or summed.
    flows = [g is not None for g in some(op.needs, part.joint.gradients)]
    wrt_specs = [cotangent_spec(s) for s, f in zip(in_specs, flows, strict=True) if f]
    typed, sizes = op.params["check_vma"], dict(op.params["mesh"].shape)

    def forward(*xs: Any) -> tuple[Array, ...]:
        outputs, residuals = part.run_forward(xs)
        return (*outputs, *(r if r.ndim else lax.expand_dims(r, (0,)) for r in itertools.compress(residuals, own)))

    def backward(*operands: Any) -> tuple[Array, ...]:
        kept, values, cts = operands[: len(kept_specs)], operands[len(kept_specs) : -len(seeded)], operands[-len(seeded) :]
        kept = [r if v.shape else lax.squeeze(r, (0,)) for r, v in zip(kept, part.residuals, strict=True)]
        # Without types, every device that holds an output holds the whole cotangent.
        shares = [1 if typed else math.prod(sizes[a] for a in absent(op, out_specs[i], "reduced")) for i in seeded]
        gradients = part.run_backward(kept, values, [ct if s == 1 else ct / s for ct, s in zip(cts, shares, strict=True)])
        flowing = [g for g in gradients if g is not None]
        if typed:
            return tuple(flowing)
        pairs = zip(flowing, (absent(op, s) for s in wrt_specs), strict=True)
        return tuple(lax.psum(g, axes) if axes else g for g, axes in pairs)

    results = under_mesh(op, forward, in_specs, [*out_specs, *itertools.compress(kept_specs, own)])(*op.inputs)
    outputs, rest = results[: len(out_specs)], iter(results[len(out_specs) :])
    residuals = [next(rest) if place is None else outputs[place] for place in returned]

    def pull(*cotangents: Any) -> Sequence[Entry]:
        if not any(flows):
            return [None] * len(flows)
        cts = [instantiate(cotangents[i], op.out_avals[i]) for i in seeded]
        specs = [*kept_specs, *(in_specs[i] for i in reads), *(cotangent_spec(out_specs[i]) for i in seeded)]
        mapped = under_mesh(op, backward, specs, wrt_specs)
        return some(flows, mapped(*residuals, *(op.inputs[i] for i in reads), *cts))

    return outputs, pull


def split_under_mesh(op: Application, body: Graph, seeded: list[int]) -> Partition:
    """Forward and backward of the body, differentiated where its collectives know their axes."""
    parts: list[Partition] = []

    def differentiate(*_: Any) -> tuple[()]:
        joined = joint_of(body, op.needs, seeded)
        parts.append(partition(joined, kept_plainly(joined)))
        return ()

    jax.eval_shape(under_mesh(op, differentiate, op.params["in_specs"], ()), *op.inputs)
    return parts[0]


def _place_of(v: Variable, spec: P, outputs: Sequence[Atom], specs: Sequence[Any]) -> int | None:
    """The place among the results of a value that lies there as `spec` says."""
    return next((k for k, (a, s) in enumerate(zip(outputs, specs, strict=True)) if a is v and v.shape and s == spec), None)


def residual_spec(op: Mapped, aval: Any) -> P:
    """Each device keeps its own: along the first axis, for the mesh axes along which the value varies."""
    names = op.params["mesh"].axis_names
    varying = varying_axes(aval) if op.params["check_vma"] else own_axes(op)
    axes = tuple(a for a in names if a in varying)
    sums = {how: frozenset(summed) for how in ("reduced", "unreduced") if (summed := manual_axes(aval, how))}
    return P(*([axes] if axes else []), **sums)
