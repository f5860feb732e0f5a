"""A loop of known length, reversed from checkpoints at the starts of groups of steps.

The steps are divided into groups.  With as many checkpoints as groups that is two nested loops, and every step runs forward
twice; with fewer it is binomial checkpointing of the groups (Griewank and Walther 2000, Algorithm 799).  All buffers are
reused.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from ckptgrad.binomial import extra_forwards
from ckptgrad.graph.graph import Variable
from ckptgrad.graph.naming import counted
from ckptgrad.loops.binomial_steps import climbed, first_pass
from ckptgrad.loops.reversals.reversal import Candidate, LoopT, Offer, Reversal, reversal
from ckptgrad.loops.scan import Scan
from ckptgrad.loops.stacks import down_from, put_each, stack_like, stack_variable, take, up_to
from ckptgrad.loops.step_costs import StepCosts
from ckptgrad.loops.walk import Walk
from ckptgrad.loops.weight_sums import WeightSums
from ckptgrad.rules.decorators import instantiate


@dataclass(frozen=True, eq=False)
class FromCheckpoints(Reversal[LoopT]):
    """What the ways that go back from checkpoints share.

    Attributes:
        slots: checkpoints that are held at once, the initial state counted.
        group: steps in a group.
        weight_sums: the gradients of constants that are summed group by group, if any.
        starts_each_group: whether the backward of a group starts at its checkpoint, where all groups have one: no state is
            then held on the way there.
    """

    slots: int
    group: int
    weight_sums: WeightSums | None = None

    starts_each_group: ClassVar[bool] = False

    @property
    def steps_again(self) -> int:
        """The steps of a group."""
        return self.group

    @classmethod
    def candidates(cls, costs: StepCosts, offer: Offer) -> Iterator[Candidate]:
        """Groups of all sizes, each from two levels to a single checkpoint, as far as worth considering."""
        # Two levels that take the least, and what takes so much more that it cannot be faster.
        even = max(1, min(costs.length - 1, round(math.sqrt(costs.length * costs.state / max(costs.each, 1)))))
        most = offer.largest * (inside_bytes(costs, even) + -(-costs.length // even) * costs.state)
        for group in offer.numbers(costs.length - 1, 7):
            if inside_bytes(costs, group) <= most:
                yield from cls._of_groups(costs, offer, group, most)

    @classmethod
    def _of_groups(cls, costs: StepCosts, offer: Offer, group: int, most: float) -> Iterator[Candidate]:
        """Two levels, then fewer and fewer checkpoints, of `most` bytes."""
        length, groups, inside = costs.length, -(-costs.length // group), inside_bytes(costs, group)
        state, plain, forward_bytes = costs.state, costs.plain, costs.forward_inside
        forward, backward = length * plain, backward_seconds(costs, group)
        slowest = offer.slowest * (forward + backward)
        for slots in (groups, *reversed(offer.numbers(groups - 1, 5))):
            if slots * state > most:
                continue
            again = extra_forwards(groups, slots) - (groups - 1)
            two_levels = slots >= groups
            seconds = backward + again * group * plain + (0.0 if two_levels else groups * costs.climb_start)
            if forward + seconds > slowest:
                return
            yield Candidate(
                costs,
                partial(cls, costs.replay, slots, group, costs.weight_sums),
                cls._policies(two_levels, group),
                stored=slots * state,
                forward_bytes=forward_bytes,
                backward_bytes=inside if two_levels and cls.starts_each_group else inside + state,
                forward_seconds=forward,
                backward_seconds=seconds,
            )

    @classmethod
    @abstractmethod
    def _policies(cls, two_levels: bool, group: int) -> tuple[str, ...]:
        """The policies that a plan belongs to, which has a checkpoint for each group if `two_levels`."""

    def stored_states(self) -> list[Variable]:
        """New variables for the stacks of states."""
        body = self.replay.body
        carry = body.carry_variables
        return [stack_variable(carry[i], self.slots) for i in body.moving]

    def stored_buffers(self) -> list[Variable]:
        """New variables for the entry buffers, which are stored as they are at the end."""
        carry = self.replay.body.carry_variables
        return [carry[b.position] for b in self.replay.body.entry_buffers]

    def walk(self, loop: LoopT, operands: Sequence[Any], ct_ys: Sequence[Any], buffers: Sequence[Any]) -> Walk:
        """The way back along the loop."""
        options = self.replay, self.slots, self.group, self.weight_sums
        return Walk(*options, loop=loop, operands=operands, ct_ys=ct_ys, buffers=buffers)


def inside_bytes(costs: StepCosts, group: int) -> int:
    """Bytes that are held beside checkpoints."""
    return (group + 1) * costs.each + max(costs.backward_inside, costs.sums)


def backward_seconds(costs: StepCosts, group: int) -> float:
    """Seconds of the way back where each group has a checkpoint."""
    groups = -(-costs.length // group)
    # Sums once per group; and what does not stay near from one pass through a group to the next.
    far = max(0.0, 1 - costs.roofline.rates.cache / max(inside_bytes(costs, group), 1))
    adding = (3 * costs.sums * groups + far * 2 * costs.length * costs.each) / costs.roofline.rates.read_rate
    return costs.length * (costs.keep + costs.back) + groups * costs.group_start + adding


@reversal(
    "checkpoints",
    loops=(Scan,),
    policies=("two_levels", "revolve"),
    entry_buffers=True,
    weight_sums=True,
    references=("Griewank and Walther 2000, Algorithm 799: revolve, doi:10.1145/347837.347846",),
)
class Checkpoints(FromCheckpoints[Scan]):
    """Checkpoints of a loop of known length.

    Laws: a step runs forward once in the first pass, once for its own backward, and as often in between as Revolve has it,
    groups being its steps.  Stored are `slots` states, and entry buffers.
    """

    starts_each_group: ClassVar[bool] = True

    @classmethod
    def _policies(cls, two_levels: bool, group: int) -> tuple[str, ...]:
        if group == 1:
            return ("two_levels", "revolve") if two_levels else ("revolve",)
        return ("two_levels",) if two_levels else ()

    def label(self, loop: Scan) -> str:
        """The plan in a few words."""
        group = counted(self.group, "step")
        two_levels = self.slots >= self.groups(loop)
        return f"{self.slots} x {group}" if two_levels else f"{counted(self.slots, 'checkpoint')}, {group}"

    def groups(self, loop: Scan) -> int:
        """How many groups there are."""
        return -(-loop.length // self.group)

    def stored(self, loop: Scan) -> list[Variable]:
        """New variables for what is stored: states, and entry buffers."""
        return [*self.stored_states(), *self.stored_buffers()]

    def forward(self, loop: Scan, operands: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Results of the loop, and the checkpoints."""
        replay, body = self.replay, self.replay.body
        consts, init, xs = loop.divide(operands)
        starts = first_pass(self.groups(loop), self.slots)
        ends = jnp.asarray([*(p * self.group for p in starts[1:]), loop.length], np.int32)
        ys = [instantiate(None, a) for a in loop.out_avals[body.num_carry :]]
        slots = [stack_like(init[i], self.slots) for i in body.moving]

        def run(i: Any, state: Any) -> Any:
            carry, ys = state
            carry, outputs = replay.first(consts, carry, loop.inputs_at(xs, i))
            return carry, loop.put_at(ys, outputs, i)

        def part(k: Any, state: Any) -> Any:
            i, carry, ys, slots = state
            slots = put_each(slots, [carry[j] for j in body.moving], k)
            end = take(ends, k)
            carry, ys = up_to(i, end, run, (carry, ys), trips=loop.length / len(starts))
            return end, carry, ys, slots

        _, carry, ys, slots = up_to(0, len(starts), part, (jnp.int32(0), init, ys, slots))
        return [*carry, *ys], [*slots, *(carry[b.position] for b in body.entry_buffers)]

    def backward(
        self, loop: Scan, operands: Sequence[Any], stored: Sequence[Any], cotangents: Sequence[Any | None]
    ) -> list[Any | None]:
        """Gradients of the operands."""
        ct_carry, ct_ys = loop.cotangents(cotangents)
        groups = self.groups(loop)
        starts = first_pass(groups, self.slots)
        slots = list(stored[: len(self.replay.body.moving)])
        walk = self.walk(loop, operands, ct_ys, stored[len(slots) :])
        start = ct_carry, self.replay.body.sums(loop.accumulate), walk.stacked_gradients()
        if len(starts) == groups:

            def back(k: Any, gradients: Any) -> Any:
                return walk.through_group(walk.state(slots, k), k, jnp.int32(loop.length), gradients)

            gradients = down_from(groups, 0, back, start)
        else:
            positions = jnp.asarray([*starts, *[0] * (self.slots - len(starts))], np.int32)
            again = climbed(groups, self.slots) * self.group / groups
            top, length = len(starts) - 1, jnp.int32(loop.length)
            gradients = walk.down(slots, positions, top, groups, length, start, again=again)
        d_init, sums, d_xs = gradients
        return loop.gradients(sums, d_init, d_xs)
