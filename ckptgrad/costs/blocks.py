"""The chain of a program whose stages are whole blocks."""

from __future__ import annotations

from collections.abc import Sequence

from ckptgrad.chain.blocks import coarser_cuts
from ckptgrad.chain.program import Program, build_program
from ckptgrad.costs.estimated import estimated_costs
from ckptgrad.graph.graph import Atom, Graph, Variable
from ckptgrad.planning.optimal.dynamic_programming import minimum_peak
from ckptgrad.stage.save_options import Saveable
from ckptgrad.target.target import Target


def block_program(
    graph: Graph,
    wrt: Sequence[Variable],
    seeds: Sequence[Atom],
    target: Target,
    saveable: Saveable | None = None,
    encodings: tuple[str, ...] = (),
) -> Program | None:
    """The program cut at the boundaries of its blocks, which begin where the smallest plan is estimated to take least.

    None where the finest cuts are all there are (`coarser_cuts`).
    """
    cuts = coarser_cuts(graph, target)
    programs = [build_program(graph, wrt, seeds, target, positions, saveable, encodings) for positions in cuts]
    return min(programs, key=_least_bytes, default=None)


def _least_bytes(program: Program) -> int:
    return minimum_peak(estimated_costs(program))[0]
