"""The plan of a whole step: one plan for each call inside it whose budget is "fit"."""

from __future__ import annotations

from dataclasses import dataclass

from ckptgrad.results.plan import Plan


@dataclass(frozen=True)
class StepPlan:
    """Plans of calls that one program holds.

    Attributes:
        parts: one for each call, in the order in which they are traced; at least one.
        around: predicted bytes of the program beyond its arguments and beyond those of its largest call.
    """

    parts: tuple[Plan, ...]
    around: int = 0

    @property
    def fenced(self) -> bool:
        """Whether the stages of its calls are isolated from each other."""
        return all(plan.fenced for plan in self.parts)

    @property
    def called(self) -> bool:
        """Whether they are so by calls."""
        return any(plan.called for plan in self.parts)

    @property
    def peak_bytes(self) -> int:
        """Predicted bytes beyond the arguments of the step, for calls that run one after another."""
        return self.around + max(plan.peak_bytes for plan in self.parts)

    @property
    def seconds(self) -> float:
        """Estimated seconds of all calls."""
        return sum(plan.seconds for plan in self.parts)

    @property
    def least_seconds(self) -> float:
        """A lower bound on the estimated seconds of all calls within their bytes."""
        return sum(plan.least_seconds for plan in self.parts)
