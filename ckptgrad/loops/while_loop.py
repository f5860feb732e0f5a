"""`while` taken apart: a loop whose number of steps is known when it has run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jax import lax

from ckptgrad.graph.graph import Graph
from ckptgrad.loops.body import Kept, Step
from ckptgrad.loops.loop import Loop
from ckptgrad.loops.reversals.online import Online
from ckptgrad.rules.subgraphs import typed
from ckptgrad.stage.partition import partition

# Without a plan: the states that are held besides those of one group of steps.
SLOTS, GROUP = 32, 16


@dataclass(frozen=True, eq=False, kw_only=True)
class While(Loop):
    """A loop of unknown length, without stacked inputs or outputs.

    Attributes:
        predicate: whether it goes on, from its constants, which come first among the operands, and the carried values.
    """

    predicate: Graph

    def goes_on(self, operands: Sequence[Any], carry: Sequence[Any]) -> Any:
        """Whether there is another step."""
        return self.predicate(*operands[: self.offset], *carry)[0]

    def definition(self, *operands: Any) -> list[Any]:
        """The loop itself."""
        consts, init, _ = self.divide(operands)

        def run(carry):
            return typed(self.step.body(*consts, *carry), self.step.carry_avals)

        return lax.while_loop(lambda carry: self.goes_on(operands, carry), run, init)

    def plan_of(self, step: Step) -> Online:
        """From so many checkpoints, with nothing but states kept."""
        return Online(Kept(step, partition(step.joint, ())), SLOTS, GROUP)

    def inputs_at(self, xs: Sequence[Any], i: Any) -> list[Any]:
        """The stacked inputs of a step: none."""
        return []

    def put_at(self, stacks: Sequence[Any], values: Sequence[Any], i: Any) -> list[Any]:
        """Stacked values with those of a step replaced: none."""
        return []
