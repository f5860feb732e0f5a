"""`jax.experimental.sparse`: every operation is linear in the stored values, and its indices are integers.

Formats are converted, sorted and sampled by the Python implementations that JAX publishes with the primitives; products
are written here as one gather and one scatter, so that nothing dense is made.  Rules are kept by the name of the
primitive, so that `jax.experimental.sparse` is not imported before the user does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ckptgrad.autodiff.cotangent import Entry
from ckptgrad.autodiff.rule import Application
from ckptgrad.graph.atoms import Array
from ckptgrad.rules.decorators import bprop, defined, refused, tangent
from ckptgrad.rules.third_party import use_implementation

for name in (
    "todense",
    "bcoo_todense",
    "bcoo_fromdense",
    "bcoo_dot_general_sampled",
    "bcoo_spdot_general",
    "bcoo_sort_indices",
    "bcoo_sum_duplicates",
    "bcsr_todense",
    "bcsr_fromdense",
):
    use_implementation(name, cost="heavy")

use_implementation("bcoo_extract", cost="gathering")
use_implementation("bcsr_extract", cost="gathering")
use_implementation("bcoo_transpose", cost="view")

for name in ("coo_spmv", "coo_spmm", "csr_spmv", "csr_spmm"):
    refused(name, "it stands in the compiled form of sparse products on GPU only")


def _dot_general(data: Any, indices: Any, rhs: Any, params: dict[str, Any]) -> Any:
    """A sparse array in BCOO format times a dense one.

    Args:
        data: batch + (stored,) + dense; batch axes may be of size 1.
        indices: batch + (stored, sparse).
        rhs: the dense array.
        params: of the primitive.
    """
    (contracted, rhs_contracted), (batched, rhs_batched) = params["dimension_numbers"]
    shape, batch = params["lhs_spinfo"].shape, indices.ndim - 2
    sparse, stored = indices.shape[-1], indices.shape[-2]
    # A contracted batch axis that is stored once for all has size 1 for the primitive; it is not repeated.
    lead = (*(indices.shape[i] if i in contracted else shape[i] for i in range(batch)), stored)
    dtype = params["preferred_element_type"] or jnp.result_type(data, rhs)
    # Where each stored entry stands along each batch and sparse axis of the whole array.
    places = [lax.broadcasted_iota(indices.dtype, lead, axis) for axis in range(batch)]
    places += [jnp.broadcast_to(indices[..., axis], lead) for axis in range(sparse)]

    seen = [*rhs_batched, *rhs_contracted]
    kept = [i for i in range(rhs.ndim) if i not in seen]
    values = jnp.transpose(rhs, [*seen, *kept]).astype(dtype)
    at = tuple(places[i] for i in (*batched, *contracted))
    values = values.at[at].get(mode="fill", fill_value=0) if at else jnp.broadcast_to(values, lead + values.shape)
    data = jnp.broadcast_to(data, lead + data.shape[batch + 1 :]).astype(dtype)
    product = lax.expand_dims(data, range(data.ndim, data.ndim + len(kept)))
    product = product * lax.expand_dims(values, range(len(lead), data.ndim))

    free = [i for i in range(len(places)) if i not in contracted and i not in batched]
    to = tuple(places[i] for i in (*batched, *free))
    if not to:
        return product.sum(range(len(lead)))
    sizes = [shape[i] for i in (*batched, *free)]
    return jnp.zeros((*sizes, *product.shape[len(lead) :]), dtype).at[to].add(product)


@defined("bcoo_dot_general", cost="heavy")
def bcoo_dot_general(params: dict[str, Any], data: Array, indices: Array, rhs: Array) -> Array:
    return [_dot_general(data, indices, rhs, params)]


@defined("bcsr_dot_general", cost="heavy")
def bcsr_dot_general(params: dict[str, Any], data: Array, indices: Array, indptr: Array, rhs: Array) -> Array:
    indices = jnp.stack([_rows(indices, indptr), indices], -1)
    return [_dot_general(data, indices, rhs, params)]


def _rows(indices: Any, indptr: Any) -> Any:
    """The row of each stored entry of a compressed format; beyond the last one for padding."""
    position = jnp.arange(indices.shape[-1], dtype=indptr.dtype)

    def rows(ends: Array) -> Array:
        return (jnp.searchsorted(ends, position, side="right") - 1).astype(indices.dtype)

    for _ in range(indices.ndim - 1):
        rows = jax.vmap(rows)
    return rows(indptr)


@defined("coo_todense", cost="heavy")
def coo_todense(params: dict[str, Any], data: Array, row: Array, col: Array) -> Array:
    return [jnp.zeros(params["spinfo"].shape, data.dtype).at[row, col].add(data)]


@defined("csr_todense", cost="heavy")
def csr_todense(params: dict[str, Any], data: Array, indices: Array, indptr: Array) -> Array:
    return [jnp.zeros(params["shape"], data.dtype).at[_rows(indices, indptr), indices].add(data)]


@defined("coo_matvec", cost="heavy")
def coo_matvec(params: dict[str, Any], data: Array, row: Array, col: Array, v: Array) -> Array:
    return [_product(data, row, col, v, params["spinfo"].shape, params["transpose"])]


@defined("coo_matmat", cost="heavy")
def coo_matmat(params: dict[str, Any], data: Array, row: Array, col: Array, v: Array) -> Array:
    return [_product(data, row, col, v, params["spinfo"].shape, params["transpose"])]


@defined("csr_matvec", cost="heavy")
def csr_matvec(params: dict[str, Any], data: Array, indices: Array, indptr: Array, v: Array) -> Array:
    return [_product(data, _rows(indices, indptr), indices, v, params["shape"], params["transpose"])]


@defined("csr_matmat", cost="heavy")
def csr_matmat(params: dict[str, Any], data: Array, indices: Array, indptr: Array, v: Array) -> Array:
    return [_product(data, _rows(indices, indptr), indices, v, params["shape"], params["transpose"])]


def _product(data: Any, row: Any, col: Any, v: Any, shape: Sequence[int], transpose: bool) -> Any:
    """A sparse matrix, or its transpose, times a vector or a matrix."""
    if transpose:
        row, col, shape = col, row, shape[::-1]
    entries = lax.expand_dims(data, range(1, v.ndim)) * v.at[col].get(mode="fill", fill_value=0)
    return jnp.zeros((shape[0], *v.shape[1:]), entries.dtype).at[row].add(entries)


@tangent("coo_fromdense", cost="heavy")
def coo_fromdense(op: Application, t: Any) -> Sequence[Array | None]:
    data, row, col = op.outputs
    return _stored(data, t[row, col]), None, None


@tangent("csr_fromdense", cost="heavy")
def csr_fromdense(op: Application, t: Any) -> Sequence[Array | None]:
    data, indices, indptr = op.outputs
    return _stored(data, t[_rows(indices, indptr), indices]), None, None


def _stored(data: Any, t: Any) -> Any:
    """Tangents of stored entries; padding stays zero whatever the matrix is."""
    return jnp.where(data != 0, t, 0)


@bprop("spsolve", cost="heavy")
def spsolve(op: Application, g: Any) -> Sequence[Entry]:
    """With A x = b: the cotangent of b solves with the transpose of A, that of an entry of A is minus it times x."""
    data, indices, indptr, _ = op.inputs
    row = _rows(indices, indptr)
    columns, rows, values = lax.sort((indices, row, data), num_keys=2)
    ends = jnp.searchsorted(columns, jnp.arange(indptr.size, dtype=columns.dtype)).astype(indptr.dtype)
    solution = op.op.primitive.bind(values, rows, ends, g, **op.params)
    return lambda: -solution[row] * op.out[indices], None, None, solution
