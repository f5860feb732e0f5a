# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""What a `shard_map` does first with an argument that is cut along its first axis: to see what a device has of it in
another shape.

Outside the same is seen of the whole argument, by whatever reads it there: it is no value that crosses between the parts of
a body and is held besides the argument.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

from jax import lax
from jax.sharding import AxisType

from ckptgrad.chain.shard_maps.lying import Lying, kept
from ckptgrad.graph.graph import Graph, Variable
from ckptgrad.graph.traits import is_all_in_order
from ckptgrad.graph.value_types import varying_axes
from ckptgrad.rules.sharded import Mapped


class View(NamedTuple):
    """A view of an argument that is taken outside: of which one, of what shape, and how it lies."""

    source: Variable
    shape: tuple[int, ...]
    lies: Lying


class Outside(dict[Variable, Any]):
    """Values outside by those of the body; a view is taken anew each time that it is read, so that nobody holds it."""

    def __init__(self, values: Mapping[Variable, Any], views: Mapping[Variable, View]) -> None:
        super().__init__(values)
        self._views = views

    def __missing__(self, v: Variable) -> Any:
        return lax.reshape(self[self._views[v].source], self._views[v].shape)


def views_outside(op: Mapped, body: Graph, ins: Sequence[Lying]) -> dict[Variable, View]:
    """The views of its arguments that a body takes, and that each device can be given instead.

    Of an argument that is cut along its first axis alone, and as the view lies: what all devices have, one after another, is
    then the whole of either, and both have their elements in one order. Not where types state how values lie.
    """
    if AxisType.Explicit in op.params["mesh"].axis_types:
        return {}
    lying = dict(zip(body.inputs, ins, strict=True))
    found: dict[Variable, View] = {}
    for o in body.operations:
        if not is_all_in_order(o):
            continue
        (source,), (view,) = o.inputs, o.outputs
        root = found[source].source if source in found else source
        if root not in lying or not view.shape or varying_axes(view.aval) != varying_axes(root.aval):
            continue
        along = kept(op, view.aval).first_axes
        if along and lying[root].first_axes == along:
            devices = prod(op.params["mesh"].shape[name] for name in along)
            found[view] = View(root, (devices * view.shape[0], *view.shape[1:]), kept(op, view.aval))
    return found
