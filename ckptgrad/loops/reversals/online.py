"""A loop whose length is not known before it has run, reversed from checkpoints.

While the loop runs, checkpoints are placed so that at every length no step has to run again more often than the number of
checkpoints requires (Wang, Moin and Iaccarino 2009, algorithm 1; each has a level, and one is dispensable once a later one
has a higher level).  When the length is known the way back is that of `checkpoints`: binomial between those that are there,
with the slots that become free.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray

from ckptgrad.graph.graph import Variable
from ckptgrad.graph.naming import counted
from ckptgrad.loops.reversals.checkpoints import FromCheckpoints
from ckptgrad.loops.reversals.reversal import reversal
from ckptgrad.loops.stacks import put, put_each, stack_like
from ckptgrad.loops.while_loop import While

_ENDLESS = 2**30


class Placed(NamedTuple):
    """Where checkpoints are, in order of their positions.

    Attributes:
        positions: the group at whose start each is.
        levels: how expensive each is to give up.
        order: the slot in which each is; the free slots follow.
        count: how many there are.
    """

    positions: Any
    levels: Any
    order: Any
    count: Any

    @classmethod
    def none(cls, slots: int) -> Placed:
        zeros = jnp.zeros(slots, jnp.int32)
        return cls(zeros, zeros, jnp.arange(slots, dtype=jnp.int32), jnp.int32(0))

    def with_next(self, position: Any) -> tuple[Placed, Any]:
        """With one more, further on than all others; and its slot.  If no slot is free, another one is given up for it."""
        slots = len(self.order)
        numbers = jnp.arange(slots, dtype=jnp.int32)
        present = numbers < self.count
        levels = jnp.where(present, self.levels, -1)
        highest = lax.cummax(levels, reverse=True)
        dispensable = present & (highest > levels)
        last = slots - 1
        any_ = jnp.any(dispensable)
        given_up = jnp.where(any_, jnp.max(jnp.where(dispensable, numbers, 0)), last)
        full = self.count == slots
        level = jnp.where(full & ~any_, self.levels[last] + 1, 0)
        level = jnp.where(self.count == 0, _ENDLESS, level)
        at = jnp.where(full, last, self.count)
        moved = jnp.where(full & (numbers >= given_up), jnp.minimum(numbers + 1, last), numbers)
        slot = jnp.where(full, self.order[given_up], self.order[at])
        placed = Placed(
            put(self.positions[moved], position, at),
            put(self.levels[moved], level, at),
            put(self.order[moved], slot, at),
            at + 1,
        )
        return placed, slot


@reversal(
    "online",
    loops=(While,),
    policies=("revolve",),
    entry_buffers=True,
    weight_sums=True,
    references=(
        "Wang, Moin and Iaccarino 2009, Minimal repetition dynamic checkpointing algorithm for unsteady adjoint calculation",
    ),
)
class Online(FromCheckpoints[While]):
    """Checkpoints of a loop of unknown length.

    Laws: at every length no group runs again more often than the number of checkpoints requires.  Stored are
    `slots` states and where they are, the number of steps, and entry buffers: nothing that grows with the length.
    """

    @classmethod
    def _policies(cls, two_levels: bool, group: int) -> tuple[str, ...]:
        return ("revolve",) if group == 1 else ()

    def label(self, loop: While) -> str:
        """The plan in a few words."""
        return f"{counted(self.slots, 'checkpoint')}, {counted(self.group, 'step')}"

    def stored(self, loop: While) -> list[Variable]:
        """New variables for what is stored: states, where they are, how many, the number of steps, and entry buffers."""
        types = [ShapedArray(shape, jnp.dtype(jnp.int32)) for shape in ((self.slots,), (self.slots,), (), ())]
        return [*self.stored_states(), *map(Variable, types), *self.stored_buffers()]

    def forward(self, loop: While, operands: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Results of the loop, and the checkpoints."""
        replay, body = self.replay, self.replay.body
        consts, init, _ = loop.divide(operands)
        slots = [stack_like(init[i], self.slots) for i in body.moving]

        def run(state: Any) -> Any:
            i, carry = state
            return i + 1, replay.first(consts, carry, [])[0]

        def through_group(state: Any) -> Any:
            i, carry, slots, placed = state
            number = i // self.group
            if self.slots > 1:
                placed, slot = placed.with_next(number)
                slots = put_each(slots, [carry[j] for j in body.moving], slot)
            end = i + self.group
            i, carry = lax.while_loop(lambda s: (s[0] < end) & loop.goes_on(operands, s[1]), run, (i, carry))
            return i, carry, slots, placed

        placed = Placed.none(self.slots)
        if self.slots == 1:
            placed = placed._replace(count=jnp.int32(1))
        start = (jnp.int32(0), init, slots, placed)
        steps, carry, slots, placed = lax.while_loop(lambda s: loop.goes_on(operands, s[1]), through_group, start)
        buffers = [carry[b.position] for b in body.entry_buffers]
        return list(carry), [*slots, placed.positions, placed.order, placed.count, steps, *buffers]

    def backward(
        self, loop: While, operands: Sequence[Any], stored: Sequence[Any], cotangents: Sequence[Any | None]
    ) -> list[Any | None]:
        """Gradients of the operands."""
        body = self.replay.body
        moving = len(body.moving)
        slots, (positions, order, count, steps, *buffers) = list(stored[:moving]), stored[moving:]
        walk = self.walk(loop, operands, [], buffers)
        ct_carry, _ = loop.cotangents(cotangents)
        groups = (steps + (self.group - 1)) // self.group
        start = ct_carry, body.sums(loop.accumulate), []
        d_init, sums, _ = walk.down(slots, positions, count - 1, groups, steps, start, order)
        return loop.gradients(sums, d_init, [])
