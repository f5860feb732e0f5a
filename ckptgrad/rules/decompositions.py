"""Matrix factorisations, as maps of tangents; reverse mode is their transpose.

With dA the tangent of A, each rule multiplies dA by the factors until the derivative of a
triangular, diagonal or unitary factor can be read off (Giles, *Extended collection of matrix
derivative results*, 2008; Murray, *Differentiation of the Cholesky decomposition*, 2016; de Hoog,
Anderssen and Lukas, *Differentiation of matrix functionals using triangular factorization*, 2011;
Walter, Lehmann and Lamour, *On evaluating higher-order derivatives of the QR decomposition*, 2012).
Equal eigenvalues or singular values make the derivative of the vectors infinite, as in JAX.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.extend.core import primitives as p

from ckptgrad.autodiff.rule import Application
from ckptgrad.errors import NoDerivativeError
from ckptgrad.graph.atoms import Array
from ckptgrad.rules.decorators import tangent


def mm(*factors: Any) -> Any:
    """The matrix product of the factors, from the left, in full precision."""
    product = factors[0]
    for factor in factors[1:]:
        product = jnp.matmul(product, factor, precision=lax.Precision.HIGHEST)
    return product


def transpose(x: Any) -> Any:
    return jnp.swapaxes(x, -1, -2)


def adjoint(x: Any) -> Any:
    return jnp.conj(transpose(x))


def eye(x: Any, n: int | None = None) -> Any:
    return jnp.eye(x.shape[-1] if n is None else n, dtype=x.dtype)


def diagonal(x: Any) -> Any:
    return jnp.diagonal(x, axis1=-2, axis2=-1)


def solve_lower(l: Any, b: Any, **kw: Any) -> Any:  # noqa: E741
    return lax.linalg.triangular_solve(l, b, left_side=True, lower=True, **kw)


def divide_upper(b: Any, u: Any) -> Any:
    """b u^-1."""
    return lax.linalg.triangular_solve(u, b, left_side=False, lower=False)


def reciprocal_gaps(values: Any) -> Any:
    """1 / (values[j] - values[i]) off the diagonal, 0 on it."""
    unit = eye(values)
    return jnp.reciprocal(unit + values[..., None, :] - values[..., :, None]) - unit


@tangent(p.cholesky_p, cost="heavy")
def cholesky(op: Application, da: Array) -> Sequence[Array | None]:
    factor = jnp.tril(op.out)
    inner = solve_lower(factor, adjoint(solve_lower(factor, adjoint(da))))
    half = jnp.tril(inner) / (1 + eye(inner))
    return (mm(factor, half),)


@tangent(p.eigh_p, cost="heavy")
def eigh(op: Application, da: Array) -> Sequence[Array | None]:
    v, w = op.outputs
    n = op.in_avals[0].shape[-1]
    if op.params["subset_by_index"] not in (None, (0, n)):
        raise NoDerivativeError(op.op.name, "it returns only some of the eigenvalues, as subset_by_index says", op.op.source)
    inner = mm(adjoint(v), da, v)
    return mm(v, reciprocal_gaps(w.astype(v.dtype)) * inner), diagonal(inner.real)


@tangent(p.eig_p, cost="heavy")
def eig(op: Application, da: Array) -> Sequence[Array | None]:
    params = op.params
    left, right = params["compute_left_eigenvectors"], params["compute_right_eigenvectors"]
    if (left or right) and not params.get("enable_eigvec_derivs", False):
        raise NoDerivativeError(
            op.op.name,
            "the derivative of the eigenvectors of a general matrix needs enable_eigvec_derivs=True in jax.lax.linalg.eig",
            op.op.source,
        )
    if right:
        w, v = op.outputs[0], op.outputs[-1]
    else:
        outputs = p.eig_p.bind(op.inputs[0], **{**params, "compute_right_eigenvectors": True})
        w, v = outputs[0], outputs[-1]
    da = da.astype(v.dtype)
    if not (left or right):
        return (jnp.sum(jnp.linalg.solve(v, da) * transpose(v), -1),)
    dw, dv = eigenvectors(w, v, da)
    results = [dw]
    if left:
        results.append(eigenvectors(w.conj(), op.outputs[1], adjoint(da))[1])
    return (*results, dv) if right else results


def eigenvectors(w: Any, v: Any, da: Any) -> tuple[Any, Any]:
    """Tangents of eigenvalues and of eigenvectors of unit norm whose largest entry is real."""
    inner = mm(jnp.linalg.solve(v, da), v)
    free = mm(v, reciprocal_gaps(w) * inner)
    largest = jnp.argmax(jnp.abs(v), -2, keepdims=True)
    turn = jnp.take_along_axis(free, largest, -2).imag / jnp.take_along_axis(v, largest, -2).real
    stretch = jnp.sum(jnp.conj(v) * free, -2, keepdims=True).real
    return diagonal(inner), free - v * lax.complex(stretch, turn)


@tangent(p.svd_p, cost="heavy")
def svd(op: Application, da: Array) -> Sequence[Array | None]:
    params, (m, n) = op.params, op.in_avals[0].shape[-2:]
    if params["compute_uv"] and params["full_matrices"] and m != n:
        raise NoDerivativeError(op.op.name, "it returns all singular vectors, with full_matrices=True", op.op.source)
    if params["compute_uv"]:
        s, u, vh = op.outputs
    else:
        s, u, vh = p.svd_p.bind(op.inputs[0], **{**params, "full_matrices": False, "compute_uv": True})
    uh, v = adjoint(u), adjoint(vh)
    inner = mm(uh, da, v)
    ds = diagonal(inner.real)
    if not params["compute_uv"]:
        return (ds,)
    row, column = s[..., None, :], s[..., :, None]
    unit = eye(s)
    # 1 / (s_j^2 - s_i^2), written so that it does not cancel.
    gaps = (1 / ((row + column) * (row - column) + unit) - unit).astype(da.dtype)
    by_row, by_column = row.astype(da.dtype) * inner, column.astype(da.dtype) * inner
    zero = (s == 0).astype(s.dtype)
    inverse = (1 / (s + zero) - zero).astype(da.dtype)
    du = mm(u, gaps * (by_row + adjoint(by_row)) + 0.5 * (inner - adjoint(inner)) * (inverse[..., None] * eye(inner)))
    dv = mm(v, gaps * (by_column + adjoint(by_column)))
    if m > n:
        outside = mm(da, v)
        du = du + (outside - mm(u, uh, outside)) / row.astype(da.dtype)
    if n > m:
        outside = mm(adjoint(da), u)
        dv = dv + (outside - mm(v, vh, outside)) / row.astype(da.dtype)
    return ds, du, adjoint(dv)


@tangent(p.lu_p, cost="heavy")
def lu(op: Application, da: Array) -> Sequence[Array | None]:
    factors, _, order = op.outputs
    m, n = op.in_avals[0].shape[-2:]
    k = min(m, n)
    none = [(0, 0)] * (factors.ndim - 2)
    # Both factors are made square by unit columns and rows that change nothing.
    lower = jnp.pad(jnp.tril(factors[..., :k], -1), [*none, (0, 0), (0, m - k)]) + eye(factors, m)
    upper = jnp.pad(jnp.triu(factors[..., :k, :]), [*none, (0, n - k), (0, 0)])
    upper = upper + jnp.diag(jnp.where(jnp.arange(n) < k, 0, 1).astype(factors.dtype))
    moved = jnp.take_along_axis(da, order[..., None], -2)
    inner = divide_upper(solve_lower(lower, moved, unit_diagonal=True), upper)
    return mm(lower, jnp.tril(inner, -1)) + mm(jnp.triu(inner), upper), None, None


@tangent(p.qr_p, cost="heavy")
def qr(op: Application, da: Array) -> Sequence[Array | None]:
    q, r = op.outputs[:2]
    pivots = op.outputs[2:]
    x = op.inputs[0]
    m, n = x.shape[-2:]
    if pivots:
        order = pivots[0][..., None, :]
        x, da = jnp.take_along_axis(x, order, -1), jnp.take_along_axis(da, order, -1)
    rest = [None] * len(pivots)
    if m < n:
        dq, square = thin_qr(q, r[..., :m], da[..., :m])
        return dq, jnp.concatenate([square, mm(adjoint(dq), x[..., m:]) + mm(adjoint(q), da[..., m:])], -1), *rest
    dq, dr = thin_qr(q[..., :n], r[..., :n, :], da)
    if m > n and op.params["full_matrices"]:
        dq = jnp.concatenate([dq, complement(q, dq)], -1)
        dr = jnp.pad(dr, [(0, 0)] * (dr.ndim - 2) + [(0, m - n), (0, 0)])
    return dq, dr, *rest


def thin_qr(q: Any, r: Any, da: Any) -> tuple[Any, Any]:
    """Tangents of q (m x n, m >= n) and of r (n x n, with a real diagonal)."""
    scaled = divide_upper(da, r)
    inner = mm(adjoint(q), scaled)
    below = jnp.tril(inner, -1)
    turn = below - adjoint(below)
    turn = turn + eye(inner) * (inner - inner.real.astype(inner.dtype))
    return mm(q, turn - inner) + scaled, mm(inner - turn, r)


def complement(q: Any, dq: Any) -> Any:
    """The tangent of the columns that complete q, as a product of n Householder reflections makes them.

    Such a product is I + V T with as many rows of V as columns that were reduced, so the columns
    that complete q follow from the others and from z = q21 (q11 - I)^-1 (arXiv:2409.13374).
    """
    n = dq.shape[-1]
    basis, rest = q[..., :n], q[..., n:]
    top, bottom = basis[..., :n, :], basis[..., n:, :]
    z = transpose(jnp.linalg.solve(transpose(top - eye(top)), transpose(bottom)))
    change = dq[..., n:, :] - mm(z, dq[..., :n, :])
    return mm(dq, adjoint(z)) - mm(basis + mm(rest, z), adjoint(change))
