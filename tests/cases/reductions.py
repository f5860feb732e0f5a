"""Rows of reductions, windows and cumulative functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.cases import Case
from tests.cases.shapes import TIES

INF, NAN = np.inf, np.nan

REDUCTIONS = [
    Case("sum", lambda x: x.sum(), [(3, 4)], ["reduce_sum"]),
    Case("sum axes", lambda x: lax.reduce_sum(x, (0, 2)), [(2, 3, 4)], ["reduce_sum"]),
    Case("mean", lambda x: x.mean(1, keepdims=True), [(2, 3, 4)], ["reduce_sum", "div"]),
    Case("reduce_max", lambda x: lax.reduce_max(x, (0,)), [(3, 4)], ["reduce_max"]),
    Case("reduce_max axes", lambda x: lax.reduce_max(x, (0, 2)), [(2, 3, 4)], ["reduce_max"]),
    Case("reduce_max ties", lambda x: lax.reduce_max(x, (1,)), [TIES], ["reduce_max"], check=False),
    Case(
        "reduce_max nan",
        lambda x: x.max(0),
        [np.float32([[NAN, 1, INF], [1, INF, INF]])],
        ["reduce_max"],
        check=False,
    ),
    Case("reduce_min", lambda x: lax.reduce_min(x, (1,)), [(3, 4)], ["reduce_min"]),
    Case("reduce_min ties", lambda x: lax.reduce_min(x, (0,)), [TIES], ["reduce_min"], check=False),
    Case("reduce_prod", lambda x: lax.reduce_prod(x, (0,)), [(5, 2)], ["reduce_prod"]),
    Case("reduce_prod axes", lambda x: lax.reduce_prod(x, (2, 0)), [(2, 3, 3)], ["reduce_prod"]),
    Case("reduce_prod all", lambda x: lax.reduce_prod(x, (0, 1)), [(2, 3)], ["reduce_prod"]),
    Case("reduce_prod zeros", lambda x: lax.reduce_prod(x, (1,)), [TIES * 0 + [0, 1, 2, 0]], ["reduce_prod"]),
    Case("reduce_prod one", lambda x: x * lax.reduce_prod(x, (0,)), [(1, 3)], ["reduce_prod"]),
    Case("argmax", lambda x: x * jnp.argmax(x), [(4,)], ["argmax"]),
    Case("any", lambda x: jnp.where((x > 0).any(), x, 2 * x), [(4,)], ["reduce_or", "gt"]),
    Case("logsumexp", jax.nn.logsumexp, [(4,)], ["stop_gradient", "reduce_max", "exp", "log"]),
]


def window(reducer: Callable, start: float, *geometry: Any, **kw: Any) -> Callable:
    return lambda x: lax.reduce_window(x, np.array(start, x.dtype), reducer, *geometry, **kw)


POOL = ["reduce_window_max", "select_and_scatter_add", "select_and_gather_add"]
DILATED = {"base_dilation": (2, 1), "window_dilation": (1, 2)}
WINDOWS = [
    Case("avg pool", window(lax.add, 0, (2, 2), (2, 1), "SAME"), [(5, 4)], ["reduce_window_sum"]),
    Case(
        "avg pool dilated",
        window(lax.add, 0, (2, 2), (2, 1), ((1, 2), (0, 1)), **DILATED),
        [(5, 4)],
        ["reduce_window_sum"],
    ),
    Case("max pool", window(lax.max, -INF, (2, 2), (2, 2), "VALID"), [(4, 6)], POOL[:1]),
    Case("max pool overlap", window(lax.max, -INF, (3, 2), (1, 2), "SAME"), [(4, 6)], POOL[:1]),
    Case("max pool NHWC", window(lax.max, -INF, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"), [(2, 4, 4, 3)], POOL[:1]),
    Case(
        "max pool base dilation",
        window(lax.max, -INF, (3, 2), (2, 1), ((1, 1), (0, 0)), base_dilation=(2, 1)),
        [(4, 5)],
        POOL[:1],
    ),
    Case(
        "max pool dilation",
        window(lax.max, -INF, (2, 2), (2, 1), ((1, 0), (0, 1)), **DILATED),
        [(4, 6)],
        POOL[:1],
        in_jax=False,
        order=1,
    ),
    Case("max pool ties", window(lax.max, -INF, (2, 2), (1, 1), "VALID"), [TIES], POOL[:1], check=False),
    Case("max pool of large windows", window(lax.max, -INF, (5, 5), (3, 2), "SAME"), [(7, 9)], POOL),
    Case(
        "max pool of large windows, base dilation",
        window(lax.max, -INF, (9, 2), (2, 1), ((1, 1), (0, 0)), base_dilation=(2, 1)),
        [(6, 5)],
        POOL[:2],
    ),
    Case("min pool", window(lax.min, INF, (2, 2), (2, 2), "SAME"), [(5, 4)], ["reduce_window_min"]),
]

CUMULATIVE = [
    Case(f"{name}{' reverse' * reverse} {n}", lambda x, f=fun, r=reverse: f(x, 0, r), [(n, 2)], [name])
    for name, fun in [
        ("cumsum", lax.cumsum),
        ("cumprod", lax.cumprod),
        ("cummax", lax.cummax),
        ("cummin", lax.cummin),
        ("cumlogsumexp", lax.cumlogsumexp),
    ]
    for n, reverse in [(5, False), (4, True)]
] + [
    Case("cumprod zeros", lax.cumprod, [np.float32([2, 0, 3, 0, 1])], ["cumprod"]),
    Case("cummax ties", lax.cummax, [np.float32([2, 1, 2, 3, 3, 3])], ["cummax"], check=False),
    Case("cumlogsumexp -inf", lax.cumlogsumexp, [np.float32([-INF, -INF, 1, 2])], ["cumlogsumexp"], check=False),
]
