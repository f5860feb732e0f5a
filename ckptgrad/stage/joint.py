# pyright: reportUnknownMemberType=false
"""The joint graph of a function: its forward operations and those of its gradient, as one graph.

`joint` differentiates symbol to symbol.  `stage.partition` splits the result by what is kept: the forward makes the kept
values besides its outputs, the backward recomputes whatever else it reads from these and from the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from ckptgrad.autodiff.cotangent import accumulate
from ckptgrad.autodiff.reach import reaching
from ckptgrad.autodiff.reverse import backpropagate, forward
from ckptgrad.graph.effects import is_repeatable
from ckptgrad.graph.evaluate import needed_operations, read
from ckptgrad.graph.graph import Atom, Graph, Operation, Variable, variables_of
from ckptgrad.graph.simplify import merge_common
from ckptgrad.graph.stack_depth import deep_stack
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.graph.value_types import cotangent_struct, struct
from ckptgrad.once import once
from ckptgrad.stage.decided import decided, with_barriers
from ckptgrad.stage.picked import compared


@dataclass(frozen=True)
class Joint:
    """A joint graph: inputs and cotangents in, outputs and gradients out.

    An output that depends on a cotangent is `late`: the backward makes it, in the same run as the gradients.

    Attributes:
        inputs: variables of the forward inputs.
        cotangents: variables of the cotangents of the seeded outputs.
        outputs: atoms of the forward outputs.
        gradients: for each differentiated input its atom, or None where nothing flows back.
        operations: all operations, forward ones first.
        constants: captured values.
    """

    inputs: tuple[Variable, ...]
    cotangents: tuple[Variable, ...]
    outputs: tuple[Atom, ...]
    gradients: tuple[Atom | None, ...]
    operations: tuple[Operation, ...]
    constants: dict[Variable, Any]

    @once
    def backward_operations(self) -> list[Operation]:
        """The operations that depend on a cotangent, and that a gradient or a late output needs."""
        _, dependent = self._by_dependence
        needed = set(needed_operations(dependent, [*(g for g in self.gradients if g is not None), *self.late]))
        return [op for op in dependent if op in needed]

    @once
    def late(self) -> tuple[Variable, ...]:
        """The outputs that the backward makes."""
        made = {v for op in self._by_dependence[1] for v in op.outputs}
        return tuple(v for v in dict.fromkeys(variables_of(self.outputs)) if v in made)

    @once
    def forward_operations(self) -> list[Operation]:
        """The operations that do not depend on a cotangent."""
        return self._by_dependence[0]

    @once
    def _by_dependence(self) -> tuple[list[Operation], list[Operation]]:
        """The operations that do not depend on a cotangent, and those that do."""
        tainted: set[Atom] = set(self.cotangents)
        independent: list[Operation] = []
        dependent: list[Operation] = []
        for op in self.operations:
            if any(a in tainted for a in op.inputs):
                tainted.update(op.outputs)
                dependent.append(op)
            else:
                independent.append(op)
        return independent, dependent

    @once
    def made_once(self) -> list[Variable]:
        """The forward values that must not be made again: decisions (`stage.decided`), and results of side effects."""
        returned = [v for op in self.forward_operations if not is_repeatable(op) for v in op.outputs]
        return [*decided(self.forward_operations), *returned]

    @once
    def is_repeatable(self) -> bool:
        """Whether the forward may run again: it reads no result of a side effect, of a custom rule's own neither."""
        again = needed_operations(self.forward_operations, [*self.outputs, *self.frontier], effects=False)
        return all(map(is_repeatable, again))

    @once
    def frontier(self) -> list[Variable]:
        """The forward values that backward operations (or gradients) read directly, in order."""
        made = {v for op in self.forward_operations for v in op.outputs} | set(self.inputs)
        read_: dict[Variable, None] = {}
        for op in self.backward_operations:
            read_.update((a, None) for a in variables_of(op.inputs) if a in made)
        read_.update((a, None) for a in self.gradients if isinstance(a, Variable) and a in made)
        return list(read_)


def joint(
    graph: Graph,
    wrt: Sequence[Variable],
    seeds: Sequence[Atom],
    planned: bool = False,
    totals: Sequence[Variable] = (),
) -> Joint:
    """Differentiate a graph symbol-to-symbol.

    Args:
        graph: the forward graph.
        wrt: the inputs to differentiate with respect to.
        seeds: the outputs that receive a cotangent; an atom that occurs twice receives the sum.
        planned: how loops are reversed is left open, for a plan to say before the graph is run.
        totals: inputs among `wrt` whose gradients are added to totals, which come last among the cotangents.
    """
    present: list[bool] = []
    towards = reaching(graph, variables_of(seeds))

    def run(args: Sequence[Any], cotangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        tape = forward(graph, args, wrt, planned=planned, towards=towards)
        table: dict[Variable, Any] = dict(zip(totals, cotangents[len(seeds) :], strict=True))
        for atom, ct in zip(seeds, cotangents, strict=False):
            if isinstance(atom, Variable):
                accumulate(table, atom, ct)
        gradients = backpropagate(tape, table, wrt)
        present[:] = [g is not None for g in gradients]
        return [read(tape.env, a) for a in graph.outputs], [g for g in gradients if g is not None]

    return joint_of_run(run, graph.inputs, (*seeds, *totals), len(graph.outputs), present)


def joint_of_run(
    run: Callable[[Sequence[Any], Sequence[Any]], tuple[list[Any], list[Any]]],
    inputs: Sequence[Variable],
    seeds: Sequence[Atom],
    outputs: int,
    present: Sequence[bool],
) -> Joint:
    """The joint graph of a function from inputs and cotangents to outputs and gradients.

    Args:
        run: the function; it sets `present`, and returns the gradients that are.
        inputs: values like its inputs.
        seeds: values like its cotangents.
        outputs: the number of its outputs.
        present: for each differentiated input whether a gradient flows back, once it has run.
    """
    structs = [struct(v.aval) for v in inputs]
    seed_structs = [cotangent_struct(v.aval) for v in seeds]
    with deep_stack():
        merged = compared(merge_common(from_jaxpr(jax.make_jaxpr(run)(structs, seed_structs))))
    gradients = iter(merged.outputs[outputs:])
    return Joint(
        merged.inputs[: len(structs)],
        merged.inputs[len(structs) :],
        merged.outputs[:outputs],
        tuple(next(gradients) if p else None for p in present),
        with_barriers(merged.operations),
        merged.constants,
    )
