"""The way back along a loop from checkpoints, group by group.

From the last checkpoint before a group it runs forward, storing further checkpoints on the way where slots are free, then
through the group once more, storing what each step's backward reads, and back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax.numpy as jnp
from jax import lax

from ckptgrad.graph.graph import Variable
from ckptgrad.loops import binomial_steps
from ckptgrad.loops.loop import Loop
from ckptgrad.loops.replay import Replay
from ckptgrad.loops.stacks import down_from, put, put_each, stack_like, take, take_each, up_to, zeros_stack
from ckptgrad.loops.weight_sums import WeightSums
from ckptgrad.rules.decorators import instantiate

# Gradients while they are made: of carried values, sums of those of constants, stacks of those of stacked inputs.
Gradients: TypeAlias = tuple[list[Any], list[Any], list[Any]]


@dataclass(frozen=True)
class _Stacks:
    """What is stored of the steps of a group.

    Attributes:
        private: the values of `Replay.private`.
        entering: the carried values of `_Reads.entering`.
        through: those of `_Reads.through`, with one more entry for what leaves the last step.
        leaving: those of `_Reads.leaving`.
    """

    private: list[Any]
    entering: list[Any]
    through: list[Any]
    leaving: list[Any]

    def parts(self) -> tuple[list[Any], ...]:
        return self.private, self.entering, self.through, self.leaving


class _Reads:
    """Positions of the carried values that a step's backward reads.

    Attributes:
        constant: of those that no step changes, which need no stack.
        entering: of those that are read as they enter the step only.
        leaving: as they leave it only.
        through: as both: what leaves one step enters the next.
    """

    def __init__(self, replay: Replay) -> None:
        enter, leave, moving = replay.carry_reads, replay.next_reads, replay.body.moving
        self.constant = [i for i in enter if i not in moving]
        self.entering = [i for i in enter if i not in leave and i in moving]
        self.through = [i for i in enter if i in leave and i in moving]
        self.leaving = [i for i in leave if i not in enter]


class Walk:
    """The way back along a loop.

    Args:
        replay: a step, and what a group stores of it.
        slots: checkpoints that are held at once.
        group: steps in a group.
        weight_sums: the gradients of constants that are summed group by group, if any.
        loop: the loop.
        operands: of the operation.
        ct_ys: cotangents of active stacked outputs.
        buffers: the entry buffers at the end of the loop.
    """

    def __init__(
        self,
        replay: Replay,
        slots: int,
        group: int,
        weight_sums: WeightSums | None,
        *,
        loop: Loop,
        operands: Sequence[Any],
        ct_ys: Sequence[Any],
        buffers: Sequence[Any],
    ) -> None:
        self.replay, self.slots, self.group, self.weight_sums = replay, slots, group, weight_sums
        self.loop, self.ct_ys = loop, ct_ys
        self.consts, self.init, self.xs = loop.divide(operands)
        self._reads = _Reads(replay)
        # Entry buffers: at the end, and at the start.
        for buffer, at_end in zip(replay.body.entry_buffers, buffers, strict=True):
            self.init[buffer.position] = at_end, self.init[buffer.position]

    @property
    def _mean_count(self) -> float | None:
        """The steps in a group on average; None where the length of the loop is not known."""
        length = self.loop.length
        return None if length is None else length / -(-length // self.group)

    def stacked_gradients(self) -> list[Any]:
        """Zeros for the gradients of stacked inputs."""
        body = self.replay.body
        first = self.loop.offset + body.num_consts + body.num_carry
        return [instantiate(None, self.loop.operand_avals[first + i]) for i in body.active_xs]

    def state(self, slots: Sequence[Any], slot: Any) -> list[Any]:
        """The carried values at a checkpoint."""
        return self.state_of(take_each(slots, slot))

    def state_of(self, checkpoint: Sequence[Any]) -> list[Any]:
        """The carried values, from those that move."""
        carry = list(self.init)
        for i, value in zip(self.replay.body.moving, checkpoint, strict=True):
            carry[i] = value
        return carry

    def advance(self, carry: Sequence[Any], first: Any, end: Any, trips: float | None = None) -> list[Any]:
        """The carried values at step `end`, from those at step `first`; `trips`: how many steps that is on average."""

        def run(i: Any, carry: list[Any]) -> list[Any]:
            return self.replay.advance(self.consts, carry, self.loop.inputs_at(self.xs, i))

        return up_to(first, end, run, list(carry), trips)

    def down(
        self,
        slots: list[Any],
        positions: Any,
        top: Any,
        groups: Any,
        length: Any,
        gradients: Gradients,
        order: Any = None,
        again: float | None = None,
    ) -> Gradients:
        """Back from the last group to the first.

        Args:
            slots: stacks of states.
            positions: the group at which each checkpoint is, in order.
            top: the number of the last checkpoint.
            groups, length: the numbers of groups and of steps.
            gradients: at the end of the loop.
            order: the slot in which each checkpoint is; None: in order.
            again: how many steps run again to the start of a group, on average over the groups; None where not known.
        """

        def where(k: Any) -> Any:
            return k if order is None else take(order, k)

        def one_group(j: Any, state: Any) -> Any:
            slots, positions, top, gradients = state
            last = groups - 1 - j
            slots, positions, top, carry = self._climb(slots, positions, top, last, where, again)
            gradients = self.through_group(carry, last, length, gradients)
            top = jnp.where(take(positions, top) == last, jnp.maximum(top - 1, 0), top)
            return slots, positions, top, gradients

        state = slots, positions, jnp.asarray(top, jnp.int32), gradients
        return up_to(0, groups, one_group, state)[3]

    def _climb(
        self, slots: list[Any], positions: Any, top: Any, last: Any, where: Any, again: float | None
    ) -> tuple[Any, Any, Any, list[Any]]:
        """Forward from the last checkpoint to the start of group `last`; further checkpoints take the free slots."""
        moving = self.replay.body.moving

        def go_on(state: Any) -> Any:
            slots, positions, top, at, carry = state
            # Without a free slot it goes the rest of the way in one run, and does not store the state.
            free = top < self.slots - 1
            far = at + binomial_steps.advance(last + 1 - at, self.slots - top, self.slots)
            far = jnp.where(free, far, last)
            # Stated of all runs to a group together: in how many it goes is not.
            carry = self.advance(carry, at * self.group, far * self.group, again)
            top = jnp.where(free, top + 1, top)
            held = take_each(slots, where(top))
            stored = [jnp.where(free, carry[i], h) for i, h in zip(moving, held, strict=True)]
            slots = put_each(slots, stored, where(top))
            return slots, put(positions, jnp.where(free, far, take(positions, top)), top), top, far, carry

        start = slots, positions, top, take(positions, top), self.state(slots, where(top))
        slots, positions, top, _, carry = lax.while_loop(lambda s: s[3] < last, go_on, start)
        return slots, positions, top, carry

    def through_group(self, carry: Sequence[Any], number: Any, length: Any, gradients: Gradients) -> Gradients:
        """Forward through a group from the state at its start, storing what its backward reads; then back.

        Args:
            carry: the carried values at its start.
            number: of the group.
            length: of the loop.
            gradients: at the end of the group.
        """
        first = number * self.group
        count = jnp.minimum(self.group, length - first)
        # Stacks that are multiplied have equal rows: one more than there are steps, if some need that.
        rows = self.group + bool(self._reads.through and self.weight_sums)
        carry, stacks = self._store_group(list(carry), first, count, rows)
        return self._back_through_group(carry, stacks, first, count, rows, gradients)

    def _store_group(self, carry: list[Any], first: Any, count: Any, rows: int) -> tuple[list[Any], _Stacks]:
        replay, loop, reads = self.replay, self.loop, self._reads

        def forth(i: Any, state: Any) -> Any:
            carry, private, entering, through, leaving = state
            entering = put_each(entering, [carry[k] for k in reads.entering], i)
            carry, values = replay.keep(self.consts, carry, loop.inputs_at(self.xs, first + i))
            private = put_each(private, values, i)
            through = put_each(through, [carry[k] for k in reads.through], i + 1)
            leaving = put_each(leaving, [carry[k] for k in reads.leaving], i)
            return carry, private, entering, through, leaving

        room = _Stacks(
            [zeros_stack(v.aval, rows) for v in replay.private],
            [stack_like(carry[i], rows) for i in reads.entering],
            [stack_like(carry[i], self.group + 1) for i in reads.through],
            [stack_like(carry[i], self.group) for i in reads.leaving],
        )
        # The last step runs only if something that it makes is read.
        last_runs = bool(replay.private or reads.through or reads.leaving)
        steps = count if last_runs else count - 1
        trips = None if self._mean_count is None else self._mean_count - (not last_runs)
        carry, *parts = up_to(0, steps, forth, (carry, *room.parts()), trips)
        stacks = _Stacks(*parts)
        if not last_runs:
            entering = put_each(stacks.entering, [carry[k] for k in reads.entering], count - 1)
            stacks = _Stacks(stacks.private, entering, stacks.through, stacks.leaving)
        return carry, stacks

    def _back_through_group(
        self, carry: list[Any], stacks: _Stacks, first: Any, count: Any, rows: int, gradients: Gradients
    ) -> Gradients:
        replay, loop, weight_sums = self.replay, self.loop, self.weight_sums

        def back(i: Any, state: Any) -> Any:
            (ct, sums, d_xs), waiting = state
            start = self._start_of_backward(carry, stacks, first, i, ct, sums)
            if weight_sums is None:
                d_consts, ct, d_inputs = replay.back(start)
            else:
                step_gradients, values = weight_sums.back(start)
                d_consts, ct, d_inputs = replay.divide(step_gradients)
                waiting = put_each(waiting, values, i)
            sums = replay.body.added(sums, d_consts)
            return (ct, sums, loop.put_at(d_xs, d_inputs, first + i)), waiting

        room = [] if weight_sums is None else weight_sums.room(rows)
        (ct, sums, d_xs), waiting = down_from(count, 0, back, (gradients, room), self._mean_count)
        if weight_sums is not None:
            positions = (*self._reads.entering, *self._reads.through)
            by_position = dict(zip(positions, (*stacks.entering, *stacks.through), strict=True))
            sums = weight_sums.add(sums, waiting, weight_sums.stored(by_position, stacks.private))
        return ct, sums, d_xs

    def _start_of_backward(
        self, carry: Sequence[Any], stacks: _Stacks, first: Any, i: Any, ct: Sequence[Any], sums: Sequence[Any]
    ) -> dict[Variable, Any]:
        """What the backward of step i of a group starts from, by variable."""
        replay, reads = self.replay, self._reads
        arriving = dict(zip(reads.entering, take_each(stacks.entering, i), strict=True))
        arriving.update(zip(reads.through, take_each(stacks.through, i), strict=True))
        arriving.update((k, carry[k]) for k in reads.constant)
        leaving = dict(zip(reads.leaving, take_each(stacks.leaving, i), strict=True))
        leaving.update(zip(reads.through, take_each(stacks.through, i + 1), strict=True))
        return replay.backward_env(
            self.consts,
            [arriving[k] for k in replay.carry_reads],
            [leaving[k] for k in replay.next_reads],
            take_each(stacks.private, i),
            self.loop.inputs_at([self.xs[k] for k in replay.x_reads], first + i),
            replay.body.cotangents(ct, self.loop.inputs_at(self.ct_ys, first + i), sums),
        )
