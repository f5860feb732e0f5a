"""One step of a loop: what it reads and makes, and its derivative.

The body of a `scan` or `while` is a graph from (constants, carried values, stacked inputs) to (carried values, stacked
outputs).  `Step` differentiates it; `Kept` runs it forward and backward, given what is kept for the backward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import jax.numpy as jnp

from ckptgrad.graph.evaluate import needed_operations, read
from ckptgrad.graph.graph import Graph, Variable
from ckptgrad.loops.entry_buffers import Written, reading_back
from ckptgrad.rules.decorators import instantiate
from ckptgrad.rules.subgraphs import active_outputs, calls_custom_rule, carried, joint_of, typed
from ckptgrad.stage.joint import Joint
from ckptgrad.stage.partition import Partition, partition, run_operations


class Step:
    """The body of a loop divided into what is constant, carried and stacked, and differentiated.

    Attributes:
        body: from constants, carried values and stacked inputs to carried values and stacked outputs.
        needs: of its inputs, which are differentiated, what is carried included.
        active_consts, active_carry, active_xs, active_ys: positions of what has a gradient.
        indexed: which of the active constants are read entry by entry only: gradients are added in place to their sums.
        written: the carried buffers that are written entry by entry.
        wanted: for each result of the loop, whether it may get a cotangent; None: all may.  A stacked output that gets
            none has none at all: zeros are nan where they meet an infinite derivative.
        moving: positions of carried values that a step changes and a checkpoint holds.
    """

    def __init__(
        self,
        body: Graph,
        num_consts: int,
        num_carry: int,
        needs: Sequence[bool],
        planned: bool = False,
        written: Sequence[Written] = (),
        wanted: Sequence[bool] | None = None,
    ):
        self.body, self.planned, self.written, self.wanted = body, planned, tuple(written), wanted
        self.num_consts, self.num_carry = n, c = num_consts, num_carry
        self.needs = carried(body, needs, n, c)
        active = active_outputs(body, self.needs)
        self.active_consts = [i for i in range(n) if self.needs[i]]
        self.active_carry = [i for i in range(c) if self.needs[n + i]]
        self.active_xs = [i for i in range(len(body.inputs) - n - c) if self.needs[n + c + i]]
        stacked = [True] * (len(active) - c) if wanted is None else wanted[c:]
        self.active_ys = [i for i, (a, w) in enumerate(zip(active[c:], stacked, strict=True)) if a and w]
        self.indexed = [k for k, i in enumerate(self.active_consts) if _is_indexed(body, body.inputs[i])]
        buffers = {w.position for w in self.written}
        self.moving = [i for i in range(c) if body.outputs[i] is not body.inputs[n + i] and i not in buffers]
        self.carry_avals = [v.aval for v in body.inputs[n : n + c]]
        self.out_avals = [a.aval for a in body.outputs]

    @cached_property
    def joint(self) -> Joint:
        """The joint graph; loops inside are left to a plan if this one is.

        Written buffers are read back: their values are pairs of the buffer at the end and at the start.
        """
        seeded = [*self.active_carry, *(self.num_carry + i for i in self.active_ys)]
        totals = [self.body.inputs[self.active_consts[k]] for k in self.indexed]
        joined = joint_of(self.body, self.needs, seeded, self.planned, totals)
        carried_in = joined.inputs[self.num_consts : self.num_consts + self.num_carry]
        buffers = {carried_in[w.position]: (w, carried_in[w.counter]) for w in self.written}
        return replace(joined, operations=tuple(reading_back(joined.operations, buffers)))

    @cached_property
    def applied(self) -> Graph:
        """The body with custom rules applied: under differentiation a custom function's value is what its rule computes,
        which need not be what the function does.
        """
        if not calls_custom_rule(self.body):
            return self.body
        plain = joint_of(self.body, self.needs, [*self.active_carry, *(self.num_carry + i for i in self.active_ys)])
        forward = needed_operations(plain.forward_operations, plain.outputs)
        return Graph(plain.inputs, plain.outputs, forward, plain.constants)

    @property
    def carry_inputs(self) -> tuple[Variable, ...]:
        """The variables of what is carried into the step."""
        return self.joint.inputs[self.num_consts : self.num_consts + self.num_carry]

    @cached_property
    def invariant(self) -> set[Variable]:
        """Forward values that depend on constants of the loop alone: cheaper to redo than to store at each step."""
        found = {*self.joint.inputs[: self.num_consts], *self.joint.constants}
        for op in self.joint.forward_operations:
            if all(a in found for a in op.inputs if isinstance(a, Variable)):
                found.update(op.outputs)
        return found

    @cached_property
    def everything(self) -> Kept:
        """The step with all kept that its backward reads directly."""
        return Kept(self, partition(self.joint, [v for v in self.joint.frontier if v not in self.invariant]))

    def sums(self, wider: Any = None) -> list[Any]:
        """Zeros for the sums of gradients of constants, in `wider` where that is a wider dtype."""
        zeros = [instantiate(None, self.body.inputs[i].aval) for i in self.active_consts]
        if wider is None:
            return zeros
        return [z if k in self.indexed else z.astype(jnp.promote_types(z.dtype, wider)) for k, z in enumerate(zeros)]

    def cotangents(self, carry: Sequence[Any], stacked: Sequence[Any], sums: Sequence[Any]) -> list[Any]:
        """Those that a step's backward starts from: of active carried values and stacked outputs, and totals."""
        return [*carry, *stacked, *(sums[k] for k in self.indexed)]

    def added(self, sums: Sequence[Any], found: Sequence[Any]) -> list[Any]:
        """Sums of gradients of constants with those of a step added, where it has not done so."""
        pairs = enumerate(zip(sums, found, strict=True))
        return [s if d is None else d if k in self.indexed else jnp.add(s, d) for k, (s, d) in pairs]


class Kept:
    """A step, and what is kept of it.

    Attributes:
        part: the partition of the step's joint graph.
        carry_reads, next_reads: positions of carried values that the backward reads as they come in, and go out.
        x_reads: positions of the stacked inputs that it reads.
        private: the other values that are kept for it.
    """

    def __init__(self, step: Step, part: Partition):
        self.step, self.part = step, part
        n, c = step.num_consts, step.num_carry
        position = {v: i for i, v in reversed([*enumerate(part.joint.inputs)])}
        self.reads = [position[v] for v in part.reads]
        self.carry_reads = [i - n for i in self.reads if n <= i < n + c]
        self.x_reads = [i - n - c for i in self.reads if i >= n + c]
        leaving: dict[Any, int] = {}
        for i, a in enumerate(part.joint.outputs[:c]):
            if (
                isinstance(a, Variable)
                and i in step.moving
                and (a.shape, a.dtype) == (step.carry_avals[i].shape, step.carry_avals[i].dtype)
            ):
                leaving.setdefault(a, i)
        self.next_of = {v: leaving[v] for v in part.residuals if v in leaving}
        self.next_reads = list(self.next_of.values())
        self.private = [v for v in part.residuals if v not in leaving]
        outputs = part.joint.outputs
        buffers = {w.position for w in step.written}
        carried_out = {a for i, a in enumerate(outputs[:c]) if isinstance(a, Variable) and i not in buffers}
        others = [*outputs[c:], *(outputs[i] for i in buffers)]
        self.stacked_only = [a for a in others if isinstance(a, Variable) and a not in carried_out]

    def first(self, consts: Sequence[Any], carry: Sequence[Any], xs: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """What is carried on and the stacked outputs, effects included."""
        outputs = typed(self.step.applied(*consts, *carry, *xs), self.step.out_avals)
        return outputs[: self.step.num_carry], outputs[self.step.num_carry :]

    def first_kept(
        self, consts: Sequence[Any], carry: Sequence[Any], xs: Sequence[Any]
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """What is carried on, the stacked outputs and the private values, effects included."""
        c = self.step.num_carry
        outputs, residuals = self.part.run_forward([*consts, *carry, *xs])
        kept = dict(zip(self.part.residuals, residuals, strict=True))
        outputs = typed(outputs, self.step.out_avals)
        return outputs[:c], outputs[c:], [kept[v] for v in self.private]

    def advance(self, consts: Sequence[Any], carry: Sequence[Any], xs: Sequence[Any]) -> list[Any]:
        """What is carried on, and nothing else."""
        c = self.step.num_carry
        outputs, _ = self._plain.run_forward([*consts, *carry, *xs], again=True, unwanted=self.stacked_only)
        return self._carried(outputs[:c], carry)

    def keep(self, consts: Sequence[Any], carry: Sequence[Any], xs: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """What is carried on, and the private values."""
        c = self.step.num_carry
        unwanted = [v for v in self.stacked_only if v not in self.private]
        outputs, residuals = self.part.run_forward([*consts, *carry, *xs], again=True, unwanted=unwanted)
        kept = dict(zip(self.part.residuals, residuals, strict=True))
        return self._carried(outputs[:c], carry), [kept[v] for v in self.private]

    def _carried(self, outputs: Sequence[Any], before: Sequence[Any]) -> list[Any]:
        """What is carried on, written buffers staying as they are."""
        buffers = {w.position for w in self.step.written}
        pairs = zip(outputs, self.step.carry_avals, strict=True)
        return [before[i] if i in buffers else typed([x], [aval])[0] for i, (x, aval) in enumerate(pairs)]

    @cached_property
    def _plain(self) -> Partition:
        return partition(self.part.joint, ())

    def given(
        self,
        consts: Sequence[Any],
        arriving: Sequence[Any],
        leaving: Sequence[Any],
        private: Sequence[Any],
        xs: Sequence[Any],
        cotangents: Sequence[Any],
    ) -> dict[Variable, Any]:
        """What the backward starts from, by variable.

        Args:
            consts: the constants.
            arriving, leaving: the carried values of `carry_reads` and `next_reads`.
            private: the values of `private`.
            xs: the stacked inputs of `x_reads`.
            cotangents: as `Step.cotangents` orders them.
        """
        n, c = self.step.num_consts, self.step.num_carry
        into, stacked = iter(arriving), iter(xs)
        reads = [consts[i] if i < n else next(into) if i < n + c else next(stacked) for i in self.reads]
        kept = {**dict(zip(self.private, private, strict=True)), **dict(zip(self.next_of, leaving, strict=True))}
        return self.part.given([kept[v] for v in self.part.residuals], reads, cotangents)

    def back(self, given: Mapping[Variable, Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Gradients of constants (None where zero), carried values and stacked inputs, from what `given` gives."""
        env = dict(given)
        run_operations(self.part.backward_run.operations, env)
        return self.divide([None if g is None else read(env, g) for g in self.part.joint.gradients])

    def divide(self, found: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Gradients of constants (None where zero), carried values and stacked inputs."""
        wrt = [v for v, needed in zip(self.step.joint.inputs, self.step.needs, strict=True) if needed]
        k = len(self.step.active_consts)
        m = k + len(self.step.active_carry)
        full = [instantiate(g, v.aval) for g, v in zip(found[k:], wrt[k:], strict=True)]
        return list(found[:k]), full[: m - k], full[m - k :]


def _is_indexed(body: Graph, constant: Variable) -> bool:
    """Whether a constant is read entry by entry only."""
    readers = body.consuming_operations(constant)
    reads = all(op.name in ("dynamic_slice", "gather") and op.inputs[0] is constant for op in readers)
    return bool(readers) and reads and not any(a is constant for a in body.outputs)
