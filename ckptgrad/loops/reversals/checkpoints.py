"""A loop reversed from a stack of checkpoints.

The steps are divided into groups.  Checkpoints are states at the starts of groups.  The backward goes from the last group
to the first: from the last checkpoint before the group it runs forward, storing further checkpoints on the way where
slots are free, then through the group once more, storing what each step's backward reads (`dense`), and back.  With as
many slots as groups that is two nested loops, and every step runs forward twice; with fewer it is binomial checkpointing
(Griewank and Walther 2000) of the groups.  All buffers are reused; the program does not grow with the number of steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from ckptgrad.loops.body import Kept
from ckptgrad.loops.reversals import binomial
from ckptgrad.loops.scan import Scan
from ckptgrad.loops.stacks import down_from, put, put_each, stack_like, stacked, take, take_each, up_to, zeros_stack
from ckptgrad.loops.weight_sums import Deferral
from ckptgrad.planning.policies.revolve import advance
from ckptgrad.rules.decorators import instantiate

# Gradients while they are made: of carried values, sums of those of constants, stacks of those of stacked inputs.
Gradients = tuple[list[Any], list[Any], list[Any]]


@dataclass(frozen=True, eq=False)
class Checkpoints:
    """A loop reversed from a stack of checkpoints.

    Attributes:
        kept: the step, and what a group stores of it.
        slots: checkpoints that are held at once, the initial state counted.
        group: steps in a group.
        deferral: the gradients of constants that are summed group by group, if any.
    """

    kept: Kept
    slots: int
    group: int
    deferral: Deferral | None = None

    def state_avals(self) -> list[Any]:
        """The types of the stacks of states."""
        step = self.kept.step
        return [stacked(step.carry_avals[i], self.slots) for i in step.moving]

    def buffer_avals(self) -> list[Any]:
        """The types of the written buffers, which are stored as they are at the end."""
        step = self.kept.step
        return [step.carry_avals[w.position] for w in step.written]


@dataclass(frozen=True, eq=False)
class Stack(Checkpoints):
    """Checkpoints of a loop of known length."""

    def groups(self, loop: Scan) -> int:
        """How many groups there are."""
        return -(-loop.length // self.group)

    def starts(self, loop: Scan) -> list[int]:
        """The groups at whose starts the first pass stores checkpoints."""
        found, groups = [0], self.groups(loop)
        while len(found) < self.slots and groups - found[-1] > 1:
            found.append(found[-1] + advance(groups - found[-1], self.slots - len(found) + 1))
        return found

    def stored_avals(self, loop: Scan) -> list[Any]:
        """The types of what is stored."""
        return [*self.state_avals(), *self.buffer_avals()]

    def forward(self, loop: Scan, operands: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Results of the loop, and the checkpoints."""
        kept, step = self.kept, self.kept.step
        consts, init, xs = loop.divide(operands)
        starts = self.starts(loop)
        ends = jnp.asarray([*(p * self.group for p in starts[1:]), loop.length], np.int32)
        ys = [instantiate(None, a) for a in loop.out_avals[step.num_carry :]]
        slots = [stack_like(init[i], self.slots) for i in step.moving]

        def run(i, state):
            carry, ys = state
            carry, found = kept.first(consts, carry, loop.inputs_at(xs, i))
            return carry, loop.put_at(ys, found, i)

        def part(k, state):
            i, carry, ys, slots = state
            slots = put_each(slots, [carry[j] for j in step.moving], k)
            end = take(ends, k)
            carry, ys = up_to(i, end, run, (carry, ys))
            return end, carry, ys, slots

        _, carry, ys, slots = up_to(0, len(starts), part, (jnp.int32(0), init, ys, slots))
        return [*carry, *ys], [*slots, *(carry[w.position] for w in step.written)]

    def backward(self, loop: Scan, operands: Sequence[Any], stored: Sequence[Any], given: Sequence[Any]) -> list[Any]:
        """Gradients of the operands, None where nothing flows; arguments as of `StoreAll.backward`."""
        ct_carry, ct_ys = loop.cotangents(given)
        groups, starts = self.groups(loop), self.starts(loop)
        slots = list(stored[: len(self.kept.step.moving)])
        walk = Walk(self, loop, operands, ct_ys, stored[len(slots) :])
        start = ct_carry, self.kept.step.sums(loop.accumulate), walk.stacked_gradients()
        if len(starts) == groups:

            def back(k, gradients):
                return walk.through_group(walk.state(slots, k), k, jnp.int32(loop.length), gradients)

            found = down_from(groups, 0, back, start)
        else:
            positions = jnp.asarray([*starts, *[0] * (self.slots - len(starts))], np.int32)
            found = walk.down(slots, positions, len(starts) - 1, groups, jnp.int32(loop.length), start)
        d_init, sums, d_xs = found
        return loop.gradients(sums, d_init, d_xs)


class Walk:
    """The way back along a loop."""

    def __init__(self, plan: Checkpoints, loop: Any, operands: Sequence[Any], ct_ys: Sequence[Any], buffers: Sequence[Any]):
        self.kept, self.slots, self.group, self.deferral = plan.kept, plan.slots, plan.group, plan.deferral
        self.loop, self.ct_ys = loop, ct_ys
        self.consts, self.init, self.xs = loop.divide(operands)
        # Written buffers: at the end, and at the start.
        for written, at_end in zip(self.kept.step.written, buffers, strict=True):
            self.init[written.position] = at_end, self.init[written.position]

    def stacked_gradients(self) -> list[Any]:
        """Zeros for the gradients of stacked inputs."""
        step = self.kept.step
        offset = step.num_consts + step.num_carry
        return [instantiate(None, self.loop.operand_avals[offset + i]) for i in step.active_xs]

    def state(self, slots: Sequence[Any], slot: Any) -> list[Any]:
        """What is carried at a checkpoint."""
        carry = list(self.init)
        for i, value in zip(self.kept.step.moving, take_each(slots, slot), strict=True):
            carry[i] = value
        return carry

    def advance(self, carry: Sequence[Any], first: Any, end: Any) -> list[Any]:
        """What is carried so many steps later."""

        def run(i, carry):
            return self.kept.advance(self.consts, carry, self.loop.inputs_at(self.xs, i))

        return up_to(first, end, run, list(carry))

    def down(
        self,
        slots: list[Any],
        positions: Any,
        top: Any,
        groups: Any,
        length: Any,
        gradients: Gradients,
        order: Any = None,
    ) -> Gradients:
        """Back from the last group to the first.

        Args:
            slots: stacks of states.
            positions: at which group each checkpoint is, in order.
            top: the number of the last one.
            groups, length: how many groups and steps there are.
            gradients: at the end of the loop.
            order: in which slot each checkpoint is; None: in order.
        """
        moving = self.kept.step.moving

        def where(k):
            return k if order is None else take(order, k)

        def one_group(j, state):
            slots, positions, top, gradients = state
            last = groups - 1 - j

            def go_on(state):
                slots, positions, top, at, carry = state
                # Without a free slot the rest of the way is gone at once, and the state not stored.
                free = top < self.slots - 1
                far = at + binomial.advance(last + 1 - at, self.slots - top, self.slots)
                far = jnp.where(free, far, last)
                carry = self.advance(carry, at * self.group, far * self.group)
                top = jnp.where(free, top + 1, top)
                held = take_each(slots, where(top))
                stored = [jnp.where(free, carry[i], h) for i, h in zip(moving, held, strict=True)]
                slots = put_each(slots, stored, where(top))
                return slots, put(positions, jnp.where(free, far, take(positions, top)), top), top, far, carry

            start = slots, positions, top, take(positions, top), self.state(slots, where(top))
            slots, positions, top, _, carry = lax.while_loop(lambda s: s[3] < last, go_on, start)
            gradients = self.through_group(carry, last, length, gradients)
            top = jnp.where(take(positions, top) == last, jnp.maximum(top - 1, 0), top)
            return slots, positions, top, gradients

        state = slots, positions, jnp.asarray(top, jnp.int32), gradients
        return up_to(0, groups, one_group, state)[3]

    def through_group(self, carry: Sequence[Any], number: Any, length: Any, gradients: Gradients) -> Gradients:
        """Forward through a group from the state at its start, storing what its backward reads; then back."""
        kept, loop, deferral = self.kept, self.loop, self.deferral
        first = number * self.group
        count = jnp.minimum(self.group, length - first)
        still = [i for i in kept.carry_reads if i not in kept.step.moving]
        ahead = [i for i in kept.carry_reads if i not in kept.next_reads and i not in still]
        both = [i for i in kept.carry_reads if i in kept.next_reads and i not in still]
        behind = [i for i in kept.next_reads if i not in kept.carry_reads]
        # Stacks that are multiplied have equal rows: one more than there are steps, if some need that.
        rows = self.group + bool(both and deferral)
        private = [zeros_stack(v.aval, rows) for v in kept.private]
        came = [stack_like(carry[i], rows) for i in ahead]
        through = [stack_like(carry[i], self.group + 1) for i in both]
        went = [stack_like(carry[i], self.group) for i in behind]

        def forth(i, state):
            carry, private, came, through, went = state
            came = put_each(came, [carry[k] for k in ahead], i)
            carry, found = kept.keep(self.consts, carry, loop.inputs_at(self.xs, first + i))
            private = put_each(private, found, i)
            through = put_each(through, [carry[k] for k in both], i + 1)
            went = put_each(went, [carry[k] for k in behind], i)
            return carry, private, came, through, went

        # The last step runs only if something that it makes is read.
        end = count if private or both or behind else count - 1
        carry, private, came, through, went = up_to(0, end, forth, (list(carry), private, came, through, went))
        if not (private or both or behind):
            came = put_each(came, [carry[k] for k in ahead], count - 1)

        def given(i, ct, sums):
            arriving = dict(zip(ahead, take_each(came, i), strict=True))
            arriving.update(zip(both, take_each(through, i), strict=True))
            arriving.update((k, carry[k]) for k in still)
            leaving = dict(zip(behind, take_each(went, i), strict=True))
            leaving.update(zip(both, take_each(through, i + 1), strict=True))
            return kept.given(
                self.consts,
                [arriving[k] for k in kept.carry_reads],
                [leaving[k] for k in kept.next_reads],
                take_each(private, i),
                loop.inputs_at([self.xs[k] for k in kept.x_reads], first + i),
                kept.step.cotangents(ct, loop.inputs_at(self.ct_ys, first + i), sums),
            )

        def back(i, state):
            (ct, sums, d_xs), stacks = state
            if deferral is None:
                d_consts, ct, found = kept.back(given(i, ct, sums))
            else:
                all_, stacked = deferral.back(given(i, ct, sums))
                d_consts, ct, found = kept.divide(all_)
                stacks = put_each(stacks, stacked, i)
            sums = kept.step.added(sums, d_consts)
            return (ct, sums, loop.put_at(d_xs, found, first + i)), stacks

        room = [] if deferral is None else deferral.room(rows)
        (ct, sums, d_xs), stacks = down_from(count, 0, back, (gradients, room))
        if deferral is not None:
            by_carry = dict(zip((*ahead, *both), (*came, *through), strict=True))
            sums = deferral.add(sums, stacks, deferral.stored(by_carry, private))
        return ct, sums, d_xs
