"""Rows of factorisations and of solutions of linear systems."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.cases import Case


def positive(x: Any) -> Any:
    """A Hermitian positive definite matrix."""
    return x @ x.conj().swapaxes(-1, -2) + x.shape[-2] * jnp.eye(x.shape[-2], dtype=x.dtype)


def separated(x: Any) -> Any:
    """A general matrix whose eigenvalues, real for small x, and singular values lie apart."""
    m, n = x.shape[-2:]
    return 0.2 * x + jnp.eye(m, n, dtype=x.dtype) * (1 + jnp.arange(n, dtype=x.dtype))


def strict(x: Any) -> Any:
    return x + 3 * jnp.eye(x.shape[-1], dtype=x.dtype)


def row(name: str, fun: Callable, args: Any, *primitives: str, **kw: Any) -> Case:
    return Case(name, fun, args, primitives, **({"bfloat16": False, "exact": False} | kw))


def triangular(**kw: Any) -> Callable:
    return lambda a, b: lax.linalg.triangular_solve(strict(a), b, **kw)


def conjugate_gradients(a: Any, b: Any) -> Any:
    matrix = positive(a)
    return lax.custom_linear_solve(lambda x: matrix @ x, b, lambda mv, y: jax.scipy.linalg.solve(matrix, y), symmetric=True)


def own_linear_solve(a: Any, b: Any) -> Any:
    matrix = strict(a)
    return lax.custom_linear_solve(
        lambda x: matrix @ x,
        b,
        lambda mv, y: lax.stop_gradient(jnp.linalg.inv(matrix)) @ y,
        transpose_solve=lambda vm, y: lax.stop_gradient(jnp.linalg.inv(matrix)).T @ y,
    )


def own_root(x: Any) -> Any:
    """The fifth root by Newton's method, differentiated at the solution."""
    return lax.custom_root(
        lambda y: y**5 - x,
        x,
        lambda f, y: lax.fori_loop(0, 40, lambda _, y: y - (y**5 - x) / (5 * y**4), y),
        lambda g, y: y / g(jnp.ones_like(y)),
    )


def tridiagonal(*diagonals: Any) -> Any:
    below, main, above, b = diagonals
    inside = jnp.arange(main.shape[-1])
    below = jnp.where(inside == 0, 0, below)
    above = jnp.where(inside == main.shape[-1] - 1, 0, above)
    return lax.linalg.tridiagonal_solve(below, main + 4, above, b)


def eigenvectors(x: Any) -> Any:
    w, left, right = lax.linalg.eig(separated(x), enable_eigvec_derivs=True)
    return w, left, right


def thin(**kw: Any) -> Callable:
    return lambda x: lax.linalg.svd(separated(x), **{"full_matrices": False} | kw)


LINEAR_ALGEBRA = [
    row("cholesky", lambda x: lax.linalg.cholesky(positive(x)), [(4, 4)], "cholesky"),
    row("cholesky complex", lambda x: lax.linalg.cholesky(positive(x)), [(3, 3)], "cholesky", complex=True),
    row("eigh", lambda x: lax.linalg.eigh(positive(x)), [(4, 4)], "eigh"),
    row("eigh values", lambda x: jnp.linalg.eigvalsh(positive(x)), [(4, 4)], "eigh"),
    row("eigh squared vectors", lambda x: jnp.abs(jnp.linalg.eigh(positive(x))[1]) ** 2, [(3, 3)], "eigh", complex=True),
    row("eig values", lambda x: jnp.linalg.eigvals(separated(x)), [(3, 3)], "eig", order=1),
    row("eig vectors", eigenvectors, [(3, 3)], "eig", order=1),
    row("eig complex", eigenvectors, [(3, 3)], "eig", complex=True, order=1),
    row("svd values", lambda x: jnp.linalg.svd(separated(x), compute_uv=False), [(3, 4)], "svd"),
    row("svd square", thin(), [(3, 3)], "svd"),
    row("svd tall", thin(), [(4, 3)], "svd"),
    row("svd wide", thin(), [(3, 4)], "svd"),
    row("svd complex", lambda x: [abs(a) for a in thin()(x)], [(4, 3)], "svd", complex=True),
    row("qr square", lambda x: lax.linalg.qr(strict(x)), [(3, 3)], "qr"),
    row("qr tall", lambda x: lax.linalg.qr(separated(x), full_matrices=False), [(4, 3)], "qr"),
    row("qr tall full", lambda x: lax.linalg.qr(separated(x), full_matrices=True), [(4, 2)], "qr"),
    row("qr wide", lambda x: lax.linalg.qr(separated(x), full_matrices=False), [(2, 4)], "qr"),
    row("qr complex", lambda x: lax.linalg.qr(separated(x), full_matrices=False), [(4, 3)], "qr", complex=True),
    row("qr pivoting", lambda x: lax.linalg.qr(separated(x), pivoting=True, full_matrices=False)[:2], [(4, 3)], "qr"),
    row("lu", lambda x: lax.linalg.lu(strict(x))[0], [(4, 4)], "lu"),
    row("lu permuted", lambda x: lax.linalg.lu(strict(x)[::-1])[0], [(4, 4)], "lu"),
    row("lu tall", lambda x: lax.linalg.lu(separated(x))[0], [(5, 3)], "lu"),
    row("lu wide", lambda x: lax.linalg.lu(separated(x))[0], [(3, 5)], "lu"),
    row("lu complex", lambda x: lax.linalg.lu(strict(x))[0], [(3, 3)], "lu", complex=True),
    row("solve", lambda a, b: jnp.linalg.solve(strict(a), b), [(3, 3), (3, 2)], "lu", "triangular_solve"),
    row("inverse", lambda a: jnp.linalg.inv(strict(a)), [(2, 3, 3)], "lu"),
    row("determinant", lambda a: jnp.linalg.det(strict(a)), [(5, 5)], "lu"),
    row("slogdet", lambda a: jnp.linalg.slogdet(strict(a))[1], [(4, 4)], "lu"),
    *(
        row(
            f"triangular_solve {'left' if left else 'right'}{' lower' * lower}{' transposed' * back}{' unit' * unit}",
            triangular(left_side=left, lower=lower, transpose_a=back, unit_diagonal=unit),
            [(3, 3), (3, 2) if left else (2, 3)],
            "triangular_solve",
        )
        for left, lower, back, unit in [
            (True, True, False, False),
            (True, False, True, False),
            (False, True, True, True),
            (False, False, False, True),
        ]
    ),
    row(
        "triangular_solve adjoint",
        triangular(left_side=True, lower=True, transpose_a=True, conjugate_a=True),
        [(3, 3), (3, 2)],
        "triangular_solve",
        complex=True,
    ),
    row("tridiagonal_solve", tridiagonal, [(4,), (4,), (4,), (4, 2)], "tridiagonal_solve"),
    row("custom_linear_solve symmetric", conjugate_gradients, [(3, 3), (3,)], "custom_linear_solve"),
    row("custom_linear_solve", own_linear_solve, [(3, 3), (3,)], "custom_linear_solve"),
    row("custom_root", own_root, [(3,)], "integer_pow", domain=(0.5, 2), order=1),
    row("conjugate gradients", lambda a, b: jax.scipy.sparse.linalg.cg(lambda x: positive(a) @ x, b)[0],
        [(3, 3), (3,)], "custom_linear_solve", order=1),
    row("cho_solve", lambda a, b: jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(positive(a)), True), b),
        [(3, 3), (3,)], "triangular_solve"),
    row("expm", lambda x: jax.scipy.linalg.expm(x), [(3, 3)], "custom_linear_solve", order=1),
    row("pinv", lambda x: jnp.linalg.pinv(separated(x)), [(4, 3)], "svd", order=1),
    row("norm 2", lambda x: jnp.linalg.norm(x, 2), [(3, 4)], "svd"),
]  # fmt: skip


def argmax_pair(x: Any, y: Any) -> Any:
    (a, i), (b, j) = x, y
    first = (a > b) | ((a == b) & (i < j))
    return jnp.where(first, a, b), jnp.where(first, i, j)


def reduce_pairs(x: Any) -> Any:
    places = lax.broadcasted_iota(np.int32, x.shape, 1)
    init = np.array(-np.inf, x.dtype), np.int32(0)
    return lax.reduce((x, places), init, argmax_pair, (1,))[0]


def log_add(x: Any, y: Any) -> Any:
    return jnp.logaddexp(x, y)


def reducer(fun: Callable, start: float, axes: Any) -> Callable:
    return lambda x: lax.reduce(x, np.array(start, x.dtype), fun, axes)


def windowed(fun: Callable, start: float, *geometry: Any, **kw: Any) -> Callable:
    return lambda x: lax.reduce_window(x, np.array(start, x.dtype), fun, *geometry, **kw)


REDUCERS = [
    Case("reduce product", reducer(lambda x, y: x * y * 1.0, 1, (0,)), [(5, 2)], ["reduce"], exact=False),
    Case("reduce logaddexp", reducer(log_add, -np.inf, (0, 2)), [(2, 3, 3)], ["reduce"], exact=False),
    Case("reduce pairs", reduce_pairs, [(3, 5)], ["reduce"], in_jax=False),
    Case("reduce from 2", reducer(lambda x, y: x * y * 1.0, 2, (0,)), [(3, 2)], ["reduce"], in_jax=False),
    Case("reduce_window product", windowed(lambda x, y: x * y * 1.0, 1, (2, 2), (2, 1), "SAME"), [(5, 4)],
         ["reduce_window"], in_jax=False),
    Case("reduce_window logaddexp", windowed(log_add, -np.inf, (2, 2), (1, 1), ((0, 1), (0, 0)), window_dilation=(1, 2)),
         [(4, 4)], ["reduce_window"], in_jax=False, order=1),
    Case("reduce_window crop", windowed(lambda x, y: x * y * 1.0, 1, (3,), (2,), ((1, 1),), base_dilation=(2,)), [(4,)],
         ["reduce_window"], in_jax=False),
]  # fmt: skip
