"""Loops of known length that store in the host's memory, where the target lets programs use it (`Target.host_bytes`).

Regime: long loops of large steps, whose computation takes longer than the transfers; the host has the room.
Does not: divide what is stored between both memories, send what lies on several devices, or go below one checkpoint a group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import lax

from ckptgrad.graph.graph import Variable
from ckptgrad.graph.naming import counted
from ckptgrad.loops.in_host import away, back, leaving_bytes, stack_in_host, transfer_seconds
from ckptgrad.loops.reversals.checkpoints import Checkpoints, backward_seconds, inside_bytes
from ckptgrad.loops.reversals.reversal import Candidate, Offer, reversal
from ckptgrad.loops.reversals.store_all import StoreAll
from ckptgrad.loops.scan import Scan
from ckptgrad.loops.stacks import up_to
from ckptgrad.loops.step_costs import StepCosts
from ckptgrad.rules.decorators import instantiate


@reversal("store_all_in_host", loops=(Scan,))
@dataclass(frozen=True, eq=False)
class StoreAllInHost(StoreAll):
    """Each step stores what its backward reads, in the host's memory.

    Laws: those of `StoreAll`; the device holds what one step stores twice, on its way there and back.
    """

    @classmethod
    def candidates(cls, costs: StepCosts, offer: Offer) -> Iterator[Candidate]:
        """The only plan, if there is room for it."""
        way = cls(costs.replay)
        roofline = costs.roofline
        sent = leaving_bytes(way.stored_each, roofline.target)
        size = costs.length * sent
        if not sent or size > roofline.target.host_bytes:
            return
        transfers = transfer_seconds(roofline, sent, costs.length)
        yield Candidate(
            costs,
            partial(cls, costs.replay),
            (),
            stored=costs.length * (costs.private + costs.read - sent),
            forward_bytes=costs.forward_inside + sent,
            backward_bytes=costs.backward_inside + 2 * sent,
            forward_seconds=costs.length * costs.keep + transfers,
            backward_seconds=costs.length * costs.back + transfers,
            host_bytes=size,
        )

    def label(self, loop: Scan) -> str:
        """The plan in a few words."""
        return "every step stored in the host's memory"

    _stack = staticmethod(stack_in_host)
    _away = staticmethod(away)
    _back = staticmethod(back)


@reversal("checkpoints_in_host", loops=(Scan,), entry_buffers=True, weight_sums=True, references=())
class CheckpointsInHost(Checkpoints):
    """A checkpoint in the host's memory at the start of each group of steps.

    Laws: a step runs forward once in the first pass and once for its own backward; the device holds the states of a group.
    """

    starts_each_group: ClassVar[bool] = True

    @classmethod
    def _of_groups(cls, costs: StepCosts, offer: Offer, group: int, most: float) -> Iterator[Candidate]:
        """The plan with one checkpoint a group, if there is room for these."""
        roofline, groups = costs.roofline, -(-costs.length // group)
        carry = costs.replay.body.carry_variables
        sent = leaving_bytes((carry[i] for i in costs.replay.body.moving), roofline.target)
        if not sent or groups * sent > roofline.target.host_bytes:
            return
        transfers = transfer_seconds(roofline, sent, groups)
        yield Candidate(
            costs,
            partial(cls, costs.replay, groups, group, costs.weight_sums),
            (),
            stored=groups * (costs.state - sent),
            forward_bytes=costs.forward_inside + sent,
            backward_bytes=inside_bytes(costs, group) + sent,
            forward_seconds=costs.length * costs.plain + transfers,
            backward_seconds=backward_seconds(costs, group) + transfers,
            host_bytes=groups * sent,
        )

    def label(self, loop: Scan) -> str:
        """The plan in a few words."""
        return f"{self.slots} x {counted(self.group, 'step')}, in the host's memory"

    def stored_states(self) -> list[Variable]:
        """New variables for the stacks of states."""
        body = self.replay.body
        return [stack_in_host(body.carry_variables[i], self.slots) for i in body.moving]

    def forward(self, loop: Scan, operands: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Results of the loop, and the checkpoints."""
        replay, body = self.replay, self.replay.body
        consts, init, xs = loop.divide(operands)
        ys = [instantiate(None, a) for a in loop.out_avals[body.num_carry :]]

        def run(i: Any, state: Any) -> Any:
            carry, ys = state
            carry, outputs = replay.first(consts, carry, loop.inputs_at(xs, i))
            return carry, loop.put_at(ys, outputs, i)

        def through_group(state: Any, number: Any) -> Any:
            carry, ys = state
            checkpoint = away([carry[i] for i in body.moving])
            first = number * self.group
            end = jnp.minimum(first + self.group, loop.length)
            return up_to(first, end, run, (carry, ys), trips=loop.length / self.slots), checkpoint

        (carry, ys), slots = lax.scan(through_group, (init, ys), jnp.arange(self.slots, dtype=jnp.int32))
        return [*carry, *ys], [*slots, *(carry[b.position] for b in body.entry_buffers)]

    def backward(
        self, loop: Scan, operands: Sequence[Any], stored: Sequence[Any], cotangents: Sequence[Any | None]
    ) -> list[Any | None]:
        """Gradients of the operands."""
        ct_carry, ct_ys = loop.cotangents(cotangents)
        slots = list(stored[: len(self.replay.body.moving)])
        walk = self.walk(loop, operands, ct_ys, stored[len(slots) :])
        length = jnp.int32(loop.length)

        def through_group(gradients: Any, x: Any) -> Any:
            number, checkpoint = x
            return walk.through_group(walk.state_of(back(checkpoint)), number, length, gradients), None

        start = ct_carry, self.replay.body.sums(loop.accumulate), walk.stacked_gradients()
        numbers = jnp.arange(self.slots, dtype=jnp.int32)
        (d_init, sums, d_xs), _ = lax.scan(through_group, start, (numbers, slots), reverse=True)
        return loop.gradients(sums, d_init, d_xs)
