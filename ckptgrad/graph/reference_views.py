"""Reading and writing a value through the views (indices, reshapes) of a mutable reference, as JAX's compiled programs do.

An index has an entry for each axis: a slice (`start`, `size`, `stride`), an integer or an array of integers.  Slices and
single integers are kept within bounds, arrays of integers follow `jax.numpy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from ckptgrad.compat import indices_of, reshape_of
from ckptgrad.errors import ReferenceTypeError
from ckptgrad.graph.atoms import Array


def read_at(x: Array, views: Sequence[Any]) -> Array:
    """The part of x that is seen through a chain of views: indices and reshapes."""
    for view in views:
        x = _viewed(x, view)
    return x


def written_at(x: Array, views: Sequence[Any], value: Array, add: bool = False) -> Array:
    """x with what is seen through a chain of views replaced by a value, or with the value added to it."""
    if not views:
        return x + value if add else value
    first, *rest = views
    if rest:
        value, add = written_at(_viewed(x, first), rest, value, add), False
    if reshape_of(first) is not None:
        value = value.reshape(x.shape)
        return x + value if add else value
    entries = _indices(first)
    if _is_window(entries):
        old = lax.dynamic_slice(x, _starts(entries), _sizes(entries))
        value = value.reshape(old.shape)
        return lax.dynamic_update_slice(x, old + value if add else value, _starts(entries))
    places = x.at[_numpy_index(entries)]
    return places.add(value) if add else places.set(value)


def _viewed(x: Array, view: Any) -> Array:
    shape = reshape_of(view)
    if shape is not None:
        return x.reshape(shape)
    entries = _indices(view)
    if not _is_window(entries):
        return x[_numpy_index(entries)]
    single = [i for i, entry in enumerate(entries) if not _is_slice(entry)]
    return lax.squeeze(lax.dynamic_slice(x, _starts(entries), _sizes(entries)), single)


def _indices(view: Any) -> Sequence[Any]:
    entries = indices_of(view)
    if entries is None:
        raise ReferenceTypeError(None, f"that is seen through a {type(view).__name__}")
    return entries


def _is_slice(entry: Any) -> bool:
    return hasattr(entry, "stride")


def _is_window(entries: Sequence[Any]) -> bool:
    return all(e.stride == 1 if _is_slice(e) else np.shape(e) == () for e in entries)


def _starts(entries: Sequence[Any]) -> list[Array]:
    return [jnp.int32(e.start if _is_slice(e) else e) for e in entries]


def _sizes(entries: Sequence[Any]) -> list[int]:
    return [e.size if _is_slice(e) else 1 for e in entries]


def _numpy_index(entries: Sequence[Any]) -> tuple[Any, ...]:
    """The index of `jax.numpy`, which has no slices that begin at a traced place."""
    if any(_is_slice(e) and not isinstance(e.start, int) for e in entries):
        raise ReferenceTypeError(None, "that is indexed by arrays, or with strides, from a traced start")
    return tuple(slice(e.start, e.start + (e.size - 1) * e.stride + 1, e.stride) if _is_slice(e) else e for e in entries)
