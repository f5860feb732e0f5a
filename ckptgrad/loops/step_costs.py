"""Seconds and bytes of one step of a loop with one save option, from which the ways to reverse loops price their plans."""

from __future__ import annotations

from collections.abc import Sequence

from ckptgrad.graph.graph import Operation, Variable, variables_of
from ckptgrad.loops.loop import Loop
from ckptgrad.loops.replay import Replay
from ckptgrad.loops.weight_sums import WeightSums
from ckptgrad.stage.partition import partition
from ckptgrad.target.footprint import peak_inside
from ckptgrad.target.rates import Machine

# Steps for which the plans of a loop of unknown length are compared.
USUAL_LENGTH = 1024


class StepCosts:
    """What one step costs.

    Attributes:
        loop: the loop.
        length: how many steps it has, or `USUAL_LENGTH`.
        replay: a step, and what is kept of it.
        weight_sums: the gradients of constants that are summed over several steps at once, if any.
        machine: the rates behind the estimates.
        inner: the plans of the loops inside, in a few words.
        plain: seconds of a step that keeps nothing.
        keep: seconds of a step that keeps what its backward reads.
        back: seconds of a step's backward.
        state: bytes of the carried values that a checkpoint holds.
        private: bytes of the values kept of a step that are not carried.
        read: bytes of the carried values that a step's backward reads.
        waiting: bytes of a step's values that wait for `weight_sums`.
        sums: bytes of the gradients in `weight_sums`.
        forward_inside, backward_inside: bytes held inside a step and inside its backward, with one state.
    """

    def __init__(self, replay: Replay, machine: Machine, loop: Loop, inner: str = "", weight_sums: WeightSums | None = None):
        self.loop, self.replay, self.machine, self.inner, self.weight_sums = loop, replay, machine, inner, weight_sums
        self.length = USUAL_LENGTH if loop.length is None else loop.length
        part, body = replay.part, replay.body
        carry_bytes = [v.nbytes for v in body.graph.inputs[body.num_consts : body.num_consts + body.num_carry]]
        self.state = sum(carry_bytes[i] for i in body.moving)
        self.private = sum(v.nbytes for v in replay.private)
        self.read = sum(carry_bytes[i] for i in {*replay.carry_reads, *replay.next_reads} & {*body.moving})
        self._price_forward()
        gradients = self._price_backward()
        self.waiting, self.sums = 0, 0
        if weight_sums is not None:
            self._price_weight_sums(weight_sums)
        # Gradients that are added in place take no memory of their own.
        joint = part.joint
        in_place = variables_of(a for k in body.indexed if (a := joint.gradients[k]) is not None)
        present = {*joint.inputs, *part.residuals, *joint.cotangents, *in_place}
        self.backward_inside = self.state + max(0, peak_inside(self._backward_operations, present, gradients))

    def _price_forward(self) -> None:
        replay, machine = self.replay, self.machine
        part, joint = replay.part, replay.part.joint
        carried = variables_of(joint.outputs[: replay.body.num_carry])
        plain = partition(joint, ()).forward_run(again=True, unwanted=replay.stacked_only)
        again = part.forward_run(again=True, unwanted=[v for v in replay.stacked_only if v not in replay.private])
        self.plain = machine.warm_seconds(plain.operations, carried)
        self.keep = machine.warm_seconds(again.operations, [*carried, *replay.private]) + self._stacks * machine.launch
        self.forward_inside = self.state + max(0, peak_inside(plain.operations, joint.inputs, carried))

    def _price_backward(self) -> list[Variable]:
        """Returns the gradients that a step's backward makes."""
        machine, joint = self.machine, self.replay.part.joint
        waiting = set() if self.weight_sums is None else {term.position for term in self.weight_sums.terms}
        gradients = variables_of(g for k, g in enumerate(joint.gradients) if g is not None and k not in waiting)
        at_once = len(self.replay.body.active_consts) - len(waiting)
        # A sum is read, and written, and its term read.
        adding = sum(3 * g.nbytes for g in gradients[:at_once])
        self.back = machine.warm_seconds(self._backward_operations, gradients) + adding / machine.read_rate
        self.back += (self._stacks + at_once) * machine.launch
        return gradients

    def _price_weight_sums(self, weight_sums: WeightSums) -> None:
        """What waits is written once and read once; the products take as long as they would in each step."""
        machine = self.machine
        self.waiting = sum(v.nbytes for v in weight_sums.stacked)
        self.sums = sum(term.nbytes for term in weight_sums.terms)
        products = sum(machine.arithmetic(term.product) for term in weight_sums.terms if term.product is not None)
        self.back += products + 2 * self.waiting / machine.read_rate + len(weight_sums.stacked) * machine.launch

    @property
    def _stacks(self) -> int:
        """How many stacks are written in a step, and read in its backward."""
        return len(self.replay.private) + len({*self.replay.carry_reads, *self.replay.next_reads})

    @property
    def _backward_operations(self) -> Sequence[Operation]:
        return (self.replay.part.backward_run if self.weight_sums is None else self.weight_sums).operations

    @property
    def each(self) -> int:
        """Bytes that are held of a step while the steps around it are reversed."""
        return self.private + self.read + self.waiting

    def beats(self, other: StepCosts, ties: bool) -> bool:
        """Whether it is worse in nothing, and better in something unless `ties` count."""
        ours, theirs = self._figures, other._figures
        return all(a <= b for a, b in zip(ours, theirs, strict=True)) and (ties or ours != theirs)

    @property
    def _figures(self) -> tuple[float, ...]:
        return self.each, max(self.backward_inside, self.sums), self.sums, self.plain, self.keep + self.back
