"""A joint graph split by what is kept: what the forward runs, and what the backward runs again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ckptgrad.graph.effects import silent
from ckptgrad.graph.evaluate import apply, needed_operations, read
from ckptgrad.graph.graph import Atom, Operation, Variable, variables_of
from ckptgrad.once import once
from ckptgrad.stage.joint import Joint

# From an operation and its inputs to its outputs.
Apply: TypeAlias = Callable[[Operation, Sequence[Any]], list[Any]]


@dataclass(frozen=True)
class Run:
    """A run of operations as a function: of what it reads and does not make itself, to what it makes for others."""

    operations: tuple[Operation, ...]
    makes: tuple[Variable, ...]

    @once
    def reads(self) -> tuple[Variable, ...]:
        made = {v for op in self.operations for v in op.outputs}
        read_ = [v for op in self.operations for v in variables_of(op.inputs)]
        return tuple(v for v in dict.fromkeys([*read_, *self.makes]) if v not in made)

    def __call__(self, values: Sequence[Any], apply: Apply = apply) -> list[Any]:
        """`apply` runs one operation."""
        env = dict(zip(self.reads, values, strict=True))
        run_operations(self.operations, env, apply)
        return [env[v] for v in self.makes]


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

    @once
    def forward_again(self) -> tuple[Operation, ...]:
        """What a forward pass runs when it is not the first: without effects that nothing reads."""
        results = [*self.joint.outputs, *self.residuals]
        return tuple(silent(op) for op in needed_operations(self.forward_operations, results, effects=False))

    def forward_run(self, again: bool = False, unwanted: Collection[Variable] = ()) -> Run:
        """What the forward runs, and the outputs and residuals that it makes; of `unwanted` outputs only residuals."""
        results = [*(a for a in self.joint.outputs if a not in unwanted), *self.residuals]
        operations = self.forward_again if again else self.forward_operations
        return _run(needed_operations(operations, results) if unwanted else operations, results)

    @once
    def backward_run(self) -> Run:
        """What the backward runs, and the gradients and late outputs that it makes."""
        results = (*self.joint.gradients, *self.joint.late)
        return _run([*self.recomputed, *self.joint.backward_operations], results)

    def run_forward(
        self, inputs: Sequence[Any], again: bool = False, unwanted: Collection[Variable] = ()
    ) -> tuple[list[Any], list[Any]]:
        """Outputs (None for `unwanted` and late ones) and residuals; `again` leaves out effects, which happened before."""
        env = {**self.joint.constants, **dict(zip(self.joint.inputs, inputs, strict=True))}
        run = self.forward_run(again, unwanted)
        env.update(zip(run.makes, run([env[v] for v in run.reads]), strict=True))
        left_out = {*unwanted, *self.joint.late}
        outputs = [None if a in left_out and a not in env else read(env, a) for a in self.joint.outputs]
        return outputs, [env[v] for v in self.residuals]

    def run_backward(self, residuals: Sequence[Any], reads: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        """Gradients (None where zero).

        Args:
            residuals, reads: values in the order of the attributes of these names.
            cotangents: in the order of `joint.cotangents`.
        """
        env, run = self.backward_env(residuals, reads, cotangents), self.backward_run
        env.update(zip(run.makes, run([env[v] for v in run.reads]), strict=True))
        return [None if a is None else read(env, a) for a in self.joint.gradients]

    def backward_env(self, residuals: Sequence[Any], reads: Sequence[Any], cotangents: Sequence[Any]) -> dict[Variable, Any]:
        """What the backward starts from, by variable."""
        variables = (*self.residuals, *self.reads, *self.joint.cotangents)
        return {**self.joint.constants, **dict(zip(variables, (*residuals, *reads, *cotangents), strict=True))}


def partition(joint: Joint, keep: Sequence[Variable]) -> Partition:
    """Split a joint graph; `keep` are forward values to hold for the backward, besides those that must not be made again."""
    return _keeping(joint, [*keep, *joint.made_once])


def all_again(joint: Joint) -> Partition:
    """A joint graph whose backward makes all that it reads again, decisions too, from what they were about, made again.

    Of a joint graph with results of side effects there is none.
    """
    assert joint.is_repeatable
    return _keeping(joint, ())


def _keeping(joint: Joint, keep: Sequence[Variable]) -> Partition:
    keep = tuple(v for v in dict.fromkeys(keep) if v not in joint.inputs and v not in joint.constants)
    forward_operations = needed_operations(joint.forward_operations, [*joint.outputs, *keep])
    recomputed = needed_operations(joint.forward_operations, joint.frontier, known=keep, effects=False)
    used = {a for op in (*recomputed, *joint.backward_operations) for a in variables_of(op.inputs)}
    used.update(a for a in joint.gradients if isinstance(a, Variable))
    return Partition(
        joint,
        tuple(v for v in keep if v in used),
        tuple(forward_operations),
        tuple(v for v in joint.inputs if v in used),
        tuple(silent(op) for op in recomputed),
    )


def _run(operations: Sequence[Operation], results: Sequence[Atom | None]) -> Run:
    made = {v for op in operations for v in op.outputs}
    return Run(tuple(operations), tuple(dict.fromkeys(a for a in results if isinstance(a, Variable) and a in made)))


def run_operations(operations: Sequence[Operation], env: dict[Variable, Any], apply: Apply = apply) -> None:
    """Run operations in an environment, in order; `apply` runs one."""
    for op in operations:
        env.update(zip(op.outputs, apply(op, [read(env, a) for a in op.inputs]), strict=True))
