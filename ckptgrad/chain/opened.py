"""A program whose stages are open to each other, as one run of operations: what its compiler sees.

Nothing is done twice there: a compiler merges what a backward repeats with the first time.  So each stage's forward stands
in it once, and its backward reads what that made.  What devices gather for products in a forward is gathered once, too,
and kept for those in the backward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from jax import lax
from jax.extend.core.primitives import sharding_constraint_p

from ckptgrad.chain.program import Program, Stage
from ckptgrad.compat import OPEN_CONVOLUTIONS_ARE_SMALL
from ckptgrad.graph.graph import Atom, Operation, Variable, variables_of
from ckptgrad.graph.spread import gathered_operands
from ckptgrad.stage.joint import Joint
from ckptgrad.target.footprint import channels_last, peak_inside
from ckptgrad.target.platform import Form, Isolation
from ckptgrad.target.roofline import Roofline
from ckptgrad.target.target import Target
from ckptgrad.target.tiled import pad_to_tiles


@dataclass(frozen=True)
class Opened:
    """The operations of a program in the order they run, and what they return: outputs and gradients."""

    program: Program
    operations: tuple[Operation, ...]
    results: tuple[Variable, ...]

    def seconds(self) -> float:
        """Estimated seconds of all operations, one after another."""
        return Roofline(self.program.target).seconds(self.operations, self.results)

    def peak_bytes(self) -> int:
        """Bytes beyond the arguments at the worst moment, estimated as for what runs inside a stage (`target.footprint`)."""
        graph, target = self.program.graph, self.program.target
        platform = replace(target.platform, repeats_half=not target.platform.open_stores_half)
        target = replace(target, platform=platform)
        inside = peak_inside(self.operations, {*graph.inputs, *graph.constants}, self.results, target)
        made = {v for op in self.operations for v in op.outputs}
        # Arguments that are returned are buffers of their own.
        passed = [a for a in self.results if a not in made]
        return inside + target.total_bytes(passed) + self.program.untraced_bytes


def open_is_faster(program: Program) -> bool:
    """Whether a program whose stages are open to each other is faster than one where they are fenced.

    On accelerators compilers fuse less across barriers. On CPU values that are written in another form than the fast one
    cost time where they cross: what an isolated call is given and returns is laid out as written. Inside one computation a
    compiler keeps the fast form from one convolution to the next; across a fence each is transposed there and back, for up
    to half of the time of convolutions with channels first.
    """
    if is_estimated(program.target):
        return True
    kept = OPEN_CONVOLUTIONS_ARE_SMALL and Form.CHANNELS_LAST in program.target.platform.forms
    if not kept or len(program.stages) < 2:
        return False
    operations = (op for kind in program.kinds for op in kind.graph.operations)
    written = (op.params["dimension_numbers"] for op in operations if op.name == "conv_general_dilated")
    return any(tuple(numbers) != channels_last(len(numbers.lhs_spec)) for numbers in written)


def is_estimated(target: Target) -> bool:
    """Whether it can be estimated what open programs take: not on CPU, whose libraries have scratch of their own."""
    return target.platform.isolation is not Isolation.CALLS


def opened(program: Program, kept: Mapping[int, int]) -> Opened:
    """The run of a program's operations; `kept` is the option of each stage, which says how loops inside it are reversed."""
    return _Opening(program, kept).run()


class _Opening:
    def __init__(self, program: Program, kept: Mapping[int, int]) -> None:
        self.program, self.kept = program, kept
        self.operations: list[Operation] = []
        # The atoms that stand for the values of the program's graph, and for their cotangents.
        self.values: dict[Variable, Atom] = {}
        self.table: dict[Variable, Atom] = {v: Variable(v.aval, v.sharding) for v in program.seeds}
        # The copies of values that lie cut along axes of a mesh, gathered for products.
        self.whole: dict[tuple[Variable, object], Variable] = {}

    def run(self) -> Opened:
        program, joints = self.program, [self.joint(i) for i in range(len(self.program.stages))]
        inner: list[dict[Atom, Atom]] = []
        for stage, joint in zip(program.stages, joints, strict=True):
            inner.append(dict(zip(joint.inputs, map(self.value, stage.inputs), strict=True)))
            self.append(joint.forward_operations, inner[-1])
            self.name_outputs(stage, joint, inner[-1])
        for stage, joint, own in [*zip(program.stages, joints, inner, strict=True)][::-1]:
            own.update((c, self.table[v]) for c, v in zip(joint.cotangents, stage.seeded, strict=True))
            self.append(joint.backward_operations, own)
            self.name_outputs(stage, joint, own)
            for v, g in zip(stage.differentiated, joint.gradients, strict=True):
                if g is not None:
                    self.accumulate(v, own.get(g, g))
        pad_to_tiles(self.operations, program.target.platform, program.graph.inputs)
        gradients = [self.table[v] for v in program.wrt if v in self.table]
        results = [*map(self.value, variables_of(program.graph.outputs)), *gradients]
        return Opened(program, tuple(self.operations), tuple(variables_of(results)))

    def joint(self, i: int) -> Joint:
        kind = self.program.stages[i].kind
        return kind.options[self.kept.get(i, 0)].partition.joint

    def value(self, v: Variable) -> Atom:
        return self.values.get(v, v)

    def name_outputs(self, stage: Stage, joint: Joint, own: Mapping[Atom, Atom]) -> None:
        self.values.update((v, own.get(a, a)) for v, a in zip(stage.outputs, joint.outputs, strict=True))

    def append(self, operations: Sequence[Operation], own: dict[Atom, Atom]) -> None:
        for op in operations:
            outputs = [Variable(v.aval, v.sharding) for v in op.outputs]
            own.update(zip(op.outputs, outputs, strict=True))
            self.operations.append(op.replace(self.gathered(op, [own.get(a, a) for a in op.inputs]), outputs))

    def gathered(self, op: Operation, inputs: Sequence[Atom]) -> list[Atom]:
        """The operands of an operation, those gathered that it needs whole: once for all operations that read them."""
        found = [*inputs]
        for k, sharding in gathered_operands(op).items():
            v = inputs[k]
            if isinstance(v, Variable):
                if (v, sharding) not in self.whole:
                    copy = self.whole[v, sharding] = Variable(v.aval, sharding)
                    self.operations.append(Operation(sharding_constraint_p, [v], [copy], {"sharding": sharding}))
                found[k] = self.whole[v, sharding]
        return found

    def accumulate(self, v: Variable, gradient: Atom) -> None:
        held = self.table.get(v)
        if held is not None:
            total = Variable(gradient.aval, gradient.sharding)
            self.operations.append(Operation(lax.add_p, [held, gradient], [total], {}))
            gradient = total
        self.table[v] = gradient
