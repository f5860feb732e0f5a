"""A gradient that runs in microbatches: how many, by which plan, within which budget, and what is compiled.

Each part is a call of its own, of the part's loss, which the door for gradients plans; what it sums is held beside that.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from ckptgrad.chain.cutting import Cutting, Ways
from ckptgrad.costs.source import program_costs
from ckptgrad.doors.compiling import Cut
from ckptgrad.doors.microbatches import Parts, counts_of, parts_of
from ckptgrad.doors.tracing import TracedChain
from ckptgrad.errors import BudgetError
from ckptgrad.planner import limit_bytes
from ckptgrad.request import Request
from ckptgrad.results.plan import Plan

# The first entry of a part, as it is traced.
_FIRST = jax.ShapeDtypeStruct((), np.int32)


@dataclass(frozen=True)
class Microbatching:
    """How calls are computed in parts.

    Attributes:
        make: the door for gradients, a function of what it differentiates and a request.
        count: the number of parts, "auto" or None.
    """

    make: Callable[..., Any]
    count: int | str | None

    def of(self, door: Any, args: Any, kwargs: Any) -> Microbatched | None:
        """A call of a door in parts; None where it is computed whole.

        Raises:
            OptionError: it cannot be computed in as many parts as asked for.
        """
        if self.count is None or self.count == 1:
            return None
        chain = door.trace(*args, **kwargs)
        if isinstance(self.count, int):
            return Microbatched(self.make, door, parts_of(chain, self.count))
        return self._best(door, chain, args, kwargs)

    def _best(self, door: Any, chain: TracedChain, args: Any, kwargs: Any) -> Microbatched | None:
        """The number of parts of which the plan is best by estimates, the fewest of equally good ones; None for one part."""
        if door.request.budget is None:
            return None
        estimated = replace(door.request, microbatches=None, costs="estimate")
        found: list[tuple[Plan, Microbatched | None]] = []
        with suppress(BudgetError):
            found.append((self.make(door.fun, estimated, with_value=True).plan(*args, **kwargs), None))
        for count in counts_of(chain):
            batches = Microbatched(self.make, door, parts_of(chain, count))
            with suppress(BudgetError):
                found.append((batches.plan(costs="estimate"), batches))
        if not found:
            return None  # The whole call is refused, with the fewest bytes that it needs.
        least = door.request.asks_for_least
        return min(found, key=lambda pair: pair[0].peak_bytes if least else pair[0].seconds)[1]


@dataclass(frozen=True)
class Microbatched:
    """One call in parts."""

    make: Callable[..., Any]
    door: Any
    parts: Parts

    def run(self) -> Any:
        """What the caller gets."""
        return self._run(self._door(**self._budget()), self.parts, self.door)

    def plan(self, **options: Any) -> Plan:
        """The plan of one part, which says how many there are."""
        return self.described(self._door(**self._budget(), **options).plan(_FIRST, *self.parts.chain.call.leaves))

    def described(self, plan: Plan) -> Plan:
        """A plan of one part as one of all."""
        return replace(plan, microbatches=self.parts.described())

    def cuts(self, make: Callable[[], Any]) -> Ways[Cut]:
        """The ways to cut a part, each with how a plan of it becomes a jitted function of the whole call.

        Args:
            make: the door of the whole call.
        """

        def cut(inner: TracedChain) -> Cut:
            def jitted(plan: Plan) -> Any:
                def run(*args: Any, **kwargs: Any) -> Any:
                    door = make()
                    again = Microbatched(self.make, door, parts_of(door.trace(*args, **kwargs), self.parts.count))
                    of_part = again._door(inner.cutting)
                    return self._run(lambda *xs: of_part.run_plan(of_part.trace(*xs), plan), again.parts, door)

                return jax.jit(run)

            return Cut(inner.program, jitted)

        return self._door().chains(_FIRST, *self.parts.chain.call.leaves).map(cut)

    def _run(self, gradient: Callable[..., Any], parts: Parts, door: Any) -> Any:
        value, gradients = parts.run(gradient, parts.chain.call.leaves)
        return door.assembled(parts.chain, gradients, [value])

    def _door(self, cutting: Cutting = Cutting.FINEST, **options: Any) -> Any:
        """The value and gradient of one part, of its first entry and the leaves of the call."""
        of_part = {"argnums": self.parts.argnums, "microbatches": None, "shardings": None, "allow_int": True, **options}
        return self.make(self.parts.part, replace(self.door.request, **of_part), with_value=True, cutting=cutting)

    def _budget(self) -> dict[str, Any]:
        """The budget of one part: what the sums of all leave.

        Raises:
            BudgetError: they leave nothing.
        """
        request: Request = self.door.request
        program = self.parts.chain.program
        if request.budget is None or request.asks_for_least:
            return {}
        limit = limit_bytes(program, request, program_costs(program, "estimate"))
        assert limit is not None
        carried = self.parts.described().carried_bytes
        if limit <= carried:
            raise BudgetError(limit, carried + 1, None, str(request.policy))
        return {"budget": limit - carried}
