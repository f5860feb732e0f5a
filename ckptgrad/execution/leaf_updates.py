"""An optimizer's update taken apart by the gradients that it reads: what can be updated once one of them is complete.

What reads which gradient is proved from the operations of the update, not taken from the optimizer's name.  An operation
belongs to the gradient that it depends on; those that depend on none, such as a count and what is made of it, come first
where several updates read them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ckptgrad.errors import OptionError
from ckptgrad.execution.isolated import isolated
from ckptgrad.graph.evaluate import like_aval, needed_operations, read
from ckptgrad.graph.graph import Atom, Graph, Operation, Variable, variables_of
from ckptgrad.stage.partition import Run
from ckptgrad.target.platform import Isolation


@dataclass(frozen=True)
class LeafUpdates:
    """An update of a graph, in parts.

    Attributes:
        graph: from gradients, then whatever else is updated, to what these become.
        gradients: how many of its inputs, the first ones, are gradients.
        shared: what no gradient is needed for: outputs, and what several parts read.
        parts: for each gradient what it is needed for.
    """

    graph: Graph
    gradients: int
    shared: Run
    parts: tuple[Run, ...]

    def start(self, values: Sequence[Any]) -> dict[Variable, Any]:
        """The values that need no gradient; `values` are those of the inputs after the gradients."""
        env = dict(self.graph.constants)
        env.update(zip(self.graph.inputs[self.gradients :], values, strict=True))
        env.update(zip(self.shared.makes, self.shared([env[v] for v in self.shared.reads]), strict=True))
        return env

    def update(self, k: int, gradient: Any, env: Mapping[Variable, Any], isolation: Isolation) -> dict[Variable, Any]:
        """What becomes of everything that gradient `k` is needed for, isolated from the rest of the program."""
        part = self.parts[k]
        call = isolated(partial(part), isolation)
        known = {**env, self.graph.inputs[k]: gradient}
        return dict(zip(part.makes, call([known[v] for v in part.reads]), strict=True))

    def results(self, env: Mapping[Variable, Any]) -> list[Any]:
        """The values of the graph's outputs, once everything is updated."""
        return [like_aval(read(env, a), a.aval) for a in self.graph.outputs]


def split_update(graph: Graph, names: Sequence[str], optimizer: str) -> LeafUpdates:
    """Take an update apart.

    Args:
        graph: the update; its first inputs are gradients, one for each name.
        names: the user's names of what is differentiated.
        optimizer: its name, for errors.

    Raises:
        OptionError: something depends on several gradients, as with clipping by their global norm.
    """
    operations = needed_operations(graph.operations, graph.outputs)
    # Sets of gradients as the bits of a number.
    depends: dict[Atom, int] = {v: 1 << k for k, v in enumerate(graph.inputs[: len(names)])}
    for op in operations:
        depends.update(dict.fromkeys(op.outputs, _union(depends, op.inputs)))
        _check_one(_union(depends, op.inputs), names, optimizer, op)
    # For what each value is needed: bit 0 stands for results that need no gradient, the next one for those of the first.
    needed: dict[Atom, int] = {a: _place(depends.get(a, 0)) for a in graph.outputs}
    shared: list[Operation] = []
    parts: list[list[Operation]] = [[] for _ in names]
    for op in reversed(operations):
        depends_on = _union(depends, op.inputs)
        places = _union(needed, op.outputs) | (_place(depends_on) if op.effects else 0)
        for v in variables_of(op.inputs):
            needed[v] = needed.get(v, 0) | places
        alone = places & (places - 1) == 0 and places > 1
        (parts[places.bit_length() - 2] if alone else shared).append(op)
    results = {*variables_of(graph.outputs)}
    runs = [_run(part[::-1], results) for part in parts]
    return LeafUpdates(graph, len(names), _run(shared[::-1], results.union(*(run.reads for run in runs))), tuple(runs))


def _union(sets: Mapping[Atom, int], atoms: Sequence[Atom]) -> int:
    together = 0
    for a in atoms:
        together |= sets.get(a, 0)
    return together


def _place(gradients: int) -> int:
    return gradients << 1 or 1


def _run(operations: Sequence[Operation], wanted: Collection[Variable]) -> Run:
    return Run(tuple(operations), tuple(v for op in operations for v in op.outputs if v in wanted))


def _check_one(gradients: int, names: Sequence[str], optimizer: str, op: Operation) -> None:
    """Refuse an operation that reads several gradients.

    Raises:
        OptionError: it does; names two of them, and the line.
    """
    if gradients & (gradients - 1) == 0:
        return
    first, second, *others = (name for k, name in enumerate(names) if gradients >> k & 1)
    more = f" and {len(others)} more" if others else ""
    where = f" ({op.name} at {op.source})" if op.source is not None else f" ({op.name})"
    raise OptionError(
        f"with {optimizer} the update of {first} depends on the gradients of {second}{more} too{where}, as with clipping by "
        f"the global norm, so that none can be used before all are there; clip each by itself, as optax.clip and "
        f"optax.adaptive_grad_clip do, or update by value_and_grad, which holds all gradients"
    )
