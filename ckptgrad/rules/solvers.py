"""Solutions of linear systems: the cotangent of the right-hand side solves the transposed system.

With A X = B and Y the solution of A^T Y = G, the cotangent of B is Y and that of A is -Y X^T.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jax.extend.core import jaxpr_as_fun
from jax.extend.core import primitives as p

from ckptgrad.autodiff.local import pulled_back
from ckptgrad.errors import NoDerivativeError
from ckptgrad.rules.decompositions import mm, transpose
from ckptgrad.rules.kinds import bprop, instantiate


@bprop(p.triangular_solve_p)
def triangular_solve(op, g):
    a, _ = op.inputs
    params = op.params
    y = lax.linalg.triangular_solve(a, g, **{**params, "transpose_a": not params["transpose_a"]})

    def matrix():
        x = op.out
        ct = -mm(y, transpose(x)) if params["left_side"] else -mm(transpose(x), y)
        ct = transpose(ct) if params["transpose_a"] else ct
        ct = jnp.conj(ct) if params["conjugate_a"] else ct
        unit = 1 if params["unit_diagonal"] else 0
        return jnp.tril(ct, -unit) if params["lower"] else jnp.triu(ct, unit)

    return matrix, lambda: y


def _shifted(x, by):
    """x moved along its last axis, zeros coming in: x[i + by] at i."""
    n = x.shape[-1]
    gap = [(0, 0)] * (x.ndim - 1)
    return jnp.pad(x[..., by:], [*gap, (0, by)]) if by > 0 else jnp.pad(x[..., : n + by], [*gap, (-by, 0)])


@bprop(p.tridiagonal_solve_p)
def tridiagonal_solve(op, g):
    below, main, above, _ = op.inputs
    y = p.tridiagonal_solve_p.bind(_shifted(above, -1), main, _shifted(below, 1), g, **op.params)

    def diagonal(by):
        """Row i of the system reads x[i + by]."""
        x = transpose(op.out)
        return -jnp.sum(transpose(y) * (_shifted(x, by) if by else x), -2)

    return lambda: diagonal(-1), lambda: diagonal(0), lambda: diagonal(1), lambda: y


@bprop(p.linear_solve_p)
def custom_linear_solve(op, *cotangents):
    """The user's `transpose_solve` solves for the right-hand side; `matvec` tells how the matrix moves."""
    lengths, programs = op.params["const_lengths"], op.params["jaxprs"]
    if programs.transpose_solve is None:
        raise NoDerivativeError(op.op.name, "reverse mode of custom_linear_solve needs transpose_solve", op.op.source)
    counts = [lengths.matvec, lengths.vecmat, lengths.solve, lengths.transpose_solve]
    ends = [sum(counts[: i + 1]) for i in range(4)]
    of_matvec, of_vecmat, of_solve, of_transpose = (
        op.inputs[end - count : end] for end, count in zip(ends, counts, strict=True)
    )
    kinds = type(lengths)
    seeds = [instantiate(g, aval) for g, aval in zip(cotangents, op.out_avals, strict=True)]
    ys = p.linear_solve_p.bind(
        *of_vecmat,
        *of_matvec,
        *of_transpose,
        *of_solve,
        *seeds,
        const_lengths=kinds(lengths.vecmat, lengths.matvec, lengths.transpose_solve, lengths.solve),
        jaxprs=kinds(programs.vecmat, programs.matvec, programs.transpose_solve, programs.solve),
    )
    n = lengths.matvec

    def product(*consts):
        return jaxpr_as_fun(programs.matvec)(*consts, *op.outputs)

    needed = op.needs[:n]
    of_matrix = pulled_back(product, of_matvec, needed, [-y for y in ys]) if any(needed) else [None] * n
    return [*of_matrix, *(None for _ in range(ends[3] - n)), *ys]
