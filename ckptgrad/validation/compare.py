"""How far two gradients differ, and how far they may.

A recomputation repeats the same operations on the same inputs, but the compiler fuses operations and reassociates sums
anew in each program, and JAX's rules may order products differently from ours. The tolerances leave room for that in
deep chains and for nothing else: a wrong rule is off by far more.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes
from jax.experimental.multihost_utils import process_allgather

from ckptgrad.results.validation import Difference
from ckptgrad.validation.double_precision import as_numpy_double

# The largest relative difference allowed, by the name of a real dtype; for others, EPSILONS rounding units.
TOLERANCES = {"float64": 1e-10, "float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
EPSILONS = 8.0


def tolerance_of(dtype: Any) -> float:
    """The largest relative difference allowed in a dtype; for a complex one, that of its parts."""
    real = jnp.finfo(dtype).dtype
    return TOLERANCES.get(real.name, EPSILONS * float(jnp.finfo(dtype).eps))


def difference(result: Any, reference: Any, tolerance: float | None = None) -> Difference:
    """Compare two pytrees leaf by leaf; integer, boolean, key and float0 leaves are not compared.

    A leaf's difference is max|a - b| / max|b|. If the leaf is nothing but rounding (zero in exact arithmetic, such as the
    gradient of a key bias in attention), max|b| is taken to be at least what makes one rounding unit of the largest leaf
    of that dtype just tolerable. 0/0 is 0; equal infinities, and NaNs in the same place, are equal.

    Args:
        result, reference: pytrees of the same structure.
        tolerance: overrides the tolerances of the dtypes.
    """
    a, b = dict(_leaves(result)), dict(_leaves(reference))
    if a.keys() != b.keys():
        unmatched = sorted(a.keys() ^ b.keys())
        return Difference(np.inf, np.inf, f"{unmatched[0]} is in only one of the two", "", False)
    total = Difference()
    for leaf in differences(result, reference, tolerance):
        worst = total if total.excess >= leaf.excess and total.leaf else leaf
        relative, bitwise = max(total.relative, leaf.relative), total.bitwise and leaf.bitwise
        total = Difference(relative, worst.excess, worst.leaf, worst.dtype, bitwise)
    return total


def differences(result: Any, reference: Any, tolerance: float | None = None) -> list[Difference]:
    """The same for each leaf that is compared; both pytrees must have the same ones."""
    a, b = dict(_leaves(result)), dict(_leaves(reference))
    largest: dict[Any, float] = {}
    for value in b.values():
        largest[value.dtype] = max(largest.get(value.dtype, 0.0), _largest(value))
    leaves: list[Difference] = []
    for path, value in b.items():
        allowed = tolerance_of(value.dtype) if tolerance is None else tolerance
        floor = largest[value.dtype] * float(jnp.finfo(value.dtype).eps) / tolerance_of(value.dtype)
        relative = _relative(a[path], value, floor)
        excess = relative / allowed if allowed else (np.inf if relative else 0.0)
        bitwise = a[path].dtype == value.dtype and a[path].tobytes() == value.tobytes()
        leaves.append(Difference(relative, excess, path, str(value.dtype), bitwise))
    return leaves


def _leaves(tree: Any) -> list[tuple[str, np.ndarray]]:
    """Path and value of each leaf that is a float or complex array."""
    return [
        (jax.tree_util.keystr(path), _whole(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if dtypes.issubdtype(jnp.result_type(leaf) if np.isscalar(leaf) else leaf.dtype, jnp.inexact)
    ]


def _whole(leaf: Any) -> np.ndarray:
    """The value of a leaf, of which this process may have a part."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable and not leaf.is_fully_replicated:
        return np.asarray(process_allgather(leaf, tiled=True))
    return np.asarray(leaf)


def _largest(x: np.ndarray) -> float:
    """The largest finite magnitude."""
    sizes = np.abs(as_numpy_double(x))
    return float(np.max(sizes, initial=0.0, where=np.isfinite(sizes)))


def _relative(a: np.ndarray, b: np.ndarray, floor: float) -> float:
    if a.shape != b.shape:
        return np.inf
    a, b = as_numpy_double(a), as_numpy_double(b)
    equal = (a == b) | (np.isnan(a) & np.isnan(b))
    if equal.all():
        return 0.0
    if not (np.isfinite(a) | equal).all() or not (np.isfinite(b) | equal).all():
        return np.inf
    largest = float(np.max(np.abs(np.subtract(a, b, where=~equal, out=np.zeros_like(a)))))
    scale = max(_largest(b), floor)
    return largest / scale if scale else np.inf
