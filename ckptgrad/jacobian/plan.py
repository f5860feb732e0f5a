"""How the Jacobian of a graph will be computed: its segments, their bracketing, and the multiplications."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ckptgrad.jacobian.bracketing import Bracket, best_bracket
from ckptgrad.jacobian.segments import Segment, size_of

Mode = Literal["auto", "forward", "reverse"]
MODES: tuple[Mode, ...] = ("auto", "forward", "reverse")


@dataclass(frozen=True)
class JacobianPlan:
    """How a Jacobian will be computed, and what that costs.

    Attributes:
        bracket: the product; `str(bracket)` writes it with the latest stage on the left.
        sizes: the numbers at the boundaries between the stages.
        forward, reverse: the multiplications of plain forward and plain reverse mode.
    """

    bracket: Bracket
    sizes: tuple[int, ...]
    forward: int
    reverse: int

    @property
    def multiplications(self) -> int:
        return self.bracket.multiplications

    def __str__(self) -> str:
        return (
            f"{self.bracket}\nboundaries: {' '.join(map(str, self.sizes))}\n"
            f"multiplications: {self.multiplications:,}; plain forward {self.forward:,}, plain reverse {self.reverse:,}"
        )


def plan_product(segments: Sequence[Segment], mode: Mode) -> JacobianPlan:
    """The bracketing with the fewest multiplications, or that of one mode alone."""
    if not segments:
        return JacobianPlan(Bracket(0, -1, "forward", 0), (0,), 0, 0)
    sizes = (size_of(segments[0].inside), *(size_of(s.outside) for s in segments))
    costs = [s.multiplications for s in segments]
    last = len(segments) - 1
    forward = Bracket(0, last, "forward", sizes[0] * sum(costs))
    reverse = Bracket(0, last, "reverse", sizes[-1] * sum(costs))
    bracket = {"forward": forward, "reverse": reverse}.get(mode) or best_bracket(sizes, costs)
    return JacobianPlan(bracket, sizes, forward.multiplications, reverse.multiplications)
