"""Rows of what moves numbers about: shapes, indices, sorting, copies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import primitives as p

from tests.cases import Case

TIES = np.float32([[1, 2, 2, 0], [2, 2, -1, 2]])

SHAPES = [
    Case("broadcast_in_dim", lambda x: lax.broadcast_in_dim(x, (2, 3, 4), (1,)), [(3,)], ["broadcast_in_dim"]),
    Case(
        "broadcast units",
        lambda x: lax.broadcast_in_dim(x, (2, 3, 1, 4), (1, 2, 3)),
        [(3, 1, 1)],
        ["broadcast_in_dim"],
    ),
    Case("broadcast scalar", lambda x: lax.broadcast_in_dim(x, (2, 3), ()), [()], ["broadcast_in_dim"]),
    Case("reshape", lambda x: x.reshape(2, 6), [(3, 4)], ["reshape"]),
    Case("reshape order", lambda x: lax.reshape(x, (4, 6), (2, 0, 1)), [(2, 3, 4)], ["reshape"]),
    Case("transpose", lambda x: x.transpose(2, 0, 1), [(2, 3, 4)], ["transpose"]),
    Case("squeeze", lambda x: lax.squeeze(x, (0, 2)), [(1, 3, 1)], ["squeeze"]),
    Case("rev", lambda x: lax.rev(x, (0, 2)), [(2, 3, 4)], ["rev"]),
    Case("slice", lambda x: x[1:3, :2], [(4, 5)], ["slice"]),
    Case("slice strides", lambda x: x[1::2, 0:5:3], [(6, 7)], ["slice"]),
    Case("slice empty", lambda x: (x[2:2], 2 * x), [(4,)], ["slice"]),
    Case("pad", lambda x, v: lax.pad(x, v, ((1, 2, 0), (0, 0, 2))), [(2, 3), ()], ["pad"]),
    Case("pad negative", lambda x, v: lax.pad(x, v, ((-1, 2, 1), (1, -1, 0))), [(4, 5), ()], ["pad"]),
    Case("pad crop into holes", lambda x, v: lax.pad(x, v, ((-2, -1, 2),)), [(4,), ()], ["pad"]),
    Case("pad scalar", lambda x, v: lax.pad(x, v, ()), [(), ()], ["pad"]),
    Case("concatenate", lambda *x: lax.concatenate(x, 1), [(2, 1), (2, 3), (2, 2)], ["concatenate"]),
    Case("split", lambda x: lax.split(x, (1, 3, 2), 1), [(2, 6)], ["split"]),
    Case("split one used", lambda x: lax.split(x, (1, 3, 2), 1)[1], [(2, 6)], ["split"]),
    Case("stack", lambda x, y: jnp.stack([x, y], 1), [(2, 3), (2, 3)], ["stack"]),
    Case("unstack", lambda x: jnp.unstack(x, axis=1)[:2], [(2, 3)], ["unstack"]),
    Case("tile", lambda x: jnp.tile(x, (2, 3)), [(2, 3)], ["tile"]),
    Case("roll", lambda x: jnp.roll(x, 2), [(5,)], ["concatenate", "slice"]),
    Case("empty", lambda x: jnp.concatenate([x, x]) * 2, [(0, 3)], ["concatenate"], check=False),
    Case("repeat", lambda x: jnp.repeat(x, 3, 0), [(2, 2)], ["broadcast_in_dim"]),
]

I = np.int32  # noqa: E741
MODES = ("promise_in_bounds", "clip", "fill")


def at(indices: Any, method: str, **kw: Any) -> Callable:
    return lambda x, u: getattr(x.at[jnp.asarray(indices)], method)(u, **kw)


# Places along an axis of size 4: within it, some of them outside, and with one that occurs twice.
INSIDE, OUTSIDE, TWICE = I([0, 3, 1]), I([0, 7, -9]), I([1, 3, 1])


def index_rows() -> list[Case]:
    return [*mode_rows(), *gather_rows(), *scatter_rows(), *dynamic_rows()]


def mode_rows() -> list[Case]:
    """Reads and writes in each mode of places outside; the last two modes with such places."""
    rows = [
        Case(
            f"gather {mode}",
            lambda x, mode=mode, i=(INSIDE if mode == MODES[0] else OUTSIDE): x.at[jnp.asarray(i)].get(
                mode=mode, wrap_negative_indices=False, fill_value=7
            ),
            [(4, 2)],
            ["gather", "scatter-add"],
        )
        for mode in MODES
    ]
    for mode in MODES:
        i = INSIDE if mode == MODES[0] else OUTSIDE
        kw = {"mode": mode, "wrap_negative_indices": False}
        rows += [
            Case(f"scatter-add {mode}", at(i, "add", **kw), [(4, 2), (3, 2)], ["scatter-add", "gather"]),
            Case(f"scatter {mode}", at(i, "set", **kw), [(4, 2), (3, 2)], ["scatter"], order=2),
            Case(
                f"scatter-mul {mode}",
                at(I([0, 3, 1]) + 9 * (mode == "fill"), "multiply", unique_indices=True, **kw)
                if mode != "clip"
                else at(I([0, 9, 1]), "multiply", unique_indices=True, **kw),
                [(4, 2), (3, 2)],
                ["scatter-mul"],
            ),
        ]
    return rows


def gather_rows() -> list[Case]:
    return [
        Case("gather twice", lambda x: x[jnp.asarray(TWICE)], [(4, 2)], ["gather"]),
        Case(
            "gather two axes",
            lambda x: x[jnp.asarray(INSIDE), :, jnp.asarray(TWICE)],
            [(4, 2, 5)],
            ["gather"],
        ),
        Case("take_along_axis", lambda x: jnp.take_along_axis(x, I([[0, 2], [1, 1]]), 1), [(2, 3)], ["gather"]),
    ]


def scatter_rows() -> list[Case]:
    return [
        Case("scatter twice", at(TWICE, "set"), [(4, 2), (3, 2)], ["scatter"]),
        Case("scatter window", lambda x, u: x.at[1:3, I([0, 2])].set(u), [(4, 3), (2, 2)], ["scatter"]),
        Case("scatter unique", at(INSIDE, "set", unique_indices=True), [(4, 2), (3, 2)], ["scatter"]),
        Case("scatter literal", lambda x: x.at[1].set(2.0), [(4,)], ["scatter"]),
        Case("scatter-add twice", at(TWICE, "add"), [(4, 2), (3, 2)], ["scatter-add"]),
        Case("scatter-sub", at(TWICE, "subtract"), [(4, 2), (3, 2)], ["scatter-sub"]),
        Case("scatter-max", at(TWICE, "max"), [(4, 2), (3, 2)], ["scatter-max"], exact=False),
        Case("scatter-min", at(TWICE, "min"), [(4, 2), (3, 2)], ["scatter-min"], exact=False),
        Case(
            "scatter-max ties",
            at(TWICE, "max"),
            [np.float32([1, 2, 3, 4]), np.float32([2, 4, 2])],
            ["scatter-max"],
            exact=False,
            check=False,
            order=1,
        ),
    ]


def dynamic_rows() -> list[Case]:
    return [
        Case("dynamic_slice", lambda x: lax.dynamic_slice(x, (I(1), I(9)), (2, 2)), [(4, 3)], ["dynamic_slice"]),
        Case(
            "dynamic_update_slice",
            lambda x, u: lax.dynamic_update_slice(x, u, (I(1), I(9))),
            [(4, 3), (2, 2)],
            ["dynamic_update_slice"],
        ),
        Case(
            "dynamic index from data",
            lambda x: lax.dynamic_index_in_dim(x, jnp.argmax(x[:, 0])),
            [(4, 3)],
            ["dynamic_slice", "argmax"],
        ),
    ]


SORTING = [
    Case("sort", lax.sort, [(3, 4)], ["sort"]),
    Case("sort axis", lambda x: lax.sort(x, dimension=0), [(3, 4)], ["sort"]),
    Case("sort ties", lambda x: lax.sort(x), [TIES], ["sort"], check=False),
    Case("sort several", lambda x, y: lax.sort((x, y), num_keys=1), [(5,), (5,)], ["sort"]),
    Case(
        "sort two keys",
        lambda x, y, z: lax.sort((jnp.round(x), y, z), num_keys=2),
        [(6,)] * 3,
        ["sort", "round"],
    ),
    Case("sort with integers", lambda x: lax.sort((I([2, 0, 1]), x), num_keys=1)[1], [(3,)], ["sort"]),
    Case("median", jnp.median, [(5,)], ["sort"]),
    Case("top_k", lambda x: lax.top_k(x, 2)[0], [(3, 5)], ["top_k"]),
    Case("top_k axis", lambda x: lax.top_k(x, 2, axis=0)[0], [(4, 3)], ["top_k"]),
    Case("top_k both", lambda x: (lambda v, i: v * (i + 1))(*lax.top_k(x, 2)), [(5,)], ["top_k"]),
    Case("approx_max_k", lambda x: lax.approx_max_k(x, 2)[0], [(3, 5)], ["approx_top_k"], exact=False),
]


def one_device() -> jax.sharding.Sharding:
    return jax.sharding.SingleDeviceSharding(jax.devices()[0])


PASSING = [
    Case("copy", lambda x: p.copy_p.bind(x) * x, [(3,)], ["copy"]),
    Case("xla metadata", lambda x: set_xla_metadata(x * 2, a="b") * x, [(3,)], ["xla_metadata_value"]),
    Case("name", lambda x: checkpoint_name(jnp.sin(x), "a"), [(3,)], ["name"]),
    Case(
        "reduce_precision",
        lambda x: lax.reduce_precision(x, 8, 23),
        [(3,)],
        ["reduce_precision"],
        bfloat16=False,
        check=False,
    ),
    Case("device_put", lambda x: jax.device_put(x, jax.devices()[0]) * 2, [(3,)], ["device_put"]),
    Case(
        "sharding_constraint",
        lambda x: lax.with_sharding_constraint(x, one_device()),
        [(3,)],
        ["sharding_constraint"],
    ),
    Case(
        "barrier",
        lambda x, y: lax.optimization_barrier((x * x, jnp.sin(y))),
        [(3,), (2,)],
        ["optimization_barrier"],
    ),
    Case(
        "barrier one used",
        lambda x, y: lax.optimization_barrier((x * x, jnp.sin(y)))[0],
        [(3,), (2,)],
        ["optimization_barrier"],
    ),
    Case("convert", lambda x: x.astype(jnp.float32) * 2, [(3,)], ["mul"], check=False),
    Case("convert down", lambda x: jnp.sin(x.astype(jnp.bfloat16)), [(3,)], ["sin"], check=False),
    Case("convert to integer", lambda x: x * x.astype(jnp.int32), [(3,)], ["convert_element_type"]),
    Case("stop_gradient", lambda x: x * lax.stop_gradient(x), [(3,)], ["stop_gradient"], check=False),
    Case(
        "piecewise constant",
        lambda x: x * (jnp.floor(x) + jnp.ceil(x) + jnp.sign(x)),
        [(3,)],
        ["floor", "ceil", "sign"],
    ),
    Case(
        "random",
        lambda x: x * jax.random.uniform(jax.random.key(3), x.shape, x.dtype),
        [(3,)],
        ["random_bits"],
    ),
]
