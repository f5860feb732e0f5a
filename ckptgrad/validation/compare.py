"""How far two gradients lie apart, and how far they may.

A recomputation repeats the same operations on the same inputs, but a compiler fuses and reassociates sums
anew in each program, and JAX's own rules may order products differently from ours. The tolerances leave room for that
over deep chains and for nothing else: a wrong rule is off by far more.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes

from ckptgrad.results.validation import Difference

# Largest relative difference by the name of a real dtype; for others, EPSILONS rounding units.
TOLERANCES = {"float64": 1e-10, "float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
EPSILONS = 8.0


def tolerance_of(dtype: Any) -> float:
    """The largest relative difference allowed in a dtype; a complex one as its real parts."""
    real = jnp.finfo(dtype).dtype
    return TOLERANCES.get(real.name, EPSILONS * float(jnp.finfo(dtype).eps))


def difference(found: Any, wanted: Any, tolerance: float | None = None) -> Difference:
    """Compare two pytrees, leaf by leaf; integer, boolean, key and float0 leaves have nothing to compare.

    A leaf's difference is max|a - b| / max|b|. Where the leaf is all rounding (zero in exact arithmetic, such
    as the gradient of a key bias in attention), max|b| is taken to be at least what makes one rounding unit
    of the largest leaf of that dtype just tolerable. 0/0 is 0, equal infinities and NaNs in the same place are equal.

    Args:
        found, wanted: pytrees of one structure.
        tolerance: overrides that of the dtypes.
    """
    a, b = dict(_leaves(found)), dict(_leaves(wanted))
    if a.keys() != b.keys():
        odd = sorted(a.keys() ^ b.keys())
        return Difference(np.inf, np.inf, f"{odd[0]} is in one gradient only", "", False)
    result = Difference()
    for leaf in differences(found, wanted, tolerance):
        worst = result if result.excess >= leaf.excess and result.leaf else leaf
        relative, bitwise = max(result.relative, leaf.relative), result.bitwise and leaf.bitwise
        result = Difference(relative, worst.excess, worst.leaf, worst.dtype, bitwise)
    return result


def differences(found: Any, wanted: Any, tolerance: float | None = None) -> list[Difference]:
    """The same for each leaf that has something to compare; both must have the same ones."""
    a, b = dict(_leaves(found)), dict(_leaves(wanted))
    largest: dict[Any, float] = {}
    for value in b.values():
        largest[value.dtype] = max(largest.get(value.dtype, 0.0), _largest(value))
    result = []
    for path, value in b.items():
        allowed = tolerance_of(value.dtype) if tolerance is None else tolerance
        floor = largest[value.dtype] * float(jnp.finfo(value.dtype).eps) / tolerance_of(value.dtype)
        apart = _relative(a[path], value, floor)
        excess = apart / allowed if allowed else (np.inf if apart else 0.0)
        same = a[path].dtype == value.dtype and a[path].tobytes() == value.tobytes()
        result.append(Difference(apart, excess, path, str(value.dtype), same))
    return result


def _leaves(tree: Any) -> list[tuple[str, np.ndarray]]:
    """Path and value of each leaf that is a float or complex array."""
    found = jax.tree_util.tree_leaves_with_path(tree)
    return [
        (jax.tree_util.keystr(path), np.asarray(leaf))
        for path, leaf in found
        if dtypes.issubdtype(jnp.result_type(leaf) if np.isscalar(leaf) else leaf.dtype, jnp.inexact)
    ]


def _wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)


def _largest(x: np.ndarray) -> float:
    """The largest finite magnitude."""
    sizes = np.abs(_wide(x))
    return float(np.max(sizes, initial=0.0, where=np.isfinite(sizes)))


def _relative(a: np.ndarray, b: np.ndarray, floor: float) -> float:
    if a.shape != b.shape:
        return np.inf
    a, b = _wide(a), _wide(b)
    equal = (a == b) | (np.isnan(a) & np.isnan(b))
    if equal.all():
        return 0.0
    if not (np.isfinite(a) | equal).all() or not (np.isfinite(b) | equal).all():
        return np.inf
    apart = float(np.max(np.abs(np.subtract(a, b, where=~equal, out=np.zeros_like(a)))))
    scale = max(_largest(b), floor)
    return apart / scale if scale else np.inf
