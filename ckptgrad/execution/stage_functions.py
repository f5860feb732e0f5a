# pyright: reportUnknownMemberType=false
"""The forwards and backwards of a kind of stage as functions of arrays, isolated as it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp

from ckptgrad.chain.kind import PerKind, StageKind
from ckptgrad.chain.totals import in_place
from ckptgrad.execution.isolated import isolated
from ckptgrad.execution.lying import lying
from ckptgrad.execution.postponed import postponed
from ckptgrad.execution.xla_forms import apply_in_forms, rounding
from ckptgrad.graph.evaluate import read
from ckptgrad.graph.graph import Atom, Variable, variables_of
from ckptgrad.stage.partition import Apply, Partition, Run, partition
from ckptgrad.target.platform import Isolation


class StageFunctions:
    """The forwards and backwards of one kind of stage.

    Args:
        kind: of stage.
        isolation: how they are isolated.
        opened: whether they are for a program whose stages are open to each other: there a backward repeats nothing, but
            reads what the forward made. A compiler would merge a repetition, but for what it has rewritten by then: of
            convolutions on GPUs it merges a part only, and the rest runs twice.
        in_forms: whether operations run in the forms that the target wants, or as they are written.
    """

    def __init__(self, kind: StageKind, isolation: Isolation, opened: bool = False, in_forms: bool = True) -> None:
        self.kind, self._opened = kind, opened
        self._parts: dict[int, Partition] = {}
        self._isolation = isolation
        self._apply = apply_in_forms(kind.target.platform.forms if in_forms else ())
        self._forward: dict[tuple[int | None, bool, bool], tuple[Run, Any]] = {}
        self._backward: dict[tuple[int, tuple[int, ...]], tuple[Run, Any]] = {}

    def part(self, keep: int | None) -> Partition:
        """The stage split by a save option; None keeps nothing."""
        if keep is None:
            return self.kind.plain
        option = self.kind.options[keep]
        # What a user says may be kept is kept, and no more; nor are codes exchanged for the values.
        if not self._opened or self.kind.saveable is not None or option.encodings:
            return option.partition
        if keep not in self._parts:
            joint = option.partition.joint
            self._parts[keep] = partition(joint, joint.frontier)
        return self._parts[keep]

    def forward(self, keep: int | None, again: bool = False, output: bool = True) -> tuple[Run, Any]:
        """A run, and this run as a function of (values it reads, arrays to wait for), to values it makes.

        `keep` is the option whose residuals are made; `again` leaves out effects; without `output` the outgoing
        boundary is not made, if it is not a residual.
        """
        key = keep, again, output
        if key not in self._forward:
            run = self.part(keep).forward_run(again, () if output else self.kind.outputs_kept)
            self._forward[key] = run, isolated(self._run(run, self._rounding(keep)), self._isolation)
        return self._forward[key]

    def backward(self, keep: int, summed: tuple[int, ...] = ()) -> tuple[Run, Any]:
        """A run, and this run as a function of ((values it reads, totals), arrays to wait for), to values it makes.

        `summed` are the positions of gradients that come last among these, added to the totals: in place, where
        nothing else needs the totals.
        """
        if (keep, summed) not in self._backward:
            others, terms = self.backward_results(keep, summed)
            run = Run(self.part(keep).backward_run.operations, (*others, *variables_of(terms)))
            self._backward[keep, summed] = run, self._backward_function(run, others, terms)
        return self._backward[keep, summed]

    def _backward_function(self, run: Run, others: Sequence[Variable], terms: Sequence[Atom]) -> Any:
        late = Run((), ())
        if self._isolation is Isolation.WHOLE:
            late = postponed(run, {*others} - {*self.kind.crossing, *variables_of(terms)}, self.kind.target)
        sums = in_place(run.operations, terms, others)
        operations = tuple(op for op in sums.operations if op not in {*late.operations})
        made_early = {v for op in operations for v in op.outputs}
        given = [v for v in dict.fromkeys([*others, *late.reads]) if v in made_early]
        early = Run(operations, (*given, *variables_of(terms)))
        run_early = self._run(early)
        begun = {*sums.totals.values()}
        reads = [v for v in early.reads if v not in begun]

        def early_part(operands: Any) -> list[Any]:
            values, totals = operands
            env = dict(zip(reads, values, strict=True))
            env.update((sums.totals[a], t) for t, a in zip(totals, terms, strict=True) if a in sums.totals)
            made = run_early([env[v] for v in early.reads])
            env = dict(zip(early.makes, made, strict=True))
            pairs = zip(totals, terms, strict=True)
            return made[: len(given)] + [read(env, a) if a in sums.totals else jnp.add(t, read(env, a)) for t, a in pairs]

        call = isolated(early_part, self._isolation)

        def stage_backward(operands: Any, earlier: Sequence[Any] = ()) -> list[Any]:
            values, totals = operands
            env = dict(zip(run.reads, values, strict=True))
            made = call(([env[v] for v in reads], totals), earlier)
            env.update(zip(given, made[: len(given)], strict=True))
            env.update(zip(late.makes, late([env[v] for v in late.reads], self._apply), strict=True))
            return [env[v] for v in others] + made[len(given) :]

        return stage_backward

    def _rounding(self, keep: int | None) -> Apply:
        """How the operations of a forward run; where the platform wants that, what is kept is rounded to its own type.

        That was measured on one device only.
        """
        isolated_here = self._isolation is not Isolation.NONE and not self.kind.is_laid_out
        if keep is None or not isolated_here or not self.kind.target.platform.rounds_kept:
            return self._apply
        part = self.part(keep)
        return rounding(self._apply, part.forward_operations, part.residuals)

    def _run(self, run: Run, apply: Apply | None = None) -> Callable[[Sequence[Any]], list[Any]]:
        """A run as a function; where it is isolated its values lie over devices as they are counted."""
        plain = partial(run, apply=apply or self._apply)
        if self._isolation is Isolation.NONE or not self.kind.is_laid_out:
            return plain
        # Gradients that leave the program lie as those want who use them.
        leaving = {*variables_of(a for a in self.kind.joint.gradients if a is not None)} - {*self.kind.crossing}

        def call(values: Sequence[Any]) -> list[Any]:
            made = dict(zip(run.makes, plain(lying(run.reads, values)), strict=True))
            passed = [v for v in made if v not in leaving]
            made.update(zip(passed, lying(passed, [made[v] for v in passed]), strict=True))
            return [*made.values()]

        return call

    def backward_results(self, keep: int, summed: tuple[int, ...] = ()) -> tuple[list[Variable], list[Atom]]:
        """What a backward makes: gradients that come alone and late outputs, and gradients that are added to totals."""
        part = self.part(keep)
        gradients = part.joint.gradients
        alone = {*(a for k, a in enumerate(gradients) if k not in summed), *part.joint.late}
        terms = [a for k, a in enumerate(gradients) if k in summed and a is not None]
        return [v for v in part.backward_run.makes if v in alone], terms


_by_isolation = {way: PerKind(partial(StageFunctions, isolation=way)) for way in Isolation}
separate_functions = _by_isolation[Isolation.NONE]
open_functions = PerKind(partial(StageFunctions, isolation=Isolation.NONE, opened=True))
functions_as_written = PerKind(partial(StageFunctions, isolation=Isolation.NONE, opened=True, in_forms=False))


def stage_functions(kind: StageKind, isolation: Isolation | None = None) -> StageFunctions:
    """The functions of a kind, isolated so; None: in the way of its platform."""
    return _by_isolation[isolation or kind.target.platform.isolation](kind)
