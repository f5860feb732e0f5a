"""Which of the user's functions a custom rule consists of, as far as JAX's wrappers around them are known."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, cast

# JAX's wrappers that only bring arguments and results into another form, given what is compared here.  Their other
# arguments are names, tags of a trace, and functions by which one wrapper learns what another one computed.
_KNOWN = frozenset({
    "_flatten_jvp", "_flatten_fwd", "_flatten_bwd", "_prepend_static_args", "_argnums_partial",
    "batch_subtrace", "batch_custom_jvp_subtrace",
})  # fmt: skip
# Closures that JAX makes anew for each call, and the variable in which they keep what they wrap.
_CLOSURES = {
    "_memoize.<locals>.memoized": "fn",
    "DynamicJaxprTrace.process_custom_jvp_call.<locals>.jvp_jaxpr_thunk": "jvp",
    "DynamicJaxprTrace.process_custom_vjp_call.<locals>.fwd_jaxpr_from_zeros": "fwd",
    "batch_custom_vjp_bwd.<locals>.new_bwd": "bwd",
}
_DEPTH = 8


def rule_identity(wrapped: Sequence[Any]) -> list[Any] | None:
    """The user's functions that make up a rule, and the static arguments of JAX's wrappers around them.

    None where an unknown wrapper is met: then nothing is said about which rule it is.
    """
    parts: list[Any] = []
    return parts if all(_collect(w, parts, _DEPTH) for w in wrapped) else None


def is_jaxs(parts: Sequence[Any]) -> bool:
    """Whether all functions that make up a rule (`rule_identity`) are JAX's own, and hold no others."""
    return all(_is_jaxs_alone(part, _DEPTH) for part in parts)


def _is_jaxs_alone(part: Any, depth: int) -> bool:
    if depth == 0:
        return False
    if isinstance(part, (tuple, list)):
        return all(_is_jaxs_alone(inside, depth - 1) for inside in cast("Sequence[Any]", part))
    if not callable(part):
        return True
    captured = [cell.cell_contents for cell in getattr(part, "__closure__", None) or ()]
    return _is_jaxs(part) and _is_jaxs_alone(captured, depth - 1)


def _collect(function: Any, parts: list[Any], depth: int) -> bool:
    if depth == 0:
        return False
    if hasattr(function, "transforms"):
        known = all(_collect_arguments(gen, arguments, parts) for gen, arguments in function.transforms)
        return known and not function.params and _collect(function.f, parts, depth - 1)
    inner = _CLOSURES.get(getattr(function, "__qualname__", "")) if _is_jaxs(function) else None
    if inner is None:
        parts.append(function)
        return True
    inside = inspect.getclosurevars(function).nonlocals
    # The sizes and places of batched axes; the types that a thunk was made for are compared elsewhere.
    parts.extend(_plain(inside.get(name)) for name in ("axis_data", "out_dim_dests"))
    return inner in inside and _collect(inside[inner], parts, depth - 1)


def _collect_arguments(gen: Any, arguments: Sequence[Any], parts: list[Any]) -> bool:
    name = getattr(gen, "__name__", "")
    parts.append(name)
    parts.extend(_plain(a) for a in arguments)
    return name in _KNOWN


def _plain(value: Any) -> Any:
    """A static argument without what differs between two calls of the same rule."""
    name = type(value).__name__
    if name in ("Unhashable", "Hashable"):
        return value.val
    if callable(value) or name in ("TraceTag", "DebugInfo"):
        return None
    if isinstance(value, (tuple, list)):
        return (name, *map(_plain, value))
    return value


def _is_jaxs(function: Any) -> bool:
    return str(getattr(function, "__module__", "")).partition(".")[0] in ("jax", "jaxlib")
