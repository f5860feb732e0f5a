"""Comparison of results: structure, types, numbers."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

# Relative to the largest entry of a leaf; one rounding of each of a handful of operations.
TOLERANCE = {"float16": 4e-3, "bfloat16": 3e-2, "float32": 3e-6, "complex64": 3e-6, "float64": 1e-13, "complex128": 1e-13}


def assert_same(found: Any, wanted: Any, *, scale: float = 1.0, bits: bool = False, whole: bool = False) -> None:
    """Equal tree structure, shapes, dtypes and weak types; equal numbers up to rounding, or in all bits.

    `whole` measures rounding by the largest entry of all leaves: some gradients of a model are zero
    but for rounding (that of the bias of attention's keys, say).
    """
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    sizes = [np.max(np.abs(np.asarray(w, float)), initial=0) for w in jax.tree.leaves(wanted) if whole]
    for f, w in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert np.shape(f) == np.shape(w)
        assert f.dtype == w.dtype
        assert getattr(f, "weak_type", False) == getattr(w, "weak_type", False)
        if w.dtype == jax.dtypes.float0:
            continue
        tolerance = scale * TOLERANCE.get(str(w.dtype), 0)
        f, w = (np.asarray(a, a.dtype if a.dtype.kind != "V" else np.float32) for a in (f, w))
        if bits:
            np.testing.assert_array_equal(f, w)
            continue
        largest = np.max(np.abs(w[np.isfinite(w)]), initial=0).astype(float) if w.dtype.kind in "fc" else 0
        atol = tolerance * max(largest, 1e-30, *sizes)
        np.testing.assert_allclose(np.asarray(f), np.asarray(w), rtol=tolerance, atol=atol)


def quick(fun: Any, **options: Any) -> Any:
    """`jax.jit` for code that runs once: little time for optimisation. `options` are further ones of the compiler."""
    careless = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return jax.jit(fun, compiler_options=careless | options)
