# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Stages that the user names: `stage(fn)` and `Chain([...])`.

A mark is a `jax.jit` with a name that tracing recognises, so marked functions run, differentiate
and batch under plain JAX as well.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from ckptgrad.errors import StageError
from ckptgrad.graph.static_arguments import Settings, split_call
from ckptgrad.graph.trace import STAGE_NAME


def stage(fun: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function as one stage of a chain.

    Args:
        fun: any JAX function; each call of the result is one stage. As under `jax.jit` arrays and numbers are traced;
            flags, functions and other settings reach it as they are.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> layer = cg.stage(lambda w, x: x + jnp.tanh(x @ w))
        >>> layer(jnp.eye(2), jnp.zeros((1, 2))).shape
        (1, 2)
    """

    def marked(settings: Settings, *args: Any, **kwargs: Any) -> Any:
        return settings.call(*args, **kwargs)

    marked.__name__ = marked.__qualname__ = f"{STAGE_NAME}_{getattr(fun, '__name__', 'stage')}"
    jitted = jax.jit(marked, static_argnums=0)

    @functools.wraps(fun, updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        split = split_call(fun, args, kwargs, numbers=True)
        return jitted(split.settings(), *split.args, **split.kwargs)

    return call


class Chain:
    """A function made of stages: x[i+1] = stages[i](params[i], x[i]).

    Args:
        stages: functions (params, x) -> x; the same function object may occur several times.

    Calling the chain with (params, x), one entry of `params` per stage, gives the last x.

    Raises:
        StageError: there are no stages, the number of params differs, or a stage does not accept
            what the one before it returns.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> chain = cg.Chain([lambda w, x: jnp.sin(w * x)] * 3)
        >>> len(cg.plan(chain, [1.0, 2.0, 3.0], 0.5).schedule.kept)
        3
    """

    def __init__(self, stages: Sequence[Callable[..., Any]]) -> None:
        if not stages:
            raise StageError("a chain needs at least one stage")
        marked: dict[Any, Callable[..., Any]] = {}
        self.stages = tuple(marked.setdefault(f, stage(f)) for f in stages)
        self.names = tuple(getattr(f, "__name__", "stage") for f in stages)

    def __len__(self) -> int:
        return len(self.stages)

    def __call__(self, params: Sequence[Any], x: Any) -> Any:
        if len(params) != len(self.stages):
            raise StageError(f"a chain of {len(self)} stages got params for {len(params)}; give one entry per stage")
        for i, (run, p) in enumerate(zip(self.stages, params, strict=True)):
            try:
                x = run(p, x)
            except (TypeError, ValueError) as error:
                raise StageError(
                    f"stage {i} ({self.names[i]}) does not accept what it is given: "
                    f"x = {describe(x)}, params = {describe(p)}: {error}"
                ) from error
        return x


def describe(tree: Any) -> str:
    """Shapes and dtypes of a pytree, for messages."""
    shapes = [
        f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]" if hasattr(leaf, "dtype") else repr(leaf)
        for leaf in jax.tree.leaves(tree)
    ]
    return ", ".join(shapes[:6]) + (f", ... ({len(shapes)} arrays)" if len(shapes) > 6 else "")
