# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
"""Objects that a function changes in place: a traced function gets copies of its arguments, so the change would be lost.

What JAX's doors lose in silence (batch statistics, counters of random keys in a Flax NNX module) is an error here, unless
the function returns the new values.  Lists, tuples, dicts and the states of `nnx.split` are containers of values, which a
function may take apart.
"""

from __future__ import annotations

import collections
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ckptgrad.errors import StateError
from ckptgrad.graph.naming import standing_for, title

_CONTAINERS = (tuple, list, dict, collections.OrderedDict, collections.defaultdict, collections.deque)
_ARRAYS = (jax.Array, jax.ShapeDtypeStruct, np.ndarray, np.generic, bool, int, float, complex, str, bytes)


def is_nnx(value: Any) -> bool:
    """Whether it is an object of Flax NNX: a module, an optimizer, random keys, a variable."""
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(value, (nnx.Pytree, nnx.Variable))


def _is_nnx_state(value: Any) -> bool:
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(value, nnx.State)


def holds_nnx(tree: Any) -> bool:
    """Whether it is or holds an object of Flax NNX."""
    return any(is_nnx(x) for x in jax.tree.leaves(tree, is_leaf=is_nnx))


def losing_nothing(fun: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Callable[..., Any]:
    """The function, refusing to lose what it leaves in objects among its arguments; itself, where there are none.

    Args:
        fun: the function.
        args, kwargs: what it is going to be called with, or what has the same structure.
    """
    if not _objects(args, kwargs):
        return fun

    def guarded(*args: Any, **kwargs: Any) -> Any:
        before = [_Snapshot.of(x) for x in _objects(args, kwargs)]
        result = fun(*args, **kwargs)
        returned = {id(x) for x in jax.tree.leaves(result)}
        for snapshot in before:
            snapshot.check(fun, returned)
        return result

    return standing_for(fun, guarded)


def _objects(args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
    """The outermost pytrees among the arguments that are no containers, each once."""

    def stops(x: Any) -> bool:
        return x is not None and type(x) not in _CONTAINERS and not _is_named_tuple(x)

    leaves = jax.tree.leaves((tuple(args), kwargs), is_leaf=stops)
    others = [x for x in leaves if not isinstance(x, _ARRAYS) and not _is_nnx_state(x)]
    nodes = [x for x in others if not jax.tree_util.all_leaves([x])]
    return list({id(x): x for x in nodes}.values())


def _is_named_tuple(x: Any) -> bool:
    return isinstance(x, tuple) and hasattr(x, "_fields")


@dataclass(frozen=True)
class _Snapshot:
    """What an object held: its leaves by name, and the rest of its structure."""

    value: Any
    names: tuple[str, ...]
    leaves: tuple[Any, ...]
    structure: Any

    @classmethod
    def of(cls, value: Any) -> _Snapshot:
        flat, structure = jax.tree_util.tree_flatten_with_path(value)
        names = tuple(jax.tree_util.keystr(path) for path, _ in flat)
        return cls(value, names, tuple(leaf for _, leaf in flat), structure)

    def check(self, fun: Callable[..., Any], returned: set[int]) -> None:
        """Reject a change since then of which the new values are not returned.

        Raises:
            StateError: naming what was changed.
        """
        now, again = _Snapshot.of(self.value), _Snapshot.of(self.value)
        if any(a is not b for a, b in zip(now.leaves, again.leaves, strict=True)):
            return  # a class that makes its leaves when it is asked for them: nothing can be said
        held = dict(zip(self.names, self.leaves, strict=True))
        left = [(n, x) for n, x in zip(now.names, now.leaves, strict=True) if id(x) not in returned]
        lost = [n for n, x in left if held.get(n) is not x]
        if left and not lost and is_nnx(self.value) and now.structure != self.structure:
            lost = ["an attribute that is no array"]
        if lost:
            raise StateError(title(fun), type(self.value).__name__, lost, is_nnx(self.value))
