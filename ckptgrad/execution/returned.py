# pyright: reportUnknownMemberType=false
"""How what a program returns lies over several devices: as if its stages were open to each other, as in `jax.grad`.

Where stages are isolated, what passes between them is constrained (`execution.lying`), and what is returned would follow
from that.  So the partitioner is asked once about the program without constraints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jax.sharding import Mesh

from ckptgrad.chain.program import Program
from ckptgrad.chain.recent import Recent
from ckptgrad.execution.interpreter import Execution
from ckptgrad.execution.lying import constrained
from ckptgrad.execution.stage_functions import functions_as_written
from ckptgrad.graph.fingerprint import segment_key
from ckptgrad.graph.graph import Atom
from ckptgrad.graph.value_types import cotangent_type, filled
from ckptgrad.planning.schedule import Backward, Forward
from ckptgrad.target.laid_out import laid_out_struct
from ckptgrad.target.partitioner import mesh_of, result_shardings
from ckptgrad.target.platform import Isolation

_RECENT = Recent()


@dataclass(frozen=True, eq=False)
class _Returned:
    shardings: tuple[Any, ...]


def lying_as_returned(program: Program, outputs: Sequence[Any], gradients: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Outputs and gradients of a program whose stages were isolated, constrained to lie as without that."""
    if not any(kind.is_laid_out for kind in program.kinds):
        return [*outputs], [*gradients]
    shardings = _returned(program)
    values = [constrained(x, s) for x, s in zip((*outputs, *gradients), shardings, strict=True)]
    return values[: len(outputs)], values[len(outputs) :]


def _returned(program: Program) -> tuple[Any, ...]:
    graph = program.graph
    inputs = (*graph.inputs, *graph.constants)
    places = {v: k for k, v in enumerate(inputs)}
    key = (
        segment_key(graph.operations, inputs, graph.outputs),
        tuple(v.sharding for v in inputs),
        tuple(places[v] for v in program.wrt),
        tuple(graph.outputs.index(v) for v in program.seeds),
    )
    found: _Returned | None = _RECENT.get(key)
    if found is None:
        found = _Returned(tuple(_asked(program, inputs)))
        _RECENT.put(key, found, (op.params for op in graph.operations))
    return found.shardings


def _asked(program: Program, inputs: Sequence[Any]) -> list[Any]:
    mesh = mesh_of(v.sharding for v in program.graph.variables)
    assert isinstance(mesh, Mesh)
    count = len(program.graph.inputs)
    stages = range(len(program.stages))

    def run(*values: Any) -> list[Any]:
        # Forms that say where values lie are not what the user wrote.
        execution = Execution(program, values[:count], Isolation.NONE, functions_as_written)
        execution.env.update(zip(inputs[count:], values[count:], strict=True))
        execution.run(Forward(i, 0) for i in stages)
        execution.seed([filled(cotangent_type(v.aval), 1) for v in program.seeds])
        execution.run(Backward(i) for i in reversed(stages))
        outputs: Sequence[Atom] = program.graph.outputs
        return [*(execution.output(a) for a in outputs), *(execution.gradient(v) for v in program.wrt)]

    return result_shardings(run, [laid_out_struct(v) for v in inputs], mesh)
