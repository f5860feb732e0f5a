"""Equinox modules among the arguments of doors that only look: their leaves that are no arrays stay what they are.

An Equinox module is a pytree of arrays and others (activation functions, flags), of which Equinox's own gradient functions
differentiate the arrays. Doors that return gradients leave the choice to their caller (`ckptgrad.eqx`, `equinox.partition`):
their gradients are structured as what was differentiated.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

from ckptgrad.graph.static_arguments import split_call


def open_modules(
    fun: Callable, args: Iterable[Any], kwargs: Mapping[str, Any]
) -> tuple[Callable, tuple[Any, ...], dict[str, Any]]:
    """A call as one of what is traced of the arguments that hold Equinox modules; the others stay as they are.

    Returns:
        The function and its arguments; leaves have the names that they had.

    Example:
        >>> import equinox as eqx, jax, jax.numpy as jnp
        >>> model = eqx.nn.MLP(2, 1, 4, 1, key=jax.random.key(0))
        >>> fun, args, _ = open_modules(lambda model, x: model(x)[0], (model, jnp.ones(2)), {})
        >>> args[0].activation is None, fun(*args).shape
        (True, ())
    """
    args, kwargs = tuple(args), dict(kwargs)
    others = [i for i, x in enumerate(args) if not _holds_module(x)]
    if len(others) == len(args):
        return fun, args, kwargs
    split = split_call(fun, args, kwargs, others)
    return split.fun, split.args, split.kwargs


def _holds_module(tree: Any) -> bool:
    equinox = sys.modules.get("equinox")
    if equinox is None:
        return False

    def is_module(x: Any) -> bool:
        return isinstance(x, equinox.Module)

    return any(map(is_module, jax.tree.leaves(tree, is_leaf=is_module)))
