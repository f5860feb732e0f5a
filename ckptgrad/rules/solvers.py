"""Solutions of linear systems: the cotangent of the right-hand side solves the transposed system.

With A X = B and Y the solution of A^T Y = G, the cotangent of B is Y and that of A is -Y X^T.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.extend.core import jaxpr_as_fun
from jax.extend.core import primitives as p

from ckptgrad.autodiff.cotangent import Entry
from ckptgrad.autodiff.of_function import pulled_back, pushed_forward
from ckptgrad.autodiff.rule import Application, Rule, register
from ckptgrad.errors import GradientTypeError
from ckptgrad.graph.atoms import Array
from ckptgrad.rules.decompositions import mm, transpose
from ckptgrad.rules.decorators import bprop, instantiate


@bprop(p.triangular_solve_p, cost="heavy")
def triangular_solve(op: Application, g: Array) -> Sequence[Entry]:
    a, _ = op.inputs
    params = op.params
    y = lax.linalg.triangular_solve(a, g, **{**params, "transpose_a": not params["transpose_a"]})

    def matrix() -> Array:
        x = op.out
        ct = -mm(y, transpose(x)) if params["left_side"] else -mm(transpose(x), y)
        ct = transpose(ct) if params["transpose_a"] else ct
        ct = jnp.conj(ct) if params["conjugate_a"] else ct
        unit = 1 if params["unit_diagonal"] else 0
        return jnp.tril(ct, -unit) if params["lower"] else jnp.triu(ct, unit)

    return matrix, lambda: y


def _shifted(x: Array, by: int) -> Array:
    """x moved along its last axis, zeros coming in: x[i + by] at i."""
    n = x.shape[-1]
    gap = [(0, 0)] * (x.ndim - 1)
    return jnp.pad(x[..., by:], [*gap, (0, by)]) if by > 0 else jnp.pad(x[..., : n + by], [*gap, (-by, 0)])


@bprop(p.tridiagonal_solve_p, cost="heavy")
def tridiagonal_solve(op: Application, g: Array) -> Sequence[Entry]:
    below, main, above, _ = op.inputs
    y = p.tridiagonal_solve_p.bind(_shifted(above, -1), main, _shifted(below, 1), g, **op.params)

    def diagonal(by: int) -> Array:
        """Row i of the system reads x[i + by]."""
        x = transpose(op.out)
        return -jnp.sum(transpose(y) * (_shifted(x, by) if by else x), -2)

    return lambda: diagonal(-1), lambda: diagonal(0), lambda: diagonal(1), lambda: y


class _Parts:
    """The operands of a call of `lax.custom_linear_solve` by what reads them, and which results are the solution."""

    def __init__(self, op: Application) -> None:
        lengths = op.params["const_lengths"]
        counts = [lengths.matvec, lengths.vecmat, lengths.solve, lengths.transpose_solve]
        ends = [sum(counts[: i + 1]) for i in range(4)]
        parts = [list(op.inputs[end - count : end]) for end, count in zip(ends, counts, strict=True)]
        self.of_matvec, self.of_vecmat, self.of_solve, self.of_transpose = parts
        self.right_side = ends[3]
        self.size = len(op.inputs) - ends[3]
        self.solution = op.outputs[: self.size]

    def product(self, op: Application) -> Callable[..., Any]:
        """The matrix times the solution, as a function of what `matvec` reads."""
        matvec = jaxpr_as_fun(op.params["jaxprs"].matvec)
        return lambda *consts: matvec(*consts, *self.solution)


def _bprop_linear_solve(op: Application, *cotangents: Any) -> list[Any]:
    """The user's `transpose_solve` solves for the right-hand side; `matvec` says how the matrix moves."""
    lengths, programs, parts = op.params["const_lengths"], op.params["jaxprs"], _Parts(op)
    if programs.transpose_solve is None:
        where = f" at {op.op.source}" if op.op.source is not None else ""
        raise GradientTypeError(f"transpose_solve required for reverse mode of custom_linear_solve{where}")
    kinds = type(lengths)
    seeds = [instantiate(g, a) for g, a in zip(cotangents[: parts.size], op.out_avals[: parts.size], strict=True)]
    ys = p.linear_solve_p.bind(
        *parts.of_vecmat,
        *parts.of_matvec,
        *parts.of_transpose,
        *parts.of_solve,
        *seeds,
        const_lengths=kinds(lengths.vecmat, lengths.matvec, lengths.transpose_solve, lengths.solve),
        jaxprs=kinds(programs.vecmat, programs.matvec, programs.transpose_solve, programs.solve),
    )[: parts.size]
    n = lengths.matvec
    needed = op.needs[:n]
    moved = [-y for y in ys]
    of_matrix = pulled_back(parts.product(op), parts.of_matvec, needed, moved) if any(needed) else [None] * n
    return [*of_matrix, *(None for _ in range(parts.right_side - n)), *ys]


def _push_linear_solve(op: Application, *tangents: Any) -> list[Any]:
    """With A X = B: A dX = dB - dA X, solved as the call itself is; auxiliary outputs of `solve` do not move."""
    parts, n = _Parts(op), op.params["const_lengths"].matvec
    right = [instantiate(t, a) for t, a in zip(tangents[parts.right_side :], op.out_avals[: parts.size], strict=True)]
    if any(t is not None for t in tangents[:n]):
        moved = pushed_forward(parts.product(op), parts.of_matvec, tangents[:n])
        right = [b if m is None else b - m for b, m in zip(right, moved, strict=True)]
    results = p.linear_solve_p.bind(*op.inputs[: parts.right_side], *right, **op.params)
    return [*results[: parts.size], *(None for _ in op.out_avals[parts.size :])]


register(Rule(p.linear_solve_p.name, "bprop", bprop=_bprop_linear_solve, tangent=_push_linear_solve, cost="heavy"))
