"""What the planner and the policies raise: no schedule is within the budget, or one breaks a rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ckptgrad.errors.base import CkptgradError


class BudgetError(CkptgradError):
    """The budget is below the smallest peak that the policy can reach.

    `budget` and `smallest` are bytes, of one device where there are several (`devices`); `stage` is the 0-based stage that
    sets `smallest`, or None if unknown.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> try:
        ...     cg.plan(lambda x: jnp.sum(jnp.sin(x)), jnp.ones(1000), budget=100)
        ... except cg.BudgetError as error:
        ...     error.smallest > error.budget
        True
    """

    def __init__(
        self, budget: int, smallest: int, stage: int | None = None, policy: str | None = None, devices: int = 1
    ) -> None:
        self.budget = budget
        self.smallest = smallest
        self.stage = stage
        self.policy = policy
        self.devices = devices
        by = f" of policy {policy!r}" if policy else ""
        at = f", set by stage {stage}" if stage is not None else ""
        remedy = f"raise the budget to at least {smallest} bytes"
        if stage is not None:
            remedy += ", or make that stage smaller"
        if policy not in (None, "optimal"):
            remedy += ", or use policy 'optimal'"
        least = f"the smallest feasible peak{by}: {smallest} bytes ({smallest / 2**20:.4g} MiB){at}"
        each = f" a device, of {devices}," if devices > 1 else ""
        super().__init__(f"a budget of {budget} bytes ({budget / 2**20:.4g} MiB){each} is below {least}; {remedy}")

    def on(self, devices: int) -> BudgetError:
        """The same, said of one of several devices."""
        return BudgetError(self.budget, self.smallest, self.stage, self.policy, devices)


class StepMemoryError(BudgetError):
    """A whole step takes more than the memory that it was to keep to.

    `budget` and `smallest` are bytes of one device, arguments included; `certificate` tells what takes `smallest`, and
    `remedies` what would help.

    Example:
        >>> import jax, jax.numpy as jnp, ckptgrad as cg
        >>> def step(w, x):
        ...     return w - 0.1 * cg.grad(lambda w: jnp.mean((x @ w) ** 2), budget="fit")(w)
        >>> try:
        ...     cg.fit(step, jnp.ones((64, 64)), jnp.ones((64, 64)), memory="16KiB")
        ... except cg.StepMemoryError as error:
        ...     error.smallest > error.budget
        True
    """

    def __init__(self, function: str, limit: int, certificate: Any, taken: Sequence[str], remedies: Sequence[str]) -> None:
        super().__init__(limit, certificate.peak_bytes, devices=certificate.devices)
        self.certificate = certificate
        self.remedies = tuple(remedies)
        each = f" on each of {self.devices} devices" if self.devices > 1 else ""
        helps = f". What would help: {'; '.join(remedies)}" if remedies else ""
        self.args = (
            f"{function} takes at least {self.smallest} bytes ({self.smallest / 2**20:.4g} MiB){each}, and {limit} bytes "
            f"({limit / 2**20:.4g} MiB) were asked for: {', '.join(taken)}{helps}",
        )

    def on(self, devices: int) -> BudgetError:
        """Itself: it is said of one device already."""
        return self


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
