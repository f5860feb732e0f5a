"""The table of bprop rules under test; `tests/rules/` holds what each row buys.

`args` are shapes, filled with random numbers from `domain`, or arrays, taken as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import primitives as p

from tests.cases import Case, binary, complex_, unary
from tests.cases.linear_algebra import LINEAR_ALGEBRA, REDUCERS

INF, NAN = np.inf, np.nan

BOUNDS = [(-1, -0.9), (-2, 2), (0.9, 1)]
ARITHMETIC = [
    unary("neg", lax.neg),
    binary("add", lax.add),
    binary("sub", lax.sub),
    binary("mul", lax.mul),
    binary("div", lax.div),
    binary("rem", lax.rem, domain=[(-7, 7), (1.1, 1.9)]),
    binary("max", lax.max),
    binary("min", lax.min),
    binary("pow", lax.pow, domain=(0.3, 2)),
    binary("atan2", lax.atan2),
    binary("nextafter", lax.nextafter, special=(), in_jax=False, bfloat16=False),
    unary("square", lax.square),
    unary("sqrt", lax.sqrt, domain=(0.2, 3)),
    unary("rsqrt", lax.rsqrt, domain=(0.2, 3)),
    unary("cbrt", lax.cbrt, domain=(0.2, 3)),
    unary("abs", lax.abs),
    unary("integer_pow", lambda x: lax.integer_pow(x, 3)),
    Case("integer_pow 0", lambda x: x * lax.integer_pow(x, 0), [(3,)], ["integer_pow"]),
    Case("integer_pow 1", lambda x: x * p.integer_pow_p.bind(x, y=1), [(3,)], ["integer_pow"]),
    Case("integer_pow 2", lambda x: lax.integer_pow(x, 2), [(3,)], ["integer_pow"]),
    Case("integer_pow -2", lambda x: lax.integer_pow(x, -2), [(3,)], ["integer_pow"], domain=(0.5, 2)),
    Case("pow integer", lambda x: lax.pow(x, np.int32([0, 1, 2, -3])), [(4,)], ["pow"], domain=(0.5, 2)),
    Case("pow integer at 0", lambda x: lax.pow(x, np.int32([0, 1, 2, 3])), [np.zeros(4)], ["pow"], check=False),
    Case("pow integer scalar", lambda x: lax.pow(x, jnp.int32(3)), [(4,)], ["pow"], domain=(0.5, 2)),
    Case("pow scalar base", lambda y: jnp.power(2.0, y), [(4,)], ["pow"]),
    Case("scalar mul", lambda x, s: x * s, [(3, 4), ()], ["mul"]),
    Case("scalar add", lambda x, s: (x + s, s - x), [(3, 4), ()], ["add", "sub"]),
    Case("scalar div", lambda x, s: (x / s, s / x), [(3, 4), ()], ["div"], domain=(0.5, 2)),
    Case("scalar max", lambda x, s: jnp.maximum(x, s), [(3, 4), ()], ["max"]),
    Case("scalar literals", lambda x: 2.0 * jnp.maximum(x, 0.0) - 1.0 / (3.0 + x**2), [(3, 4)], ["max", "div"]),
    Case(
        "mul out_dtype",
        lambda x, y: p.mul_p.bind(x, y, out_dtype=np.float32),
        [(3,), (3,)],
        ["mul"],
        check=False,
    ),
    Case("clamp", lax.clamp, [(3, 4)] * 3, ["clamp"], domain=BOUNDS, special=(-1.0, 0, 1, INF, NAN)),
    Case("clamp scalar", lambda x: lax.clamp(-1.0, x, 1.0), [(3, 4)], ["clamp"], bfloat16=False),
    Case("clamp scalar bounds", lax.clamp, [(), (3, 4), ()], ["clamp"], domain=BOUNDS, in_jax=False),
    Case("select_n", lambda x, y: lax.select_n(x > y, x * y, y), [(3, 4), (3, 4)], ["select_n"]),
    Case("select_n scalar", lambda x, y: lax.select_n(x[0] > y[0], x * y, y), [(3,), (3,)], ["select_n"]),
    Case(
        "select_n three",
        lambda x, y, z: lax.select_n(np.int32([0, 1, 2, 1]), x, y, z),
        [(4,)] * 3,
        ["select_n"],
    ),
    Case("fan out", lambda x: (x * x, x + x, jnp.sin(x) * x), [(3,)], ["mul", "add", "sin"]),
    Case("add_any", p.add_jaxvals_p.bind, [(3,), (3,)], ["add_any"]),
]

TRANSCENDENTAL = [
    unary("exp", lax.exp),
    unary("exp2", lax.exp2),
    unary("expm1", lax.expm1),
    unary("log", lax.log, domain=(0.2, 3)),
    unary("log1p", lax.log1p, domain=(-0.5, 3)),
    unary("logistic", lax.logistic, special=(0, 1000, -1000, INF, -INF, NAN)),
    unary("sin", lax.sin),
    unary("cos", lax.cos),
    unary("tan", lax.tan, domain=(-1, 1)),
    unary("asin", lax.asin, domain=(-0.8, 0.8)),
    unary("acos", lax.acos, domain=(-0.8, 0.8)),
    unary("atan", lax.atan),
    unary("sinh", lax.sinh),
    unary("cosh", lax.cosh),
    unary("tanh", lax.tanh, special=(0, 1000, -1000, INF, -INF, NAN)),
    unary("asinh", lax.asinh),
    unary("acosh", lax.acosh, domain=(1.5, 3)),
    unary("atanh", lax.atanh, domain=(-0.8, 0.8)),
]

SPECIAL = [
    unary("erf", lax.erf),
    unary("erfc", lax.erfc),
    unary("erf_inv", lax.erf_inv, domain=(-0.8, 0.8)),
    unary("lgamma", lax.lgamma, domain=(0.3, 4)),
    unary("digamma", lax.digamma, domain=(0.3, 4), exact=False),
    Case("polygamma", lambda x: lax.polygamma(lax.full_like(x, 2), x), [(3,)], ["polygamma"], domain=(0.5, 4)),
    Case("igamma", lax.igamma, [(3,), (3,)], ["igamma"], domain=(0.5, 3), order=1, bfloat16=False, slow=True),
    Case("igammac", lax.igammac, [(3,), (3,)], ["igammac"], domain=(0.5, 3), order=1, bfloat16=False, slow=True),
    Case(
        "betainc",
        lambda x: lax.betainc(lax.full_like(x, 1.5), lax.full_like(x, 2.5), x),
        [(3,)],
        ["regularized_incomplete_beta"],
        domain=(0.2, 0.8),
        bfloat16=False,
    ),
    Case(
        "zeta", lambda q: lax.zeta(lax.full_like(q, 2.5), q), [(3,)], ["zeta"], domain=(0.5, 3), bfloat16=False, in_jax=False
    ),
    Case(
        "random_gamma",
        lambda a: jax.random.gamma(jax.random.key(0), a),
        [(3,)],
        ["random_gamma"],
        domain=(0.5, 3),
        order=1,
        bfloat16=False,
        check=False,
        exact=False,
    ),
    Case(
        "random_gamma log",
        lambda a: jax.random.loggamma(jax.random.key(0), a),
        [(3,)],
        ["random_gamma"],
        domain=(0.5, 3),
        order=1,
        bfloat16=False,
        check=False,
        exact=False,
    ),
    unary("bessel_i0e", lax.bessel_i0e),
    unary("bessel_i1e", lax.bessel_i1e, special=(0, -0.0, 1, NAN)),
]

COMPLEX = [
    *(
        complex_(unary(name, fun, domain=domain))
        for name, fun, domain in [
            ("exp", lax.exp, (-1, 1)),
            ("log", lax.log, (0.3, 2)),
            ("sin", lax.sin, (-1, 1)),
            ("cos", lax.cos, (-1, 1)),
            ("tanh", lax.tanh, (-0.5, 0.5)),
            ("logistic", lax.logistic, (-0.5, 0.5)),
            ("sqrt", lax.sqrt, (0.3, 2)),
            ("square", lax.square, (-1, 1)),
            ("abs", lax.abs, (0.3, 1)),
        ]
    ),
    complex_(binary("mul", lax.mul)),
    complex_(binary("div", lax.div, domain=(0.5, 1.5))),
    complex_(binary("pow", lax.pow, domain=(0.5, 1.5))),
    Case(
        "real imag",
        lambda z: (lax.real(z), lax.imag(z)),
        [(3,)],
        ["real", "imag"],
        complex=True,
        bfloat16=False,
    ),
    Case("conj", lambda z: lax.conj(z) * z, [(3,)], ["conj"], complex=True, bfloat16=False),
    Case("conj of real", lambda x: p.conj_p.bind(x, input_dtype=x.dtype), [(3,)], ["conj"], bfloat16=False),
    Case("complex", lambda x, y: lax.exp(lax.complex(x, y)), [(3,), (3,)], ["complex"], bfloat16=False),
    Case("complex matrix", lambda x, y: x @ y, [(2, 3), (3, 2)], ["dot_general"], complex=True, bfloat16=False),
    Case(
        "real to complex",
        lambda x: x.astype(jnp.complex64) ** 2,
        [(3,)],
        ["convert_element_type"],
        check=False,
        bfloat16=False,
    ),
]


def dot(dimension_numbers: Any, **kw: Any) -> Callable:
    return lambda x, y: lax.dot_general(x, y, dimension_numbers, **kw)


PRODUCTS = [
    Case("matmul", jnp.matmul, [(3, 4), (4, 5)], ["dot_general"]),
    Case("matrix vector", jnp.matmul, [(3, 4), (4,)], ["dot_general"]),
    Case("inner", jnp.matmul, [(4,), (4,)], ["dot_general"]),
    Case("outer", dot((((), ()), ((), ()))), [(3,), (2, 2)], ["dot_general"]),
    Case("batched", dot((((2,), (1,)), ((0,), (0,)))), [(2, 3, 4), (2, 4, 5)], ["dot_general"]),
    Case("batch inside", dot((((0,), (2,)), ((1,), (0,)))), [(4, 2, 3), (2, 5, 4)], ["dot_general"]),
    Case(
        "two contracted, unordered",
        dot((((3, 1), (0, 2)), ((2, 0), (3, 1)))),
        [(2, 4, 3, 5), (5, 2, 4, 3, 6)],
        ["dot_general"],
    ),
    Case(
        "preferred type",
        dot((((1,), (0,)), ((), ())), preferred_element_type=np.float32),
        [(3, 4), (4, 5)],
        ["dot_general"],
        check=False,
    ),
    Case("precision", dot((((1,), (0,)), ((), ())), precision="highest"), [(3, 4), (4, 2)], ["dot_general"]),
    Case("einsum", lambda x, y: jnp.einsum("bij,kjb->ik", x, y), [(2, 3, 4), (5, 4, 2)], ["dot_general"]),
    Case(
        "ragged_dot",
        lambda x, y: lax.ragged_dot(x, y, np.int32([2, 0, 3])),
        [(5, 3), (3, 3, 2)],
        ["ragged_dot_general"],
        order=1,
        exact=False,
        batches=False,
    ),
    Case(
        "ragged_dot batched, transposed",
        lambda x, y: lax.ragged_dot_general(
            x,
            y,
            np.int32([[2, 0, 3], [1, 1, 3]]),
            lax.RaggedDotDimensionNumbers((((0,), (3,)), ((1,), (0,))), [2], [2]),
        ),
        [(4, 2, 5), (2, 3, 3, 4)],
        ["ragged_dot_general"],
        order=1,
        exact=False,
        batches=False,
    ),
    Case(
        "ragged_dot in sums",
        lambda x, y: lax.ragged_dot_general(
            x, y, np.int32([2, 0, 3]), lax.RaggedDotDimensionNumbers((((0,), (1,)), ((), ())), [0], [])
        ),
        [(5, 3), (2, 5)],
        ["ragged_dot_general"],
        in_jax=False,
        batches=False,
    ),
    Case("square of itself", lambda x: x @ x, [(3, 3)], ["dot_general"]),
]


def conv(strides: Any = (1, 1), padding: Any = "VALID", **kw: Any) -> Callable:
    return lambda x, w: lax.conv_general_dilated(x, w, strides, padding, **kw)


CONV = ["conv_general_dilated"]
CONVOLUTIONS = [
    Case("conv", conv(), [(2, 3, 5, 4), (4, 3, 3, 2)], CONV),
    Case("conv stride", conv((2, 3), "SAME"), [(2, 3, 6, 7), (4, 3, 3, 2)], CONV),
    Case("conv padding", conv((2, 1), [(1, 2), (0, 3)]), [(1, 2, 5, 4), (3, 2, 3, 2)], CONV),
    Case("conv crop", conv((1, 2), [(-1, 2), (1, -1)]), [(1, 2, 6, 6), (3, 2, 2, 3)], CONV),
    Case("conv rhs dilation", conv((1, 2), "SAME", rhs_dilation=(2, 3)), [(1, 2, 8, 9), (3, 2, 3, 2)], CONV),
    Case(
        "conv lhs dilation",
        conv((1, 2), [(2, 1), (0, 2)], lhs_dilation=(2, 3)),
        [(1, 2, 4, 5), (3, 2, 3, 2)],
        CONV,
    ),
    Case("conv groups", conv((1, 2), "SAME", feature_group_count=2), [(2, 4, 4, 5), (6, 2, 3, 2)], CONV),
    Case("conv depthwise", conv((1, 1), "SAME", feature_group_count=3), [(2, 3, 4, 4), (3, 1, 3, 3)], CONV),
    Case("conv batch groups", conv((2, 1), "SAME", batch_group_count=2), [(4, 3, 4, 5), (6, 3, 3, 2)], CONV),
    Case(
        "conv NHWC",
        conv((2, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2),
        [(2, 5, 4, 4), (3, 2, 2, 6)],
        CONV,
    ),
    Case("conv 1d", conv((2,), [(1, 1)]), [(2, 3, 7), (4, 3, 3)], CONV),
    Case(
        "conv all",
        conv((2, 3), [(2, 1), (1, 3)], lhs_dilation=(2, 1), rhs_dilation=(1, 2), feature_group_count=2),
        [(2, 4, 5, 6), (2, 2, 3, 2)],
        CONV,
    ),
    Case("conv transpose", lambda x, w: lax.conv_transpose(x, w, (2,), "SAME"), [(2, 4, 3), (3, 3, 2)], CONV),
]

TIES = np.float32([[1, 2, 2, 0], [2, 2, -1, 2]])
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


def index_rows() -> list[Case]:
    inside, outside, twice = I([0, 3, 1]), I([0, 7, -9]), I([1, 3, 1])
    rows = [
        Case(
            f"gather {mode}",
            lambda x, mode=mode, i=(inside if mode == MODES[0] else outside): x.at[jnp.asarray(i)].get(
                mode=mode, wrap_negative_indices=False, fill_value=7
            ),
            [(4, 2)],
            ["gather", "scatter-add"],
        )
        for mode in MODES
    ]
    for mode in MODES:
        i = inside if mode == MODES[0] else outside
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
    return [
        *rows,
        Case("gather twice", lambda x: x[jnp.asarray(twice)], [(4, 2)], ["gather"]),
        Case(
            "gather two axes",
            lambda x: x[jnp.asarray(inside), :, jnp.asarray(twice)],
            [(4, 2, 5)],
            ["gather"],
        ),
        Case("take_along_axis", lambda x: jnp.take_along_axis(x, I([[0, 2], [1, 1]]), 1), [(2, 3)], ["gather"]),
        Case("scatter twice", at(twice, "set"), [(4, 2), (3, 2)], ["scatter"]),
        Case("scatter window", lambda x, u: x.at[1:3, I([0, 2])].set(u), [(4, 3), (2, 2)], ["scatter"]),
        Case("scatter unique", at(inside, "set", unique_indices=True), [(4, 2), (3, 2)], ["scatter"]),
        Case("scatter literal", lambda x: x.at[1].set(2.0), [(4,)], ["scatter"]),
        Case("scatter-add twice", at(twice, "add"), [(4, 2), (3, 2)], ["scatter-add"]),
        Case("scatter-sub", at(twice, "subtract"), [(4, 2), (3, 2)], ["scatter-sub"]),
        Case("scatter-max", at(twice, "max"), [(4, 2), (3, 2)], ["scatter-max"], exact=False),
        Case("scatter-min", at(twice, "min"), [(4, 2), (3, 2)], ["scatter-min"], exact=False),
        Case(
            "scatter-max ties",
            at(twice, "max"),
            [np.float32([1, 2, 3, 4]), np.float32([2, 4, 2])],
            ["scatter-max"],
            exact=False,
            check=False,
            order=1,
        ),
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
    Case("max pool", window(lax.max, -INF, (2, 2), (2, 2), "VALID"), [(4, 6)], POOL),
    Case("max pool overlap", window(lax.max, -INF, (3, 2), (1, 2), "SAME"), [(4, 6)], POOL),
    Case("max pool NHWC", window(lax.max, -INF, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"), [(2, 4, 4, 3)], POOL),
    Case(
        "max pool base dilation",
        window(lax.max, -INF, (3, 2), (2, 1), ((1, 1), (0, 0)), base_dilation=(2, 1)),
        [(4, 5)],
        POOL[:2],
    ),
    Case(
        "max pool dilation",
        window(lax.max, -INF, (2, 2), (2, 1), ((1, 0), (0, 1)), **DILATED),
        [(4, 6)],
        POOL[:1],
        in_jax=False,
        order=1,
    ),
    Case("max pool ties", window(lax.max, -INF, (2, 2), (1, 1), "VALID"), [TIES], POOL, check=False),
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

FOURIER = [
    Case("fft", jnp.fft.fft, [(2, 6)], ["fft"], complex=True, bfloat16=False),
    Case("fft padded", lambda z: jnp.fft.fft(z, 9), [(2, 6)], ["fft"], complex=True, bfloat16=False),
    Case("ifft2", jnp.fft.ifft2, [(3, 4, 5)], ["fft"], complex=True, bfloat16=False),
    Case("rfft even", jnp.fft.rfft, [(2, 6)], ["fft"], bfloat16=False, exact=False),
    Case("rfft2 odd", jnp.fft.rfft2, [(3, 5)], ["fft"], bfloat16=False, exact=False),
    Case("irfft even", jnp.fft.irfft, [(2, 4)], ["fft"], complex=True, bfloat16=False),
    Case("irfft2 odd", lambda z: jnp.fft.irfft2(z, (3, 5)), [(3, 3)], ["fft"], complex=True, bfloat16=False),
]

CASES: list[Case] = [
    *FOURIER,
    *ARITHMETIC,
    *TRANSCENDENTAL,
    *SPECIAL,
    *COMPLEX,
    *PRODUCTS,
    *CONVOLUTIONS,
    *REDUCTIONS,
    *SHAPES,
    *index_rows(),
    *WINDOWS,
    *CUMULATIVE,
    *SORTING,
    *PASSING,
    *LINEAR_ALGEBRA,
    *REDUCERS,
]
