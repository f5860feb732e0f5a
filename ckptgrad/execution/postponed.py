"""Products that make gradients of arguments, and may wait until these are used.

Behind a barrier with the cotangents that flow on, every gradient is there before the backward of the next stage, and held
until it is used: in a step that updates parameters by an ordinary optimizer that is, as compilers for GPUs order it, all of
them at its end.  Where the operands of the product take fewer bytes than what it makes, it may be left to the compiler when
it runs: whether it holds one or the other meanwhile, it holds no more.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ckptgrad.graph.graph import Operation, Variable, variables_of
from ckptgrad.graph.traits import is_product, is_same_numbers
from ckptgrad.stage.partition import Run
from ckptgrad.target.target import Target


def postponed(run: Run, gradients: Collection[Variable], target: Target) -> Run:
    """The operations at the end of a backward that may wait, and the gradients that they make.

    Args:
        run: the backward.
        gradients: of what it makes that which nothing waits for.
        target: what it is compiled for.
    """
    makers = {v: op for op in run.operations for v in op.outputs}
    readers = dict.fromkeys(run.makes, 1)
    for op in run.operations:
        for v in dict.fromkeys(variables_of(op.inputs)):
            readers[v] = readers.get(v, 0) + 1
    waiting: set[Operation] = set()
    made: list[Variable] = []
    for gradient in run.makes:
        ending = _ending(gradient, makers, readers) if gradient in gradients else ()
        if ending and target.total_bytes({*variables_of(ending[-1].inputs)}) < target.bytes_of(gradient):
            waiting.update(ending)
            made.append(gradient)
    return Run(tuple(op for op in run.operations if op in waiting), tuple(made))


def _ending(gradient: Variable, makers: dict[Variable, Operation], readers: dict[Variable, int]) -> Sequence[Operation]:
    """The product that makes a gradient, last, before it the views through which that is seen; none if others read it."""
    found: list[Operation] = []
    v: Variable = gradient
    while (op := makers.get(v)) is not None and len(op.outputs) == 1 and readers.get(v) == 1:
        found.append(op)
        if is_product(op):
            return found
        source = op.inputs[0] if is_same_numbers(op) else None
        if not isinstance(source, Variable):
            break
        v = source
    return ()
