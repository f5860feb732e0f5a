"""What is kept for a backward where no plan chooses: all that it reads, but for what is cheap to make of the rest."""

from __future__ import annotations

from ckptgrad.graph.graph import Variable, variables_of
from ckptgrad.graph.traits import is_all_in_order, is_cheap
from ckptgrad.stage.joint import Joint


def kept_plainly(joint: Joint) -> list[Variable]:
    """What the backward reads, of reshapes what they show, without what it makes of the rest by elementwise work.

    Kept, these would be values of their own: stacked in each step of a loop, returned from a `shard_map`.
    """
    makers = {v: op for op in joint.forward_operations for v in op.outputs}

    def shown(v: Variable) -> Variable:
        while v in makers and is_all_in_order(makers[v]):
            (v,) = variables_of(makers[v].inputs)
        return v

    read = dict.fromkeys(map(shown, joint.frontier))
    there, again = {*read}, set[Variable]()
    for op in joint.forward_operations:
        if is_cheap(op) and there.issuperset(variables_of(op.inputs)):
            there.update(op.outputs)
            again.update(op.outputs)
    return [v for v in read if v not in again]
