"""The frontier of a function: the plans that no other plan beats in both bytes and time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ckptgrad.bytes import Budget
from ckptgrad.errors import BudgetError
from ckptgrad.planning.budget import budget_bytes
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.frontier import Point
from ckptgrad.planning.knee import knee_of
from ckptgrad.results.at_peak import Floor
from ckptgrad.results.shown import Shown
from ckptgrad.target.target import Target

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class Frontier(Shown):
    """The plans that no other plan beats in both bytes and estimated time.

    Attributes:
        points: one per plan, by ascending peak: the smallest feasible one first, the fastest last. Between the peaks of
            two neighbours the plan does not change.
        others: where the policies of the literature stand, and jax.checkpoint around each stage with its built-in
            policies; their bytes and seconds are estimated in the same way.
        costs: the planner's view of the chain.
        target: what the plans are for.
        devices: the number of devices over which values lie; all bytes are those of one of them.
        arguments: the bytes of each argument, which are held beside those of any plan.
        make_floor: makes what holds the smallest peak up, for errors (`results.at_peak.Floor`); None where that is unknown.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> def f(ws, x):
        ...     for w in ws:
        ...         x = jnp.tanh(x @ w)
        ...     return jnp.sum(x)
        >>> curve = cg.frontier(f, [jnp.eye(8)] * 6, jnp.ones((64, 8)))
        >>> curve.smallest_peak_bytes < curve.fastest_peak_bytes
        True
        >>> curve.at("min").seconds > curve.at(None).seconds
        True
    """

    points: tuple[Point, ...]
    others: tuple[Point, ...]
    costs: ChainCosts
    target: Target
    devices: int = 1
    arguments: Mapping[str, int] = field(default_factory=dict[str, int])
    make_floor: Callable[[], Floor] | None = field(default=None, compare=False)

    @property
    def smallest_peak_bytes(self) -> int:
        """The smallest budget that is feasible, in bytes."""
        return self.points[0].peak_bytes

    @property
    def fastest_peak_bytes(self) -> int:
        """The budget in bytes beyond which more memory saves no time."""
        return self.points[-1].peak_bytes

    @property
    def knee(self) -> Point | None:
        """The point below which fewer bytes cost disproportionately more time (`planning.knee`), if there is one."""
        return knee_of(self.points)

    def at(self, budget: Budget) -> Point:
        """The plan for a budget: bytes, "512MiB", "0.25x", "min", "auto", or None.

        Raises:
            BudgetError: the budget is below the smallest peak.
        """
        limit = budget_bytes(budget, self.costs, self.target.free_bytes)
        if limit is None:
            return self.points[-1]
        fitting = [point for point in self.points if point.peak_bytes <= limit]
        if not fitting:
            raise BudgetError(limit, self.smallest_peak_bytes, None, "optimal", self.devices, self.make_floor)
        return fitting[-1]

    def to_dict(self) -> dict[str, Any]:
        """The frontier as plain data, in bytes and seconds."""

        def rows(points: Sequence[Point]) -> list[dict[str, Any]]:
            return [{"policy": p.policy, "peak_bytes": p.peak_bytes, "seconds": p.seconds} for p in points]

        knee = self.knee
        return {
            "devices": self.devices,
            "argument_bytes": dict(self.arguments),
            "points": rows(self.points),
            "others": rows(self.others),
            "knee": rows([knee])[0] if knee else None,
        }

    def to_json(self) -> str:
        """The frontier as JSON."""
        return json.dumps(self.to_dict())

    def beside(self, *others: Point) -> Frontier:
        """The same frontier with more points to compare with, such as `validation.jax_grad_point`."""
        return replace(self, others=(*self.others, *others))

    def plot(self, ax: Axes | None = None) -> Figure:
        """Time against bytes, on the given axes or a new figure; needs matplotlib."""
        return self.figures()["frontier"](ax)
