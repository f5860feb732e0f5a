"""Seconds and bytes of one step of a loop with one save option, from which the ways to reverse loops price their plans."""

from __future__ import annotations

from collections.abc import Sequence

from ckptgrad.graph.graph import Inside, Operation, Variable, variables_of
from ckptgrad.loops.loop import Loop
from ckptgrad.loops.replay import Replay
from ckptgrad.loops.weight_sums import WeightSums
from ckptgrad.stage.partition import partition
from ckptgrad.target.course import Course, course_inside
from ckptgrad.target.footprint import peak_inside, values_beside, values_inside
from ckptgrad.target.roofline import Roofline

# Steps for which the plans of a loop of unknown length are compared.
USUAL_LENGTH = 1024
# Operations that a group of steps starts of its own, and a climb to its start from an earlier checkpoint, beside one for
# each value: numbers of steps and places of checkpoints are computed by the device too.
_GROUP, _CLIMB = 5, 14
_CARRIED = "carried value"


class StepCosts:
    """What one step costs.

    Attributes:
        loop: the loop.
        length: how many steps it has, or `USUAL_LENGTH`.
        replay: a step, and what is kept of it.
        weight_sums: the gradients of constants that are summed over several steps at once, if any.
        roofline: the estimates of seconds, for the target.
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

    def __init__(
        self, replay: Replay, roofline: Roofline, loop: Loop, inner: str = "", weight_sums: WeightSums | None = None
    ) -> None:
        self.loop, self.replay, self.roofline, self.inner, self.weight_sums = loop, replay, roofline, inner, weight_sums
        self.length = USUAL_LENGTH if loop.length is None else loop.length
        part, body = replay.part, replay.body
        carry_bytes = [roofline.target.bytes_of(v) for v in body.carry_inputs]
        self.state = sum(carry_bytes[i] for i in body.moving)
        self.private = roofline.target.total_bytes(replay.private)
        self.read = sum(carry_bytes[i] for i in {*replay.carry_reads, *replay.next_reads} & {*body.moving})
        self._price_forward()
        gradients = self._price_backward()
        self.waiting, self.sums = 0, 0
        if weight_sums is not None:
            self._price_weight_sums(weight_sums)
        # Gradients that are added in place take no memory of their own.
        joint = part.joint
        in_place = variables_of(a for k in body.indexed if (a := joint.gradients[k]) is not None)
        # The cotangents that arrive in what is carried are held already, and may be written over.
        self._arriving = joint.cotangents[: len(body.active_carry)]
        present = {*joint.inputs, *part.residuals, *joint.cotangents, *in_place}
        self._present, self._gradients = present - {*self._arriving}, gradients
        peak = peak_inside(self._backward_operations, self._present, gradients, roofline.target, self._arriving)
        sliced = roofline.target.total_bytes(replay.sliced)
        self.backward_inside = self.state + max(0, peak - roofline.target.total_bytes(self._arriving)) + sliced

    @property
    def forward_course(self) -> Course:
        """Seconds, and bytes that are held inside a step for as long."""
        joint = self.replay.part.joint
        carried = variables_of(joint.outputs[: self.replay.body.num_carry])
        course = course_inside(self._plain.operations, joint.inputs, carried, self.roofline)
        return [(seconds, self.state + held) for seconds, held in course]

    @property
    def backward_course(self) -> Course:
        """The same inside the backward of a step."""
        course = course_inside(self._backward_operations, self._present, self._gradients, self.roofline, self._arriving)
        held_already = self.roofline.target.total_bytes(self._arriving)
        return [(seconds, self.state + max(0, held - held_already)) for seconds, held in course]

    def inside_forward(self) -> list[Inside]:
        """The arrays that are held inside a step at its worst moment, and the state."""
        joint = self.replay.part.joint
        carried = variables_of(joint.outputs[: self.replay.body.num_carry])
        operations = self._plain.operations
        return [*self._states, *_made(operations, values_inside(operations, joint.inputs, carried, self.roofline.target))]

    def inside_backward(self, steps: int, held: int) -> list[Inside]:
        """The same inside the backward of a step, beside what is kept of as many steps around it.

        Args:
            steps: how many these are.
            held: the bytes of all: with those of one more state, one is held on the way to the steps.
        """
        target, part = self.roofline.target, self.replay.part
        given = self._present, self._gradients, target, self._arriving
        values = values_beside(values_inside(self._backward_operations, *given), self._arriving)
        makers = {v: op for op in part.joint.operations for v in op.outputs}
        carry = self.replay.body.carry_inputs
        read = [carry[i] for i in sorted({*self.replay.carry_reads, *self.replay.next_reads} & {*self.replay.body.moving})]
        waiting = () if self.weight_sums is None else self.weight_sums.stacked
        stacks = [Inside(v, makers.get(v), steps) for v in (*self.replay.private, *waiting)] if steps else []
        stacks += [Inside(v, None, steps, _CARRIED) for v in read] if steps else []
        found = [*self._states, *stacks, *_made(self._backward_operations, values)]
        left = held - sum(array.entries * target.bytes_of(array.value) for array in found)
        return [*found, *(self._states if 0 < self.state <= left else [])]

    @property
    def _states(self) -> list[Inside]:
        carry = self.replay.body.carry_inputs
        return [Inside(carry[i], None, what=_CARRIED) for i in self.replay.body.moving]

    def _price_forward(self) -> None:
        replay, roofline = self.replay, self.roofline
        part, joint = replay.part, replay.part.joint
        carried = variables_of(joint.outputs[: replay.body.num_carry])
        self._plain = plain = partition(joint, ()).forward_run(again=True, unwanted=replay.stacked_only)
        again = part.forward_run(again=True, unwanted=[v for v in replay.stacked_only if v not in replay.private])
        self.plain = roofline.warm_seconds(plain.operations, carried)
        self.keep = (
            roofline.warm_seconds(again.operations, [*carried, *replay.private]) + self._stacks * roofline.rates.launch
        )
        self.forward_inside = self.state + max(
            0, peak_inside(plain.operations, joint.inputs, carried, target=roofline.target)
        )

    def _price_backward(self) -> list[Variable]:
        """Returns the gradients that a step's backward makes."""
        roofline, joint = self.roofline, self.replay.part.joint
        waiting = set() if self.weight_sums is None else {term.position for term in self.weight_sums.terms}
        gradients = variables_of(g for k, g in enumerate(joint.gradients) if g is not None and k not in waiting)
        at_once = len(self.replay.body.active_consts) - len(waiting)
        # A sum is read, and written, and its term read.
        adding = 3 * roofline.target.total_bytes(gradients[:at_once])
        self.back = roofline.warm_seconds(self._backward_operations, gradients) + adding / roofline.rates.read_rate
        self.back += (self._stacks + at_once) * roofline.rates.launch
        return gradients

    def _price_weight_sums(self, weight_sums: WeightSums) -> None:
        """What waits is written once and read once; the products take as long as they would in each step."""
        roofline = self.roofline
        self.waiting = roofline.target.total_bytes(weight_sums.stacked)
        self.sums = roofline.target.total_bytes(term.gradient for term in weight_sums.terms)
        products = sum(roofline.arithmetic(term.product) for term in weight_sums.terms if term.product is not None)
        self.back += (
            products + 2 * self.waiting / roofline.rates.read_rate + len(weight_sums.stacked) * roofline.rates.launch
        )

    @property
    def group_start(self) -> float:
        """Seconds to start what a group does beside its steps: its state, room for stacks, and sums when it ends."""
        rooms = self._stacks + (0 if self.weight_sums is None else len(self.weight_sums.stacked))
        sums = 0 if self.weight_sums is None else 2 * len(self.weight_sums.terms)
        return (_GROUP + len(self.replay.body.moving) + rooms + sums) * self.roofline.rates.launch

    @property
    def climb_start(self) -> float:
        """Seconds to start what a climb to a group does beside its steps: where to, and a state that is read and stored."""
        return (_CLIMB + 4 * len(self.replay.body.moving)) * self.roofline.rates.launch

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


def _made(operations: Sequence[Operation], values: Sequence[Variable]) -> list[Inside]:
    makers = {v: op for op in operations for v in op.outputs}
    return [Inside(v, makers.get(v)) for v in values]
