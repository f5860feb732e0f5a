"""What the planner raises about a schedule: it breaks a rule, or does twice what must happen once."""

from __future__ import annotations

from ckptgrad.errors.base import CkptgradError


class ScheduleError(CkptgradError, ValueError):
    """A schedule breaks the rules of its actions, or a saved one cannot be read.

    `index` is the position of the offending action and `action` the action itself; None if no single action is at fault.

    Example:
        >>> import ckptgrad as cg
        >>> nonsense = cg.Schedule((cg.Backward(0),), "mine")
        >>> cg.plan(lambda x: x**2, 1.0, policy=nonsense)
        Traceback (most recent call last):
        ...
        ckptgrad.errors.ScheduleError: action 0 (B0): ...
    """

    def __init__(self, message: str, index: int | None = None, action: object = None) -> None:
        self.index = index
        self.action = action
        super().__init__(message if index is None else f"action {index} ({action}): {message}")


class EffectError(CkptgradError, ValueError):
    """A side effect that must happen once stands in a part that the plan runs twice.

    Example:
        >>> import jax, jax.numpy as jnp, ckptgrad as cg
        >>> def f(ws, x):
        ...     for w in ws:
        ...         x = jnp.sin(x @ w)
        ...         jax.debug.print("{}", x.mean(), ordered=True)
        ...     return jnp.sum(x)
        >>> cg.grad(f, policy="recompute_all")([jnp.ones((4, 4))] * 8, jnp.ones((64, 4)))
        Traceback (most recent call last):
        ...
        ckptgrad.errors.EffectError: ...
    """
