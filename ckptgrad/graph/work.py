"""How much arithmetic an operation does, and which operations are heavy.

Counts are exact for products and convolutions, one a result element elsewhere; a subgraph counts
its body (times the trip count of a scan).
"""

from __future__ import annotations

import math
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr

from ckptgrad.compat import HI_CALL, hi_programs
from ckptgrad.graph.graph import Operation

PRODUCTS = frozenset({"dot_general", "conv_general_dilated"})

# Worth keeping rather than doing again, besides products: loops, solvers, sorts, window sweeps.
HEAVY = PRODUCTS | {
    "scan", "while", "loop_forward", "loop_backward", "cond", "custom_vjp_call", HI_CALL,
    "sort", "top_k", "cholesky", "eig", "eigh", "svd", "qr",
    "lu", "schur", "triangular_solve", "tridiagonal_solve", "custom_linear_solve", "fft", "cumsum",
    "cumprod", "cummax", "cummin", "cumlogsumexp", "reduce_window", "reduce_window_max",
    "reduce_window_min", "reduce_window_sum", "select_and_scatter_add", "select_and_gather_add",
    "scatter", "scatter-add", "scatter_mul", "random_bits", "random_gamma", "rng_bit_generator",
    "threefry2x32", "shard_map", "psum", "all_gather", "all_to_all", "ppermute", "reduce_scatter",
    "bcoo_dot_general", "bcoo_dot_general_sampled", "bcoo_spdot_general", "bcsr_dot_general", "bcoo_sort_indices",
    "bcoo_sum_duplicates", "bcoo_fromdense", "bcsr_fromdense", "coo_fromdense", "csr_fromdense", "bcoo_todense",
    "bcsr_todense", "coo_todense", "csr_todense", "todense", "coo_matvec", "coo_matmat", "csr_matvec", "csr_matmat",
    "spsolve",
}  # fmt: skip

# Free to repeat: no arithmetic, usually no memory of their own once compiled.
VIEWS = frozenset({
    "broadcast_in_dim", "reshape", "squeeze", "expand_dims", "convert_element_type", "iota", "slice",
    "transpose", "rev", "copy", "stop_gradient", "bitcast_convert_type", "real", "imag", "name", "not",
})  # fmt: skip

TRANSCENDENTAL = frozenset({
    "exp", "exp2", "expm1", "log", "log2", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh",
    "cosh", "tanh", "asinh", "acosh", "atanh", "logistic", "erf", "erfc", "erf_inv", "pow", "cbrt", "lgamma",
    "digamma", "polygamma", "igamma", "igammac", "bessel_i0e", "bessel_i1e", "regularized_incomplete_beta",
})  # fmt: skip


def is_heavy(op: Operation) -> bool:
    """Whether an operation is worth keeping rather than doing again."""
    return op.name in HEAVY


def has_batch_dimensions(op: Operation) -> bool:
    """Whether an operation is a product with batch dimensions (attention scores, for one)."""
    return op.name == "dot_general" and bool(op.params["dimension_numbers"][1][0])


def flops(op: Operation) -> int:
    """Floating point operations of one operation (multiply and add count two)."""
    return _flops(op.name, [a.aval for a in op.inputs], [v.aval for v in op.outputs], op.params)


def _flops(name: str, ins: list[Any], outs: list[Any], params: dict[str, Any]) -> int:
    size = math.prod(getattr(outs[0], "shape", ())) if outs else 0
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        return 2 * size * math.prod(ins[0].shape[i] for i in contracted)
    if name == "conv_general_dilated":
        kernel = ins[1].shape
        out_features = kernel[params["dimension_numbers"].rhs_spec[0]]
        return 2 * size * math.prod(kernel) // max(out_features, 1)
    inner = sum(_jaxpr_flops(j) for j in inner_programs(params))
    if inner:
        return inner * (params.get("length", 1) if name == "scan" else 1)
    return max([size, *(math.prod(getattr(a, "shape", ())) for a in ins)])


def _jaxpr_flops(jaxpr: Jaxpr) -> int:
    return sum(
        _flops(e.primitive.name, [a.aval for a in e.invars], [v.aval for v in e.outvars], e.params) for e in jaxpr.eqns
    )


def inner_programs(params: dict[str, Any]) -> list[Jaxpr]:
    """The programs among the parameters of an operation."""
    found = [getattr(program, "jaxpr", program) for program in hi_programs(params)]
    for value in params.values():
        for v in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(v, ClosedJaxpr):
                found.append(v.jaxpr)
            elif isinstance(v, Jaxpr):
                found.append(v)
    return found
