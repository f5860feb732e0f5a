"""Where a gradient goes wrong: the stage, the operation, the user's line.

The chain is walked once, from the last stage to the first, with the values of one forward pass and the cotangents of
ckptgrad's own rules. Every boundary is kept: this is for debugging.

If ckptgrad's gradient differs from JAX's, both get the same cotangents of each stage, so that an error does not spread;
in a stage that differs, the same is done operation by operation, and inside loops step by step.
Where both use a rule of the user's (`jax.custom_vjp`, `jax.custom_jvp`), it is compared with the derivative of the
function to which it belongs, for the cotangents of the run and for random ones.

Not examined: `shard_map`, what solvers run, custom rules inside functions that have one themselves (those are not run
backward), and the steps of a while loop after its first.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ckptgrad.autodiff.cotangent import accumulate
from ckptgrad.doors.tracing import TracedChain
from ckptgrad.graph.effects import silent
from ckptgrad.graph.evaluate import needed_operations
from ckptgrad.graph.graph import Graph, Operation, Variable
from ckptgrad.results.finding import CUSTOM, RULE, UNCHECKED, UNLOCATED, Finding
from ckptgrad.validation.compare import difference, differences, tolerance_of
from ckptgrad.validation.custom_rules import CUSTOM_RULES, Deviation, deviations, function_of, has_rule_to_check
from ckptgrad.validation.local_cotangents import (
    Spot,
    bodies,
    local_cotangents,
    local_cotangents_by_jax,
    random_like,
    spots,
    with_zeros,
)


@dataclass(frozen=True)
class Located:
    """Findings in the order of the stages, and the number of calls of functions with custom rules that were checked."""

    findings: tuple[Finding, ...]
    checked: int


def locate_wrong(traced: TracedChain, tolerance: float | None, reference: Any, differing: Sequence[str]) -> Located:
    """Find the stages and operations where a gradient goes wrong.

    Args:
        traced: the traced call, with concrete arguments.
        tolerance: the largest relative difference allowed, or None for that of each dtype.
        reference: the gradient by `jax.grad`.
        differing: names of the policies whose gradients differ from it.
    """
    search = _Search(tolerance, bool(differing))
    stages = _stages(traced)
    table: dict[Variable, Any] = {v: jnp.ones(v.shape, v.dtype) for v in traced.program.seeds}
    for k in reversed(range(len(stages))):
        stage = stages[k]
        cotangents = [table.pop(v, None) for v in stage.outputs]
        if stage.wrt and any(ct is not None for ct in cotangents):
            input_cotangents = local_cotangents(stage.graph, stage.inputs, stage.wrt, cotangents)
            search.stage(k, stage, cotangents, input_cotangents)
            for i, ct in zip(stage.wrt, input_cotangents, strict=True):
                if ct is not None:
                    accumulate(table, stage.graph.inputs[i], ct)
    findings = search.findings
    if differing and not any(f.kind in (RULE, UNLOCATED) for f in findings):
        gradients = with_zeros([table.get(v) for v in traced.program.wrt], [v.aval for v in traced.program.wrt])
        agrees = difference(jax.tree.leaves(traced.gradients(gradients)), jax.tree.leaves(reference), tolerance).excess <= 1
        findings.append(Finding(UNLOCATED, detail=_why(agrees, differing)))
    order = sorted(findings, key=lambda f: len(stages) if f.stage is None else f.stage)
    return Located(tuple(order), search.checked)


def _why(agrees: bool, differing: Sequence[str]) -> str:
    if agrees:
        return (
            f"computed stage by stage, without a plan, the gradient agrees with jax.grad's: no rule is wrong; the fault is "
            f"in how {', '.join(differing)} runs them (schedule, loop plan or compilation)"
        )
    return "differs by accumulated rounding or in how cotangents are summed; no single operation is wrong"


@dataclass(frozen=True)
class _Stage:
    """A stage with its own operations (those of its kind carry another stage's source lines) and its inputs' values.

    Attributes:
        graph: from `inputs` to `outputs`.
        outputs: variables of the whole graph.
        inputs: one value per input.
        wrt: positions of the inputs that are differentiated.
    """

    graph: Graph
    outputs: tuple[Variable, ...]
    inputs: tuple[Any, ...]
    wrt: tuple[int, ...]


def _stages(traced: TracedChain) -> list[_Stage]:
    graph = traced.program.graph
    env: dict[Variable, Any] = dict(graph.constants)
    env.update(zip(graph.inputs, map(jnp.asarray, traced.call.leaves), strict=True))
    operations = iter(graph.operations)
    stages: list[_Stage] = []
    for stage in traced.program.stages:
        own = itertools.islice(operations, len(stage.kind.graph.operations))
        run = needed_operations(tuple(own), stage.outputs, effects=False)
        part = Graph(stage.inputs, stage.outputs, [silent(op) for op in run])
        inputs = tuple(env[v] for v in stage.inputs)
        env.update(zip(stage.outputs, part(*inputs), strict=True))
        stages.append(_Stage(part, stage.outputs, inputs, stage.kind.wrt))
    return stages


@dataclass(frozen=True)
class _Place:
    """A stage, and the loops and branches around one of its operations, outermost first."""

    stage: int
    around: tuple[Operation, ...] = ()

    def inside(self, op: Operation) -> _Place:
        return _Place(self.stage, (*self.around, op))


@dataclass
class _Search:
    """The walk under way.

    Attributes:
        tolerance: the largest relative difference allowed, or None for that of each dtype.
        against_jax: whether operations are compared with JAX's.
        findings: those made so far.
        checked: the number of calls of functions with custom rules so far.
        rng: draws random cotangents and nearby values; its seed is fixed.
    """

    tolerance: float | None
    against_jax: bool
    findings: list[Finding] = field(default_factory=list)
    checked: int = 0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def stage(self, k: int, stage: _Stage, cotangents: Sequence[Any], input_cotangents: Sequence[Any]) -> None:
        """Check one stage, given the cotangents of its outputs and those that ckptgrad derives for its inputs."""
        graph, inputs, wrt = stage.graph, stage.inputs, stage.wrt
        if self.against_jax:
            ours = with_zeros(input_cotangents, [graph.inputs[i].aval for i in wrt])
            stage_difference = difference(ours, local_cotangents_by_jax(graph, inputs, wrt, cotangents), self.tolerance)
            if stage_difference.excess > 1:
                visit = spots(graph, inputs, wrt, cotangents)
                wrong = [f for spot in visit for f in self._against_jax(spot, _Place(k))]
                detail = f"differs from jax.vjp's by {stage_difference.relative:.2g}, although none of its operations does"
                self.findings += wrong or [Finding(UNLOCATED, k, detail=detail)]
        if any(has_rule_to_check(op) for op in graph.operations):
            for spot in spots(graph, inputs, wrt, cotangents):
                self.findings += self._custom_rules(spot, _Place(k))

    def _against_jax(self, spot: Spot, place: _Place) -> list[Finding]:
        avals = [spot.op.inputs[i].aval for i in spot.differentiated]
        theirs = local_cotangents_by_jax(spot.graph, spot.inputs, spot.wrt, spot.cotangents)
        compared = differences(with_zeros(spot.input_cotangents, avals), theirs, self.tolerance)
        wrong = {
            i: self._deviation(d.relative, d.dtype)
            for i, d in zip(spot.differentiated, compared, strict=True)
            if d.excess > 1
        }
        if not wrong:
            return []
        return self._within(spot, place, self._against_jax) or _report(RULE, spot, place, wrong)

    def _custom_rules(self, spot: Spot, place: _Place) -> list[Finding]:
        if spot.op.name not in CUSTOM_RULES:
            return self._within(spot, place, self._custom_rules) if has_rule_to_check(spot.op) else []
        self.checked += 1
        drawn = [random_like(v.aval, self.rng) for v in spot.op.outputs]
        compared = [deviations(spot, cts, self.tolerance, self.rng) for cts in (spot.cotangents, drawn)]
        worst: dict[int, Deviation] = {}
        for i, deviation in (pair for by_position in compared for pair in by_position.items()):
            if i not in worst or deviation.excess > worst[i].excess:
                worst[i] = deviation
        findings = _report(CUSTOM, spot, place, {i: d for i, d in worst.items() if d.is_wrong})
        if len(worst) < len(spot.differentiated):
            detail = "neither the derivative of its function nor differences of its values are finite, so it was not checked"
            findings.append(_finding(UNCHECKED, spot, place, detail=detail))
        return findings

    def _within(self, spot: Spot, place: _Place, check: Callable[[Spot, _Place], list[Finding]]) -> list[Finding]:
        """The same check on each operation that a loop or branch runs, with random cotangents."""
        findings: dict[tuple[object, ...], Finding] = {}
        for body in bodies(spot):
            cotangents = [random_like(a.aval, self.rng) for a in body.graph.outputs]
            for inner in spots(body.graph, body.inputs, body.wrt, cotangents):
                for f in check(inner, place.inside(spot.op)):
                    # Once, though made at the first step and at the last.
                    findings.setdefault(f.place_in_stage, f)
        return list(findings.values())

    def _deviation(self, relative: float, dtype: str) -> Deviation:
        return Deviation(relative, tolerance_of(dtype) if self.tolerance is None else self.tolerance)


def _report(kind: str, spot: Spot, place: _Place, wrong: dict[int, Deviation]) -> list[Finding]:
    """One finding for each input whose cotangent is wrong."""
    skipped = spot.op.params["num_consts"] if kind == CUSTOM else 0
    return [
        _finding(
            kind, spot, place, input=i - skipped, shape=spot.op.inputs[i].aval.shape,
            dtype=str(spot.op.inputs[i].aval.dtype), relative=deviation.relative, allowed=deviation.allowed,
        )
        for i, deviation in sorted(wrong.items())
    ]  # fmt: skip


def _finding(kind: str, spot: Spot, place: _Place, **rest: Any) -> Finding:
    name, defined = function_of(spot.op) if spot.op.name in CUSTOM_RULES else (None, None)
    # JAX does not know the caller of a jit that was traced before.
    outer = next((op.source for op in reversed(place.around) if op.source), None)
    source = spot.op.source or defined or outer
    return Finding(kind, place.stage, spot.op.name, name, source, tuple(op.name for op in place.around), **rest)
