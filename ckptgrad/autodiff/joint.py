"""The joint forward and backward graph of a function, and its partition into the two.

`joint` differentiates a graph symbol-to-symbol: one Graph with the forward operations and the
operations of the gradient.  `partition` splits it, given what to keep: the forward graph returns
the kept values besides its outputs, the backward graph recomputes whatever else it reads from
what was kept and from the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax

from ckptgrad.autodiff.reverse import accumulate, backpropagate, forward
from ckptgrad.graph.effects import silent
from ckptgrad.graph.evaluate import apply, needed_operations, read
from ckptgrad.graph.graph import Atom, Graph, Operation, Variable, variables_of
from ckptgrad.graph.origins import loose_sources
from ckptgrad.graph.simplify import merge_common
from ckptgrad.graph.trace import cotangent_struct, from_jaxpr, struct


@dataclass(frozen=True)
class Joint:
    """A joint graph: inputs and cotangents in, outputs and gradients out.

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

    @cached_property
    def backward_operations(self) -> list[Operation]:
        """The operations that depend on a cotangent."""
        tainted: set[Any] = set(self.cotangents)
        found = []
        for op in self.operations:
            if any(a in tainted for a in op.inputs):
                tainted.update(op.outputs)
                found.append(op)
        wanted = [g for g in self.gradients if g is not None]
        kept = set(needed_operations(found, wanted))
        return [op for op in found if op in kept]

    @cached_property
    def forward_operations(self) -> list[Operation]:
        """The operations that depend on no cotangent."""
        tainted: set[Any] = set(self.cotangents)
        found = []
        for op in self.operations:
            if any(a in tainted for a in op.inputs):
                tainted.update(op.outputs)
            else:
                found.append(op)
        return found

    @cached_property
    def frontier(self) -> list[Variable]:
        """The forward values that backward operations (or gradients) read directly, in order."""
        made = {v for op in self.forward_operations for v in op.outputs} | set(self.inputs)
        read_: dict[Variable, None] = {}
        for op in self.backward_operations:
            read_.update((a, None) for a in variables_of(op.inputs) if a in made)
        read_.update((a, None) for a in self.gradients if isinstance(a, Variable) and a in made)
        return list(read_)


def joint(graph: Graph, wrt: Sequence[Variable], seeds: Sequence[Atom]) -> Joint:
    """Differentiate a graph symbol-to-symbol.

    Args:
        graph: the forward graph.
        wrt: the inputs to differentiate with respect to.
        seeds: the outputs that receive a cotangent; an atom that stands twice receives the sum.
    """
    present: list[bool] = []

    def run(args, cotangents):
        tape = forward(graph, args, wrt)
        table: dict[Variable, Any] = {}
        for atom, ct in zip(seeds, cotangents, strict=True):
            if isinstance(atom, Variable):
                accumulate(table, atom, ct)
        found = backpropagate(tape, table, wrt)
        present[:] = [g is not None for g in found]
        return [read(tape.env, a) for a in graph.outputs], [g for g in found if g is not None]

    structs = [struct(v.aval) for v in graph.inputs]
    seed_structs = [cotangent_struct(v.aval) for v in seeds]
    merged = merge_common(from_jaxpr(jax.make_jaxpr(run)(structs, seed_structs)))
    gradients = iter(merged.outputs[len(graph.outputs) :])
    return Joint(
        merged.inputs[: len(structs)],
        merged.inputs[len(structs) :],
        merged.outputs[: len(graph.outputs)],
        tuple(next(gradients) if p else None for p in present),
        merged.operations,
        merged.constants,
    )


class Env(dict[Variable, Any]):
    """Values by variable; of some, this run sees views of its own.

    All its readers see the same view: a compiler may fuse the view with what made the value, and another reader
    would then keep both alive.
    """

    def __init__(self, constants: dict[Variable, Any], views: Views | None = None):
        super().__init__(constants)
        self.views = views
        if views is not None:
            self.bind([v for v in constants if v in views.of], [constants[v] for v in constants if v in views.of])

    def bind(self, variables: Sequence[Variable], values: Sequence[Any]) -> None:
        """Set the values of variables, or the views of these."""
        self.update(zip(variables, values, strict=True))
        if self.views is not None:
            seen = [v for v in variables if v in self.views.of]
            if seen:
                self.update(zip(seen, self.views.apart(seen, [self[v] for v in seen]), strict=True))


@dataclass(frozen=True)
class Views:
    """What a run holds apart, so that a compiler does not merge it with an earlier one.

    Attributes:
        of: the variables.
        apart: from variables and their values to views of these.
    """

    of: Collection[Variable]
    apart: Callable[[Sequence[Variable], list[Any]], list[Any]]


@dataclass(frozen=True)
class Tie:
    """A product that waits: its `operand` is viewed through a predicate on what `first` makes."""

    first: Operation
    operand: Variable


@dataclass(frozen=True)
class Order:
    """Operations that wait for others.

    Attributes:
        ties: what waits for what.
        after: from a value that must be there and an operand to a view of the operand.
    """

    ties: Mapping[Operation, Tie]
    after: Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Finish:
    """Results to make at the end of a run by one function.

    Attributes:
        results: the variables.
        last: the operations of that function; without them it is the identity.
        settle: runs that function on its operands.
    """

    results: Sequence[Variable]
    last: Sequence[Operation]
    settle: Callable[[Callable[[list[Any]], list[Any]], list[Any]], list[Any]]


@dataclass(frozen=True)
class Partition:
    """A joint graph split by what is kept.

    Attributes:
        residuals: the variables kept besides the inputs.
        forward_operations: what the forward pass runs: inputs to outputs and residuals.
        reads: the inputs that the backward pass reads.
        recomputed: forward operations that the backward pass runs again, in order.
    """

    joint: Joint
    residuals: tuple[Variable, ...]
    forward_operations: tuple[Operation, ...]
    reads: tuple[Variable, ...]
    recomputed: tuple[Operation, ...]

    @cached_property
    def forward_again(self) -> tuple[Operation, ...]:
        """What a forward pass runs when it is not the first: without effects that nothing reads."""
        wanted = [*self.joint.outputs, *self.residuals]
        return tuple(silent(op) for op in needed_operations(self.forward_operations, wanted, effects=False))

    def run_forward(
        self,
        inputs: Sequence[Any],
        again: bool = False,
        finish: Finish | None = None,
        views: Views | None = None,
    ) -> tuple[list[Any], list[Any]]:
        """Outputs and residuals; `again` leaves out effects, which happened the first time."""
        operations = self.forward_again if again else self.forward_operations
        env = Env(self.joint.constants, views)
        env.bind(self.joint.inputs, inputs)
        _run_and_finish(operations, env, [*variables_of(self.joint.outputs), *self.residuals], finish)
        return [read(env, a) for a in self.joint.outputs], [env[v] for v in self.residuals]

    def run_backward(
        self,
        residuals: Sequence[Any],
        reads: Sequence[Any],
        cotangents: Sequence[Any],
        views: Views | None = None,
        finish: Finish | None = None,
        order: Order | None = None,
    ) -> list[Any]:
        """Gradients (None where zero).

        Args:
            residuals, reads: values in the order of the attributes of these names.
            cotangents: in the order of `joint.cotangents`.
            views: the values of which this run gets views of its own.
            finish: what to do at the end by one function.
            order: which operations wait for others.
        """
        env = Env(self.joint.constants, views)
        env.bind(self.residuals, residuals)
        env.bind(self.reads, reads)
        env.bind(self.joint.cotangents, cotangents)
        run_operations(self.recomputed, env)
        gradients = [g for g in self.joint.gradients if isinstance(g, Variable)]
        _run_and_finish(self.joint.backward_operations, env, gradients, finish, order)
        return [None if a is None else read(env, a) for a in self.joint.gradients]

    def restart_values(self, guarded: Collection[Variable]) -> list[Variable]:
        """The residuals and guarded inputs that the recomputation reads, and what else ties it to this run."""
        known = {*self.residuals, *guarded}
        seen = list(dict.fromkeys(a for op in self.recomputed for a in variables_of(op.inputs) if a in known))
        return seen + loose_sources(self.recomputed, seen)


def partition(joint: Joint, keep: Sequence[Variable]) -> Partition:
    """Split a joint graph; `keep` are forward values to hold for the backward pass."""
    keep = tuple(v for v in dict.fromkeys(keep) if v not in joint.inputs and v not in joint.constants)
    forward_operations = needed_operations(joint.forward_operations, [*joint.outputs, *keep])
    recomputed = needed_operations(joint.forward_operations, joint.frontier, given=keep, effects=False)
    used = {a for op in (*recomputed, *joint.backward_operations) for a in variables_of(op.inputs)}
    used.update(a for a in joint.gradients if isinstance(a, Variable))
    return Partition(
        joint,
        tuple(v for v in keep if v in used),
        tuple(forward_operations),
        tuple(v for v in joint.inputs if v in used),
        tuple(silent(op) for op in recomputed),
    )


def _run_and_finish(
    operations: Sequence[Operation],
    env: Env,
    wanted: Sequence[Variable],
    finish: Finish | None,
    order: Order | None = None,
) -> None:
    """Run what makes `wanted`, ending with `finish`."""
    results = list(dict.fromkeys(finish.results)) if finish else []
    if finish is None or not results:
        run_operations(needed_operations(operations, wanted), env, order)
        return
    made = {v for op in finish.last for v in op.outputs}
    reads = [v for op in finish.last for v in variables_of(op.inputs)] + results
    operands = [v for v in dict.fromkeys(reads) if v not in made]
    others = [v for v in wanted if v not in results]
    run_operations(needed_operations(operations, [*others, *operands]), env, order)

    def last_work(values):
        inside = Env(dict(zip(operands, values, strict=True)))
        run_operations(finish.last, inside)
        return [inside[v] for v in results]

    env.update(zip(results, finish.settle(last_work, [env[v] for v in operands]), strict=True))


def run_operations(operations: Sequence[Operation], env: Env, order: Order | None = None) -> None:
    """Run operations in an environment, in order but for those that `order` makes wait for later ones."""
    done: set[Operation] = set()
    present = set(operations)
    for op in operations:
        if op in done:
            continue
        values = None
        if order is not None and op in order.ties and order.ties[op].first in present:
            tie = order.ties[op]
            earlier = needed_operations(operations, tie.first.outputs, given=env.keys(), effects=False)
            if op not in earlier:
                run_operations(earlier, env)
                done.update(earlier)
                seen = order.after(env[tie.first.outputs[0]], env[tie.operand])
                values = [seen if a is tie.operand else read(env, a) for a in op.inputs]
        env.bind(op.outputs, apply(op, values or [read(env, a) for a in op.inputs]))
