"""What a primitive costs, by class: the one place where planner and estimates learn what is worth keeping.

A rule of a user's own primitive states its class by `cost=`; what is not named anywhere is elementwise.
"""

from __future__ import annotations

from ckptgrad.compat import HI_CALL
from ckptgrad.graph.graph import Operation

# By class, the names of primitives.
CLASSES: dict[str, frozenset[str]] = {
    # Products: the arithmetic that machines are made for.
    "product": frozenset({"dot_general", "conv_general_dilated", "ragged_dot_general"}),
    # Worth keeping rather than doing again, besides products: loops, solvers, sorts, window sweeps, communication.
    "heavy": frozenset({
        "scan", "while", "loop_forward", "loop_backward", "cond", "custom_vjp_call", HI_CALL,
        "custom_vmap_call", "linear_call",
        "sort", "top_k", "approx_top_k", "cholesky", "cholesky_update", "eig", "eigh", "svd", "qr", "geqrf", "geqp3",
        "householder_product", "hessenberg", "ormqr", "tridiagonal", "symmetric_product",
        "lu", "schur", "triangular_solve", "tridiagonal_solve", "custom_linear_solve", "fft", "cumsum",
        "cumprod", "cummax", "cummin", "cumlogsumexp", "reduce_window", "reduce_window_max",
        "reduce_window_min", "reduce_window_sum", "select_and_scatter", "select_and_scatter_add", "select_and_gather_add",
        "scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max",
        "random_bits", "random_gamma", "rng_bit_generator", "threefry2x32", "shard_map",
        "psum", "psum_invariant", "pmax", "pmin", "all_gather", "all_gather_invariant", "all_to_all", "ragged_all_to_all",
        "ppermute", "reduce_scatter", "all_gather_reduced", "unreduced_psum", "unreduced_reduce_scatter",
        "bcoo_dot_general", "bcoo_dot_general_sampled", "bcoo_spdot_general", "bcsr_dot_general", "bcoo_sort_indices",
        "bcoo_sum_duplicates", "bcoo_fromdense", "bcsr_fromdense", "coo_fromdense", "csr_fromdense", "bcoo_todense",
        "bcsr_todense", "coo_todense", "csr_todense", "todense", "coo_matvec", "coo_matmat", "csr_matvec", "csr_matmat",
        "spsolve",
    }),
    # Cheap, but with memory of their own for what they make.
    "reduction": frozenset({
        "reduce", "reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "reduce_xor",
        "argmax", "argmin",
    }),
    "gathering": frozenset({"gather", "concatenate", "stack", "dynamic_update_slice", "bcoo_extract", "bcsr_extract"}),
    # Elementwise, but slow.
    "transcendental": frozenset({
        "exp", "exp2", "expm1", "log", "log2", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh",
        "cosh", "tanh", "asinh", "acosh", "atanh", "logistic", "erf", "erfc", "erf_inv", "pow", "cbrt", "lgamma",
        "digamma", "polygamma", "zeta", "igamma", "igammac", "igamma_grad_a", "bessel_i0e", "bessel_i1e",
        "regularized_incomplete_beta",
    }),
    # Free to repeat: no arithmetic, usually no memory of their own once compiled.
    "view": frozenset({
        "broadcast_in_dim", "reshape", "squeeze", "convert_element_type", "iota", "slice", "split", "unstack", "tile",
        "transpose", "rev", "copy", "stop_gradient", "bitcast_convert_type", "real", "imag", "name", "not",
        "bcoo_transpose", "pvary", "preduced",
        "vary_unreduced_cast", "vary_unreduced_cast_p", "reduced_vary_cast", "reduced_vary_cast_p",
        "nonbatchable", "nondifferentiable_backward", "xla_metadata_value",
    }),
    # All else that is differentiated.
    "elementwise": frozenset({
        "abs", "add", "add_any", "clamp", "complex", "conj", "custom_jvp_call", "device_put", "div", "dynamic_slice",
        "integer_pow", "layout_constraint", "max", "maybe_set", "min", "mul", "neg", "nextafter", "one_minus_square",
        "optimization_barrier", "pad", "pbroadcast", "planned_linear", "polynomial", "reduce_precision", "rem", "reshard",
        "rsqrt", "select_if_vmap", "select_n", "sharding_constraint", "sqrt", "square", "sub", "tie",
    }),
}  # fmt: skip
_CLASS_OF = {name: kind for kind, names in CLASSES.items() for name in names}


# By primitive, the classes that rules state.
_STATED: dict[str, str] = {}


def state_class(primitive: str, cost: str | None) -> None:
    """What a primitive's rule says of its class; None: nothing."""
    if cost is None:
        _STATED.pop(primitive, None)
    else:
        _STATED[primitive] = cost


def cost_class(name: str) -> str:
    """The class of a primitive: as its rule states it, or by the table."""
    return _STATED.get(name) or _CLASS_OF.get(name, "elementwise")


def is_product(op: Operation) -> bool:
    """Whether an operation multiplies matrices or convolves."""
    return cost_class(op.name) == "product"


def is_heavy(op: Operation) -> bool:
    """Whether an operation is worth keeping rather than doing again."""
    return cost_class(op.name) in ("product", "heavy")


def is_reduction(op: Operation) -> bool:
    """Whether an operation folds axes."""
    return cost_class(op.name) == "reduction"


def is_materialised(op: Operation) -> bool:
    """Whether an operation's results get memory of their own even if read once."""
    return cost_class(op.name) in ("product", "heavy", "reduction", "gathering")


def is_view(op: Operation) -> bool:
    """Whether an operation is free to repeat."""
    return cost_class(op.name) == "view"


def is_transcendental(op: Operation) -> bool:
    """Whether an operation is elementwise, but slow."""
    return cost_class(op.name) == "transcendental"
