"""What a plan is: a schedule with its predicted peak and time."""

from __future__ import annotations

import json
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ckptgrad.chain.program import Program
from ckptgrad.planning.bound import least_seconds
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.imported import FORMAT
from ckptgrad.planning.referee import Simulation
from ckptgrad.planning.schedule import Forward, Schedule
from ckptgrad.report.shown import Shown
from ckptgrad.results.timeline import Timeline, predict
from ckptgrad.rules.borrowed import borrowed_in


@dataclass(frozen=True)
class Found:
    """What a plan took: certified peak bytes beyond the arguments, and seconds of a call (None: it was not timed)."""

    peak_bytes: int
    seconds: float | None = None


@dataclass(frozen=True, repr=False)
class Plan(Shown):
    """A schedule with its predicted peak and time.

    Attributes:
        program: the chain that it is for.
        costs: the planner's view of the chain, in bytes and estimated seconds.
        schedule: the actions.
        simulation: what the referee says of the schedule.
        budget: bytes, or None.
    """

    program: Program
    costs: ChainCosts
    schedule: Schedule
    simulation: Simulation
    budget: int | None

    @property
    def peak_bytes(self) -> int:
        """Predicted bytes beyond the arguments at the worst moment: temporaries and outputs."""
        return self.simulation.peak

    @property
    def temporary_bytes(self) -> int:
        """Predicted bytes of temporaries alone."""
        return self.peak_bytes - self.program.output_bytes - self.program.gradient_bytes

    @property
    def seconds(self) -> float:
        """Estimated time; only ratios between plans mean much."""
        return self.simulation.time

    @property
    def least_seconds(self) -> float:
        """A lower bound on the estimated time of every schedule within the budget (`planning.bound`)."""
        return least_seconds(self.costs, self.budget)

    @property
    def choices(self) -> list[str]:
        """For each stage the save option that its backward runs from."""
        last: dict[int, str] = {}
        for action in self.schedule:
            if isinstance(action, Forward) and action.keep is not None:
                last[action.stage] = self.costs.stages[action.stage].options[action.keep].name
        return [last.get(i, "-") for i in range(len(self.costs))]

    @property
    def found(self) -> Found | None:
        """What this plan took when it was last compiled in this process, and timed by `Certified.compare`; else None."""
        return self._known.get(self._key)

    def note(self, found: Found) -> None:
        """Remember what the plan took, for other plans of the same stages and schedule too."""
        known = self._known
        known[self._key] = found
        while len(known) > _MOST_FOUND:
            known.popitem(last=False)

    @property
    def _known(self) -> OrderedDict[tuple[Any, ...], Found]:
        """What plans with the same first stage took: it is known as long as that is."""
        stages = self.program.stages
        return stages[0].kind.attached.setdefault("found", OrderedDict()) if stages else OrderedDict()

    @property
    def _key(self) -> tuple[Any, ...]:
        return (*(weakref.ref(stage.kind) for stage in self.program.stages), self.schedule)

    @property
    def borrowed(self) -> list[str]:
        """The primitives that are differentiated by JAX's own rule (`use_jax_rule`)."""
        return borrowed_in(self.program.graph)

    def timeline(self, name: str = "plan") -> Timeline:
        """What will be held over its course, as predicted; `ckptgrad.timeline` observes it too."""
        return predict(name, self.program, self.costs, self.schedule, self.budget)

    def figures(self) -> dict[str, Callable[[], Any]]:
        """The schedule, and the costs of the stages."""
        return {"schedule": self.plot, "stage costs": self.plot_costs}

    def diagram(self) -> str:
        """The schedule as a space-time diagram in letters, for terminals."""
        from ckptgrad.report.schedule import schedule_chart
        from ckptgrad.report.text import to_text

        return to_text([schedule_chart(self.schedule, len(self.costs))])

    def plot(self, ax: Any = None) -> Any:
        """The schedule as a space-time diagram (`report.plots.schedule`); needs matplotlib."""
        from ckptgrad.report.plots.schedule import plot_schedule

        return plot_schedule(self, ax)

    def plot_costs(self) -> Any:
        """What each stage costs, in bytes and seconds (`report.plots.costs`); needs matplotlib."""
        from ckptgrad.report.plots.costs import plot_costs

        return plot_costs(self)

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data."""
        return {
            "format": FORMAT,
            "policy": self.schedule.policy,
            "budget_bytes": self.budget,
            "peak_bytes": self.peak_bytes,
            "temporary_bytes": self.temporary_bytes,
            "output_bytes": self.program.output_bytes,
            "gradient_bytes": self.program.gradient_bytes,
            "estimated_seconds": self.seconds,
            "found_peak_bytes": self.found and self.found.peak_bytes,
            "found_seconds": self.found and self.found.seconds,
            "stages": len(self.costs),
            "distinct_stages": len(self.program.kinds),
            "recomputed_stages": self.simulation.recomputations,
            "choices": self.choices,
            "options": [[option.name for option in stage.options] for stage in self.costs.stages],
            "lower_bound_seconds": self.least_seconds,
            "borrowed_rules": self.borrowed,
            "schedule": [str(a) for a in self.schedule],
        }

    def to_json(self) -> str:
        """The plan as JSON, for `load_plan` and other programs."""
        return json.dumps(self.to_dict())

    def report_parts(self) -> list[Any]:
        """The tables that it prints."""
        from ckptgrad.report.tables import plan_parts

        return plan_parts(self)


# Plans by stages and schedule, for each first stage.
_MOST_FOUND = 64
