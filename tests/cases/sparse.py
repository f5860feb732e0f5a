"""Rows of `jax.experimental.sparse`: the stored values and the dense factor are differentiated, indices are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.experimental import sparse
from jax.experimental.sparse.linalg import spsolve

from tests.cases import Case

# Of a (3, 4) matrix: an entry that stands twice, and one of padding.
INDICES = np.int32([[0, 1], [2, 0], [2, 3], [0, 1], [3, 4]])
ROW, COLUMN = np.int32([0, 0, 2, 2]), np.int32([1, 3, 0, 2])
ENDS = np.int32([0, 2, 2, 4])
# Of three (4, 2) matrices, each with two blocks.
BATCHED = np.int32([[[0], [3]], [[1], [2]], [[4], [0]]])
# Two rows of three entries, one of padding.
PADDED_ENDS, PADDED_COLUMN = np.int32([0, 2, 3]), np.int32([3, 1, 0, 4])
FULL = np.float32([[0.5, 0.0, -1.0, 2.0], [0.0, 0.0, 0.0, 0.0], [1.5, 0.0, 0.7, 0.0]])


def bcoo(data: Any, indices: Any = INDICES, shape: Any = (3, 4)) -> sparse.BCOO:
    return sparse.BCOO((data, jnp.asarray(indices)), shape=shape)


def bcsr(data: Any, columns: Any = COLUMN, ends: Any = ENDS, shape: Any = (3, 4)) -> sparse.BCSR:
    return sparse.BCSR((data, jnp.asarray(columns), jnp.asarray(ends)), shape=shape)


def csr(data: Any) -> sparse.CSR:
    return sparse.CSR((data, jnp.asarray(COLUMN), jnp.asarray(ENDS)), shape=(3, 4))


def coo(data: Any) -> sparse.COO:
    return sparse.COO((data, jnp.asarray(ROW), jnp.asarray(COLUMN)), shape=(3, 4))


def dot(dimension_numbers: Any, indices: Any = INDICES, shape: Any = (3, 4)) -> Callable:
    return lambda data, y: sparse.bcoo_dot_general(bcoo(data, indices, shape), y, dimension_numbers=dimension_numbers)


def case(name: str, fun: Callable, args: Any, *primitives: str, **kw: Any) -> Case:
    return Case(name, fun, args, primitives, **({"exact": False, "batches": False, "order": 1} | kw))


SPARSE = [
    case("bcoo matrix", lambda d, y: bcoo(d) @ y, [(5,), (4, 2)], "bcoo_dot_general", order=2, batches=True),
    case("bcoo vector", lambda d, y: bcoo(d) @ y, [(5,), (4,)], "bcoo_dot_general"),
    case("dense times bcoo", lambda d, y: y @ bcoo(d), [(5,), (2, 3)], "bcoo_dot_general"),
    case("bcoo, both axes", dot((((1, 0), (2, 0)), ((), ()))), [(5,), (3, 2, 4)], "bcoo_dot_general"),
    case("bcoo, no axis", dot((((), ()), ((), ()))), [(5,), (2,)], "bcoo_dot_general"),
    case(
        "bcoo in batches, of blocks",
        dot((((1,), (2,)), ((0,), (1,))), BATCHED, (3, 4, 2)),
        [(3, 2, 2), (5, 3, 4)],
        "bcoo_dot_general",
        in_jax=False,
    ),
    case("bcoo in batches", dot((((1,), (2,)), ((0,), (1,))), BATCHED, (3, 4)), [(3, 2), (5, 3, 4)], "bcoo_dot_general"),
    case("bcoo, a batch contracted", dot((((0,), (0,)), ((), ())), BATCHED, (3, 4)), [(3, 2), (3, 2)], "bcoo_dot_general"),
    case(
        "bcoo, one batch for all",
        dot((((1,), (1,)), ((0,), (0,))), BATCHED[:1], (3, 4)),
        [(1, 2), (3, 4, 5)],
        "bcoo_dot_general",
        bfloat16=False,  # a sum over the batches, which JAX rounds at every step
    ),
    case("bcoo to dense", lambda d: bcoo(d).todense(), [(5,)], "bcoo_todense", order=2, batches=True),
    case("to dense, any format", lambda d: sparse.todense(bcsr(d)), [(4,)], "todense", "bcsr_todense"),
    case(
        "bcoo from dense",
        lambda m: sparse.BCOO.fromdense(m * (FULL != 0), nse=6).data,
        [FULL],
        "bcoo_fromdense",
        "bcoo_extract",
    ),
    case("bcoo extract", lambda m: sparse.bcoo_extract(bcoo(jnp.ones(5)), m).data, [(3, 4)], "bcoo_extract", in_jax=False),
    case("bcoo transposed", lambda d: bcoo(d).T.data, [(5,)], "bcoo_transpose"),
    case(
        "bcoo sampled product",
        lambda x, y: sparse.bcoo_dot_general_sampled(x, y, jnp.asarray(INDICES), dimension_numbers=(((1,), (0,)), ((), ()))),
        [(3, 2), (2, 4)],
        "bcoo_dot_general_sampled",
    ),
    case("bcoo times bcoo", lambda d, e: (bcoo(d) @ bcoo(e).T).data, [(5,), (5,)], "bcoo_spdot_general", in_jax=False),
    case("bcoo sorted", lambda d: bcoo(d).sort_indices().data, [(5,)], "bcoo_sort_indices"),
    case("bcoo summed", lambda d: bcoo(d).sum_duplicates(nse=5).data, [(5,)], "bcoo_sum_duplicates"),
    case("bcsr matrix", lambda d, y: bcsr(d) @ y, [(4,), (4, 2)], "bcsr_dot_general", order=2),
    case(
        "bcsr with padding",
        lambda d, y: bcsr(d, PADDED_COLUMN, PADDED_ENDS, (2, 4)) @ y,
        [(4,), (4,)],
        "bcsr_dot_general",
    ),
    case("bcsr from dense", lambda m: sparse.BCSR.fromdense(m * (FULL != 0), nse=6).data, [FULL], "bcsr_fromdense"),
    case("bcsr extract", lambda m: sparse.bcsr_extract(COLUMN, ENDS, m), [(3, 4)], "bcsr_extract"),
    case("csr vector", lambda d, y: csr(d) @ y, [(4,), (4,)], "csr_matvec"),
    case("csr matrix", lambda d, y: csr(d) @ y, [(4,), (4, 2)], "csr_matmat"),
    # In JAX 0.10 the gradient of the stored values has the indices of the matrix that is not transposed.
    case("csr transposed vector", lambda d, y: csr(d).T @ y, [(4,), (3,)], "csr_matvec", in_jax=False),
    case("csr transposed matrix", lambda d, y: csr(d).T @ y, [(4,), (3, 2)], "csr_matmat", in_jax=False),
    case("csr to dense", lambda d: csr(d).todense(), [(4,)], "csr_todense"),
    case("csr from dense", lambda m: sparse.CSR.fromdense(m * (FULL != 0), nse=5).data, [FULL], "csr_fromdense"),
    case("coo vector", lambda d, y: coo(d) @ y, [(4,), (4,)], "coo_matvec"),
    case("coo matrix", lambda d, y: coo(d).T @ y, [(4,), (3, 2)], "coo_matmat", in_jax=False),
    case("coo to dense", lambda d: coo(d).todense(), [(4,)], "coo_todense"),
    # JAX gives the padding the derivative of the first entry.
    case(
        "coo from dense", lambda m: sparse.COO.fromdense(m * (FULL != 0), nse=6).data, [FULL], "coo_fromdense", in_jax=False
    ),
    case(
        "spsolve",
        lambda d, y: spsolve(d, jnp.int32([0, 2, 1, 0, 2]), jnp.int32([0, 2, 3, 5]), y),
        [(5,), (3,)],
        "spsolve",
        domain=[(1.0, 1.5), (-1.0, 1.0)],
        bfloat16=False,
    ),
]
