"""A budget that nothing fits in: what is asked for, what is feasible, and what holds the smallest peak up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import ROUND_CEILING, Context, Decimal
from typing import Any

from ckptgrad.errors.base import CkptgradError


class BudgetError(CkptgradError):
    """The budget is below the smallest peak that the policy can reach.

    `budget` and `smallest` are bytes, of one device where there are several (`devices`); `stage` is the 0-based stage that
    sets `smallest`, or None if unknown; `source` says what a budget "auto" was taken from, or of what it
    is a share.

    Where it is raised for a program, `floor` breaks `smallest` down as it is predicted (a `results.at_peak.Floor`: what is
    held there by kind, the stage with its name and line, the arrays inside it, the estimated time), and `multiple` is the
    least budget as a share of what storing everything needs, as it may be given: "0.22x". Otherwise both are None. The
    message ends with them; they are computed when they are first asked for.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> try:
        ...     cg.plan(lambda x: jnp.sum(jnp.sin(x)), jnp.ones(1000), budget=100)
        ... except cg.BudgetError as error:
        ...     error.smallest > error.budget, error.floor.bytes == error.smallest
        (True, True)
    """

    def __init__(
        self,
        budget: int,
        smallest: int,
        stage: int | None = None,
        policy: str | None = None,
        devices: int = 1,
        floor: Callable[[], Any] | None = None,
    ) -> None:
        self.budget = budget
        self.smallest = smallest
        self.stage = stage
        self.policy = policy
        self.devices = devices
        self.source = ""
        self._floor: Any = None
        self._make_floor = floor
        super().__init__(budget, smallest, stage, policy, devices)

    @property
    def floor(self) -> Any:
        """What holds the smallest peak up, or None."""
        if self._make_floor is not None:
            self._floor, self._make_floor = self._make_floor(), None
        return self._floor

    @property
    def multiple(self) -> str | None:
        """The least budget as a share of what storing everything needs, rounded up: "0.22x"; None where that is unknown."""
        everything = None if self.floor is None else self.floor.everything_bytes
        return share_of(self.smallest, everything) if everything else None

    def __str__(self) -> str:
        by = f" of policy {self.policy!r}" if self.policy else ""
        at = f", set by stage {self.stage}{self._place}" if self.stage is not None else ""
        remedy = f"raise the budget to at least {self.smallest} bytes"
        if self.multiple is not None:
            remedy += f' ("{self.multiple}" of what storing everything needs)'
        if self.stage is not None:
            remedy += ", or make that stage smaller"
        if self.policy not in (None, "optimal"):
            remedy += ", or use policy 'optimal'"
        least = f"the smallest feasible peak{by}: {_exactly(self.smallest)}{at}"
        told = [f"a device, of {self.devices}"] if self.devices > 1 else []
        told += [self.source] if self.source else []
        between = " " if self.devices > 1 else ", "
        whose = between + ", ".join(told) + "," if told else ""
        asked = f"a budget of {_exactly(self.budget)}{whose} is below {least}; {remedy}"
        return asked if self.floor is None else f"{asked}\n{self.floor}"

    @property
    def _place(self) -> str:
        """Where the stage that sets the smallest peak comes from, in brackets; empty where that is not known."""
        peak: Any = getattr(self.floor, "at_peak", None)
        if peak is None or peak.stage != self.stage or peak.place is None:
            return ""
        return f" ({peak.place.brief})"

    def taken_from(self, source: str) -> BudgetError:
        """Itself, of a budget that is what is free, or a share: `source` says in words of what."""
        self.source = source
        return self

    def on(self, devices: int, floor: Callable[[], Any] | None = None) -> BudgetError:
        """The same, said of one of several devices; `floor` makes what holds the smallest peak up, if that is not known."""
        return BudgetError(self.budget, self.smallest, self.stage, self.policy, devices, floor or (lambda: self.floor))

    def __reduce__(self) -> tuple[Any, ...]:
        """As data, for other processes."""
        return _restored, (type(self), self.args, {**self.__dict__, "_floor": self.floor, "_make_floor": None})


def _exactly(size: int) -> str:
    """A number of bytes, and what it is in a larger unit where that is shorter."""
    if size < 1024:
        return f"{size} byte{'' if size == 1 else 's'}"
    unit, name = (2**20, "MiB") if size >= 2**20 else (2**10, "KiB")
    return f"{size} bytes ({size / unit:.4g} {name})"


def _restored(kind: type[BudgetError], args: tuple[Any, ...], attributes: dict[str, Any]) -> BudgetError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(attributes)
    return error


def share_of(size: int, whole: int) -> str:
    """A number of bytes as a share of another one, in three digits, such that the budget it makes is no smaller.

    Example:
        >>> share_of(1000, 3000)
        '0.334x'
    """
    return f"{Context(prec=3, rounding=ROUND_CEILING).divide(Decimal(size), Decimal(whole)):f}x"


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
        self._text = (
            f"{function} takes at least {_exactly(self.smallest)}{each}, and {_exactly(limit)} were asked for: "
            f"{', '.join(taken)}{helps}"
        )

    def __str__(self) -> str:
        return self._text

    def on(self, devices: int, floor: Callable[[], Any] | None = None) -> BudgetError:
        """Itself: it is said of one device already."""
        return self
