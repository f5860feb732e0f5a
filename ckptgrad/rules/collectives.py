"""Communication between the devices of a mesh axis, or the rows of a vmap with an axis name.

All are linear.  Without types for what varies between devices, a cotangent of a sum is held by
every device, so a sum goes back as a sum; with them (`check_vma`), sum and broadcast are each
other's transpose.
"""

from __future__ import annotations

from collections.abc import Sequence

from jax import lax
from jax.extend.core import primitives as p

from ckptgrad import compat
from ckptgrad.autodiff.cotangent import Entry
from ckptgrad.autodiff.rule import Application
from ckptgrad.graph.atoms import Array
from ckptgrad.graph.spread import exchanged, gathered, passed, reduced
from ckptgrad.rules.decorators import linear
from ckptgrad.rules.reductions import spread


@linear(p.psum_p, cost="heavy", ring=reduced)
def psum(op: Application, g: Array) -> Sequence[Entry]:
    named = tuple(a for a in op.params["axes"] if not isinstance(a, int))
    here = tuple(a for a in op.params["axes"] if isinstance(a, int))

    def entry() -> Array:
        ct = spread(g, op.in_avals[0], here) if here else g
        return p.psum_p.bind(ct, axes=named, axis_index_groups=op.params["axis_index_groups"])

    return (entry,)


@linear("psum_invariant", cost="heavy", ring=reduced)
def psum_invariant(op: Application, g: Array) -> Sequence[Entry]:
    return (lambda: lax.pcast(g, op.params["axes"], to="varying"),)


@linear("pvary", cost="view")
def pvary(op: Application, g: Array) -> Sequence[Entry]:
    return (lambda: lax.psum(g, op.params["axes"]),)


@linear(p.ppermute_p, cost="heavy", ring=passed)
def ppermute(op: Application, g: Array) -> Sequence[Entry]:
    back = [(target, source) for source, target in op.params["perm"]]
    return (lambda: lax.ppermute(g, op.params["axis_name"], back),)


@linear(p.all_gather_p, cost="heavy", ring=gathered)
def all_gather(op: Application, g: Array) -> Sequence[Entry]:
    return (
        lambda: lax.psum_scatter(
            g,
            op.params["axis_name"],
            scatter_dimension=op.params["all_gather_dimension"],
            axis_index_groups=op.params["axis_index_groups"],
            tiled=op.params["tiled"],
        ),
    )


@linear("all_gather_invariant", cost="heavy", ring=gathered)
def all_gather_invariant(op: Application, g: Array) -> Sequence[Entry]:
    axis, size = op.params["all_gather_dimension"], op.params["axis_size"]

    def entry() -> Array:
        mine = lax.axis_index(op.params["axis_name"])
        if not op.params["tiled"]:
            return lax.dynamic_index_in_dim(g, mine, axis, keepdims=False)
        part = g.shape[axis] // size
        return lax.dynamic_slice_in_dim(g, mine * part, part, axis)

    return (entry,)


@linear("reduce_scatter", cost="heavy", ring=exchanged)
def reduce_scatter(op: Application, g: Array) -> Sequence[Entry]:
    return (
        lambda: lax.all_gather(
            g,
            op.params["axis_name"],
            axis=op.params["scatter_dimension"],
            axis_index_groups=op.params["axis_index_groups"],
            tiled=op.params["tiled"],
        ),
    )


@linear(p.all_to_all_p, cost="heavy", ring=exchanged)
def all_to_all(op: Application, g: Array) -> Sequence[Entry]:
    return (
        lambda: lax.all_to_all(
            g,
            op.params["axis_name"],
            split_axis=op.params["concat_axis"],
            concat_axis=op.params["split_axis"],
            axis_index_groups=op.params["axis_index_groups"],
            tiled=op.params["tiled"],
        ),
    )


@linear("pbroadcast", cost="elementwise", ring=passed)
def pbroadcast(op: Application, g: Array) -> Sequence[Entry]:
    """All cotangents are summed where the value came from."""
    name, source = op.params["axis_name"], op.params["source"]

    def entry() -> Array:
        total = lax.psum(g, name)
        return lax.select(lax.axis_index(name) == source, total, lax.full_like(total, 0))

    return (entry,)


# A value that is reduced over an axis has an unreduced cotangent: each device holds a share, and their sum is the cotangent.


@linear("preduced", cost="view")
def preduced(op: Application, g: Array) -> Sequence[Entry]:
    return (lambda: lax.psum(g, op.params["axes"]),)


@linear("unreduced_psum", cost="heavy", ring=reduced)
def unreduced_psum(op: Application, g: Array) -> Sequence[Entry]:
    return (lambda: lax.pcast(g, op.params["axes"], to="reduced"),)


for _name in compat.VARY_UNREDUCED_CAST:

    @linear(_name, cost="view")
    def vary_unreduced_cast(op: Application, g: Array) -> Sequence[Entry]:
        return (lambda: lax.pcast(g, op.params["axes"], to="varying"),)


for _name in compat.REDUCED_VARY_CAST:

    @linear(_name, cost="view")
    def reduced_vary_cast(op: Application, g: Array) -> Sequence[Entry]:
        return (lambda: lax.pcast(g, op.params["axes"], to="unreduced"),)


@linear("all_gather_reduced", cost="heavy", ring=gathered)
def all_gather_reduced(op: Application, g: Array) -> Sequence[Entry]:
    axis, tiled = op.params["all_gather_dimension"], op.params["tiled"]
    return (lambda: lax.psum_scatter(g, op.params["axis_name"], scatter_dimension=axis, tiled=tiled),)


@linear("unreduced_reduce_scatter", cost="heavy", ring=exchanged)
def unreduced_reduce_scatter(op: Application, g: Array) -> Sequence[Entry]:
    axis, tiled = op.params["scatter_dimension"], op.params["tiled"]
    return (lambda: lax.all_gather(g, op.params["axis_name"], axis=axis, tiled=tiled, to="reduced"),)
