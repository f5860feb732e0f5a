"""How primitives are called, and how their parameters divide operands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from jax.extend.core import Primitive
from jax.extend.core import primitives as p

# The primitives that only call a program, and the parameter that holds it.  0.12 has one `eval_jaxpr` where 0.10
# has `closed_call` and `core_call`; `pjit` and `remat2` are the names of `jit` and `checkpoint` before 0.8;
# `remat_opt` is the forward of a custom_vjp with `optimize_remat=True`, which is for JAX's own remat.
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "call": "call_jaxpr",
    "eval_jaxpr": "call_jaxpr",
    "composite": "call_jaxpr" if jax.__version_info__ >= (0, 12) else "jaxpr",
    "xla_metadata_call": "jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
    "remat_opt": "fwd_jaxpr",
}

# The primitive of every call of `jax.experimental.hijax`; what it calls stands in its parameters.
HI_CALL = "call_hi_primitive"

# The casts from and to values that are not summed over an axis yet; 0.10 spells their names with the suffix of variables.
VARY_UNREDUCED_CAST = ("vary_unreduced_cast", "vary_unreduced_cast_p")
REDUCED_VARY_CAST = ("reduced_vary_cast", "reduced_vary_cast_p")


def is_closed(program: Any) -> bool:
    """Whether a program wraps another one, which has no constants: in 0.12 all programs are of one class."""
    return getattr(program, "jaxpr", program) is not program


class ScanCounts(NamedTuple):
    """How many of a scan's operands are constants and carried values; the others are stacked."""

    consts: int
    carry: int


def scan_counts(params: Mapping[str, Any]) -> ScanCounts:
    """How the operands of a `scan` are divided.

    0.10 has the two numbers; 0.12 has a tree of the operands, `ft_in` (and `ft_out` of the results).
    """
    if "num_consts" in params:
        return ScanCounts(params["num_consts"], params["num_carry"])
    consts, carry, _ = params["ft_in"].unpack()
    return ScanCounts(len(consts), len(carry))


def called_program(primitive: Primitive, params: Mapping[str, Any]) -> Any:
    """The program that an operation only calls, or None.

    With `jax_remat3`, `jax.checkpoint` is not the primitive `checkpoint` but a call of hijax.
    """
    if primitive.name in CALLS:
        return params[CALLS[primitive.name]]
    return params["_prim"].jaxpr if _called_kind(primitive, params) == "RematTraced" else None


def is_checkpoint(primitive: Primitive, params: Mapping[str, Any]) -> bool:
    """Whether an operation is a call of what `jax.checkpoint` wraps, in any of its forms (`called_program`)."""
    return primitive.name in ("checkpoint", "remat2") or _called_kind(primitive, params) == "RematTraced"


def as_plain(primitive: Primitive, params: Mapping[str, Any]) -> tuple[Primitive, Mapping[str, Any]]:
    """An operation in the form that it has without opt-in flags: with `jax_remat3`, `checkpoint_name` calls hijax."""
    if _called_kind(primitive, params) in ("CheckpointName", "CheckpointNameFwd"):
        return p.name_p, {"name": params["_prim"].name}
    return primitive, params


def _called_kind(primitive: Primitive, params: Mapping[str, Any]) -> str | None:
    """The name of JAX's own class of which a call of hijax is; no public name leads to these classes."""
    kind = type(params["_prim"]) if primitive.name == HI_CALL else None
    return kind.__name__ if kind is not None and kind.__module__.startswith("jax.") else None


def spmd_axis_names() -> frozenset[Any]:
    """The mesh axes over which a `jax.vmap` around this trace spreads its examples (`spmd_axis_name`).

    A `shard_map` inside may not mention them; no public name tells them.
    """
    from jax._src.core import get_axis_env

    return get_axis_env().spmd_axis_names
