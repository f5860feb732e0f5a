"""A step of a loop run forward, again and backward, given what is kept of it for its backward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jax import lax

from ckptgrad.graph.evaluate import read
from ckptgrad.graph.graph import Operation, Variable, variables_of
from ckptgrad.graph.traits import is_product, is_same_numbers
from ckptgrad.loops.body import Body
from ckptgrad.once import once
from ckptgrad.rules.decorators import instantiate
from ckptgrad.rules.subgraphs import typed
from ckptgrad.stage.partition import Partition, partition, run_operations


class Replay:
    """A step, and what is kept of it.

    Attributes:
        body: the body of the loop.
        part: its joint graph, split by what is kept.
        carry_reads, next_reads: positions of carried values that the backward reads as they enter, and as they leave.
        x_reads: positions of the stacked inputs that it reads.
        private: the other values that are kept.
        stacked_only: outputs that are not carried on, entry buffers included: a step that runs again need not make them.
        sliced: the stacked inputs of which the backward slices its entry before products read it.
    """

    def __init__(self, body: Body, part: Partition, slices_first: bool = False) -> None:
        """
        Args:
            body: the body of the loop.
            part: its joint graph, split by what is kept.
            slices_first: whether what products read of stacks is sliced before (`Platform.slices_first`).
        """
        self.body, self.part = body, part
        n, c = body.num_consts, body.num_carry
        position = {v: i for i, v in reversed([*enumerate(part.joint.inputs)])}
        self.reads = [position[v] for v in part.reads]
        self.carry_reads = [i - n for i in self.reads if n <= i < n + c]
        self.x_reads = [i - n - c for i in self.reads if i >= n + c]
        leaving: dict[Variable, int] = {}
        for i, a in enumerate(part.joint.outputs[:c]):
            if (
                isinstance(a, Variable)
                and i in body.moving
                and (a.shape, a.dtype) == (body.carry_avals[i].shape, body.carry_avals[i].dtype)
            ):
                leaving.setdefault(a, i)
        self.next_of = {v: leaving[v] for v in part.residuals if v in leaving}
        self.next_reads = list(self.next_of.values())
        self.private = [v for v in part.residuals if v not in leaving]
        outputs = part.joint.outputs
        buffers = {b.position for b in body.entry_buffers}
        carried_out = {a for i, a in enumerate(outputs[:c]) if isinstance(a, Variable) and i not in buffers}
        others = [*outputs[c:], *(outputs[i] for i in buffers)]
        self.stacked_only = [a for a in others if isinstance(a, Variable) and a not in carried_out]
        stacks = part.joint.inputs[n + c :]
        multiplied = _multiplied(part.backward_run.operations) if slices_first else frozenset()
        self.sliced = frozenset(v for v in stacks if v in multiplied)

    def first(self, consts: Sequence[Any], carry: Sequence[Any], xs: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """The values carried on and the stacked outputs, effects included."""
        outputs = typed(self.body.applied(*consts, *carry, *xs), self.body.out_avals)
        return outputs[: self.body.num_carry], outputs[self.body.num_carry :]

    def first_kept(
        self, consts: Sequence[Any], carry: Sequence[Any], xs: Sequence[Any]
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """The values carried on, the stacked outputs and the private values, effects included."""
        c = self.body.num_carry
        outputs, residuals = self.part.run_forward([*consts, *carry, *xs])
        kept = dict(zip(self.part.residuals, residuals, strict=True))
        outputs = typed(outputs, self.body.out_avals)
        return outputs[:c], outputs[c:], [kept[v] for v in self.private]

    def advance(self, consts: Sequence[Any], carry: Sequence[Any], xs: Sequence[Any]) -> list[Any]:
        """The values carried on, and nothing else."""
        c = self.body.num_carry
        outputs, _ = self._plain.run_forward([*consts, *carry, *xs], again=True, unwanted=self.stacked_only)
        return self._carried(outputs[:c], carry)

    def keep(self, consts: Sequence[Any], carry: Sequence[Any], xs: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """The values carried on, and the private values."""
        c = self.body.num_carry
        unwanted = [v for v in self.stacked_only if v not in self.private]
        outputs, residuals = self.part.run_forward([*consts, *carry, *xs], again=True, unwanted=unwanted)
        kept = dict(zip(self.part.residuals, residuals, strict=True))
        return self._carried(outputs[:c], carry), [kept[v] for v in self.private]

    def _carried(self, outputs: Sequence[Any], before: Sequence[Any]) -> list[Any]:
        """The values carried on, entry buffers staying as they are."""
        buffers = {b.position for b in self.body.entry_buffers}
        pairs = zip(outputs, self.body.carry_avals, strict=True)
        return [before[i] if i in buffers else typed([x], [aval])[0] for i, (x, aval) in enumerate(pairs)]

    @once
    def _plain(self) -> Partition:
        return partition(self.part.joint, ())

    def backward_env(
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
            cotangents: as `Body.cotangents` orders them.
        """
        n, c = self.body.num_consts, self.body.num_carry
        into, stacked = iter(arriving), iter(xs)
        reads = [consts[i] if i < n else next(into) if i < n + c else next(stacked) for i in self.reads]
        names = (self.part.joint.inputs[i] for i in self.reads)
        reads = [lax.optimization_barrier(x) if v in self.sliced else x for v, x in zip(names, reads, strict=True)]
        kept = {**dict(zip(self.private, private, strict=True)), **dict(zip(self.next_of, leaving, strict=True))}
        return self.part.backward_env([kept[v] for v in self.part.residuals], reads, cotangents)

    def back(self, start: Mapping[Variable, Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Gradients of constants (None where zero), carried values and stacked inputs.

        Args:
            start: what the backward starts from, by variable (`backward_env`).
        """
        env = dict(start)
        run_operations(self.part.backward_run.operations, env)
        return self.divide([None if g is None else read(env, g) for g in self.part.joint.gradients])

    def divide(self, gradients: Sequence[Any | None]) -> tuple[list[Any], list[Any], list[Any]]:
        """All gradients of a step, divided into those of constants (None where zero), carried values and stacked inputs."""
        wrt = [v for v, needed in zip(self.body.joint.inputs, self.body.needs, strict=True) if needed]
        k = len(self.body.active_consts)
        m = k + len(self.body.active_carry)
        full = [instantiate(g, v.aval) for g, v in zip(gradients[k:], wrt[k:], strict=True)]
        return list(gradients[:k]), full[: m - k], full[m - k :]


def _multiplied(operations: Sequence[Operation]) -> frozenset[Variable]:
    """What products read, directly or as views."""
    sources: dict[Variable, Variable] = {}
    found: set[Variable] = set()
    for op in operations:
        read_ = [sources.get(v, v) for v in variables_of(op.inputs)]
        if is_product(op):
            found.update(read_)
        elif is_same_numbers(op):
            sources.update(dict.fromkeys(op.outputs, read_[0]))
    return frozenset(found)
