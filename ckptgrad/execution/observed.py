# pyright: reportUnknownMemberType=false
"""A plan run stage by stage: each action on its own, what is held after each shown to an observer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from ckptgrad.chain.program import Program
from ckptgrad.execution.interpreter import Execution, split_at_backward
from ckptgrad.graph.value_types import cotangent_type, filled
from ckptgrad.planning.schedule import Backward, Schedule


def run_observed(
    program: Program, args: Sequence[Any], schedule: Schedule, observe: Callable[[Sequence[Any]], None]
) -> None:
    """Run the actions of a schedule one by one, and give `observe` all arrays that are held after each.

    Each distinct stage is compiled once.  `args` are the leaves of the arguments; these and captured constants are not
    among the arrays.
    """
    execution = Execution(program, args)
    first_reader = {v: min(i for i, s in enumerate(program.stages) if v in s.inputs) for v in program.held}
    returned = {*program.graph.outputs}
    arguments = {id(x) for x in execution.env.values()}
    forward, backward = split_at_backward(schedule)
    for index, action in enumerate([*forward, *backward]):
        if index == len(forward):
            execution.seed([filled(cotangent_type(v.aval), 1) for v in program.seeds])
        execution.run((action,))
        execution.forget_order()
        if isinstance(action, Backward):
            for v, reader in first_reader.items():
                if reader == action.stage and v not in returned:
                    execution.env.pop(v, None)
        arrays = [*execution.arrays(), *execution.table.values()]
        held: list[Any] = [x for x in jax.tree.leaves(arrays) if id(x) not in arguments]
        jax.block_until_ready(held)
        observe(held)
