"""The sources of the planner's view of a program, by the names under which users ask for them.

Each is a function from a program to its costs on the program's target.
To add one: a file in this folder, and a row in `SOURCES`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ckptgrad.chain.program import Program
from ckptgrad.costs.compiled import compiled_costs, count_probes
from ckptgrad.costs.estimated import estimated_costs
from ckptgrad.costs.measured import measured_costs
from ckptgrad.planning.costs import ChainCosts

Source: TypeAlias = Callable[[Program], ChainCosts]

SOURCES: dict[str, Source] = {"estimate": estimated_costs, "compile": compiled_costs, "measure": measured_costs}
# What a user may ask for: one of them, or "auto", which chooses.
CHOICES = ("auto", *SOURCES)
# The most programs of stages that are compiled for their bytes where the user has not asked for it.
MOST_PROBES = 200


def program_costs(program: Program, source: str, *, compiling: bool = False) -> ChainCosts:
    """The costs of a program on its target.

    Args:
        program: the chain.
        source: one of `CHOICES`.
        compiling: whether the plan will be compiled: then "auto" compiles the stages too, unless they are many; else it
            estimates, and `costs.asked` asks about some of them.
    """
    if source == "auto":
        source = "compile" if compiling and count_probes(program) <= MOST_PROBES else "estimate"
    return SOURCES[source](program)
