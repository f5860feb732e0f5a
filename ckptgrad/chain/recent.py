# pyright: reportUnknownMemberType=false
"""A cache of differentiated stages: a function that is traced again is not differentiated again.

What a user's rules close over must not outlive them: of things that hold arrays only a few bytes are kept, the others
are found again as long as something else holds them. All is let go by `jax.clear_caches()`: the one strong reference to
the store is part of the type of a traced function's result, in JAX's own cache.
"""

from __future__ import annotations

import gc
import types
import weakref
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, Sharding

MOST_ENTRIES = 256
MOST_BYTES = 2**18
# Objects that are visited to find what something holds; what holds more is not kept.
MOST_OBJECTS = 20_000
_HOLDS_NO_ARRAYS = (type, types.ModuleType, types.CodeType, types.FrameType, str, bytes, int, float, complex, Mesh, Sharding)


class Recent:
    """Recent values by key, the oldest dropped first."""

    def __init__(self) -> None:
        self._weak: weakref.WeakValueDictionary[Any, Any] = weakref.WeakValueDictionary()
        self._store: weakref.ref[_Store] | None = None

    def __len__(self) -> int:
        return len(self._held.entries)

    def get(self, key: Any) -> Any:
        """The value, or None where it was never put, or dropped."""
        return self._weak.get(key)

    def put(self, key: Any, value: Any, holds: Iterable[Any]) -> None:
        """Keep a value; `holds` are the objects through which it may hold arrays."""
        self._weak[key] = value
        size = held_bytes(holds)
        if size is not None and size <= MOST_BYTES:
            self._held.add(key, value, size)

    def forget(self) -> None:
        """Drop all."""
        self._weak.clear()
        self._held.entries.clear()

    @property
    def _held(self) -> _Store:
        store = None if self._store is None else self._store()
        if store is None:
            store = _Store()
            self._store = weakref.ref(store)
            self._owner = _held_by_jax(store)
        return store


class _Store:
    def __init__(self) -> None:
        self.entries: OrderedDict[Any, tuple[Any, int]] = OrderedDict()

    def __call__(self) -> None:
        """Only what can be called may stand in a `jax.tree_util.Partial`."""

    def add(self, key: Any, value: Any, size: int) -> None:
        self.entries[key] = value, size
        self.entries.move_to_end(key)
        total = sum(size for _, size in self.entries.values())
        while len(self.entries) > MOST_ENTRIES or total > MOST_BYTES:
            total -= self.entries.popitem(last=False)[1][1]


def _held_by_jax(store: _Store) -> Any:
    """The function in whose trace JAX keeps the store; there it stands in the tree of the result."""
    waiting = [store]
    traced = jax.jit(lambda: jax.tree_util.Partial(waiting.pop()))
    jax.eval_shape(traced)
    return traced


def held_bytes(objects: Iterable[Any]) -> int | None:
    """Bytes of the arrays that are reached from objects; None if a trace is, or too much to look at."""
    seen: set[int] = set()
    total, waiting = 0, list(objects)
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, _HOLDS_NO_ARRAYS):
            continue
        seen.add(id(thing))
        if isinstance(thing, Tracer) or len(seen) > MOST_OBJECTS:
            return None
        if isinstance(thing, (jax.Array, np.ndarray)):
            total += thing.nbytes
        elif isinstance(thing, types.FunctionType):
            waiting += [thing.__closure__, thing.__defaults__, thing.__kwdefaults__, thing.__dict__]
        else:
            waiting += gc.get_referents(thing)
    return total
