"""A schedule as one traceable function: the compiled runtime.

`Execution` interprets the actions of a schedule on arrays or tracers.  Under `jax.jit` the actions
are gone after tracing, and what is left is one program in which each distinct stage's forward and
backward is one function, called where the schedule says.  XLA frees a buffer after its last use, so
the schedule's lifetimes become the program's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ckptgrad.autodiff.joint import Finish, Order, Views
from ckptgrad.autodiff.order import parameter_gradients_first
from ckptgrad.chain.footprint import feeds_heavy_directly, fused_into, is_materialised, last_work
from ckptgrad.chain.program import Program, Stage, StageKind
from ckptgrad.errors import ScheduleError
from ckptgrad.graph.evaluate import like_aval
from ckptgrad.graph.graph import Constant, Operation, Variable
from ckptgrad.graph.origins import half_operands, loose_sources, made_of_nothing
from ckptgrad.graph.work import is_heavy
from ckptgrad.planning.schedule import Action, Backward, Forward, Free, Schedule
from ckptgrad.runtime.apart import hold_apart, make_apart, settle, token_of, widen_apart


class StageFunctions:
    """The traceable forward and backward of one kind of stage, jitted once an option."""

    def __init__(self, kind: StageKind):
        self.kind = kind
        self._forward: dict[tuple[int | None, bool, frozenset[int]], Any] = {}
        self._backward: dict[int, Any] = {}

    def forward(self, keep: int | None, again: bool, settled: frozenset[int]) -> Any:
        """inputs -> (outputs, residuals of option `keep`).

        `again` leaves out effects; `settled` are the places in the outgoing boundary of values to put in memory if
        they are streams with a branch added.
        """
        if (keep, again, settled) not in self._forward:
            part = self.kind.plain if keep is None else self.kind.options[keep].partition
            leaving = [part.joint.outputs[i] for k, i in enumerate(self.kind.boundary_out) if k in settled]
            stream = [v for v in self.kind.stream if v in leaving]
            operations = part.forward_again if again else part.forward_operations
            last = fused_into(operations, stream)
            inputs_ = part.joint.inputs
            # What does not wait for the boundary would be done for all stages at once.
            is_loose = again or keep is None or any(is_heavy(op) for op in part.recomputed)
            loose = loose_sources(operations, [inputs_[i] for i in self.kind.entry]) if is_loose else ()
            halves = half_operands(operations, inputs_) if again else ()
            made = made_of_nothing(operations, self.kind.outputs_kept, _needs_memory) if again else ()

            def stage_forward(inputs, latest):
                arriving = token_of([inputs[i] for i in self.kind.boundary_in])
                views = _views(loose, halves, made, token_of(latest) if arriving is None else arriving)
                return part.run_forward(inputs, again, _finish(stream, last, arriving), views)

            self._forward[keep, again, settled] = jax.jit(stage_forward)
        return self._forward[keep, again, settled]

    def backward(self, keep: int) -> Any:
        """(residuals, reads, cotangents) -> gradients, without the zero ones."""
        if keep not in self._backward:
            part = self.kind.options[keep].partition
            entry = [part.joint.inputs[i] for i in self.kind.entry]
            flowing = set(self.kind.boundary_in)
            back = [*part.recomputed, *part.joint.backward_operations]
            crossing = [g for g in self.kind.crossing if fused_into(back, [g])]
            last = last_work(back, crossing)
            little = bool(last)
            seen = part.restart_values(entry)
            halves = half_operands(back, part.reads)
            made = made_of_nothing(back, (), _needs_memory)
            ties = parameter_gradients_first(part.joint)

            def stage_backward(residuals, reads, cotangents):
                token = token_of(cotangents)
                if not little and not any(ct.ndim for ct in cotangents):
                    # The cotangent of a loss is the constant 1: a predicate on it is folded.  That is as well where all
                    # residuals are held and a little work twice is better than one array more.
                    token = token_of([*residuals, *reads, *cotangents])
                finish, views = _finish(crossing, last, token), _views(seen, halves, made, token)
                found = part.run_backward(residuals, reads, cotangents, views, finish, Order(ties, _after))
                if self.kind.flows_free:
                    found = _after_the_others(found, [i in flowing for i in self.kind.wrt])
                return [g for g in found if g is not None]

            self._backward[keep] = jax.jit(stage_backward)
        return self._backward[keep]


def _views(seen: Sequence[Variable], halves: Sequence[Variable], made: Sequence[Variable], token: Any) -> Views:
    """Views of `seen`, of `halves` where products widen their operands, and of what is made of nothing."""
    ways = {**dict.fromkeys(halves, widen_apart), **dict.fromkeys(made, make_apart), **dict.fromkeys(seen, hold_apart)}

    def apart(variables: Sequence[Variable], values: list[Any]) -> list[Any]:
        found = list(values)
        for way in (hold_apart, widen_apart, make_apart):
            places = [k for k, v in enumerate(variables) if ways[v] is way]
            for k, view in zip(places, way([values[k] for k in places], token), strict=True):
                found[k] = view
        return found

    return Views({*ways}, apart)


def _after(first: Any, operand: Any) -> Any:
    return hold_apart([operand], token_of([first]))[0]


def _finish(results: Sequence[Variable], last: Sequence[Operation], token: Any) -> Finish:
    return Finish(results, last, lambda function, operands: settle(function, operands, token))


def _needs_memory(op: Operation) -> bool:
    return is_materialised(op) or op.name.startswith("scatter")


def _after_the_others(gradients: list[Any], crossing: Sequence[bool]) -> list[Any]:
    """Gradients of which the crossing ones depend on the others."""
    others = [g for g, crosses in zip(gradients, crossing, strict=True) if not crosses]
    token = token_of(others)
    held = iter(hold_apart([g for g, c in zip(gradients, crossing, strict=True) if c and g is not None], token))
    return [next(held) if c and g is not None else g for g, c in zip(gradients, crossing, strict=True)]


def stage_functions(kind: StageKind) -> StageFunctions:
    """The functions of a kind, made once and kept on the kind."""
    return kind.attached.setdefault("functions", StageFunctions(kind))


def flows_on(program: Program, i: int) -> frozenset[int]:
    """Which values of boundary `i` + 1 no heavy operation of the next stage reads, so that XLA may not put them in memory.

    Positions in the boundary; of these the forward settles those that are streams.
    """
    if i + 1 == len(program.stages):
        return frozenset()
    stage, following = program.stages[i], program.stages[i + 1]
    operations, inputs = following.kind.plain.forward_operations, following.kind.joint.inputs
    arriving = [inputs[following.inputs.index(v)] for v in stage.boundary_out]
    return frozenset(k for k, v in enumerate(arriving) if not feeds_heavy_directly(operations, v))


class Execution:
    """The state of a schedule as it runs.

    Attributes:
        table: the gradient table, by variable of the program's graph.
    """

    def __init__(self, program: Program, args: Sequence[Any]):
        self.program = program
        self.functions = {kind: stage_functions(kind) for kind in program.kinds}
        self.env: dict[Variable, Any] = dict(program.graph.constants)
        self.env.update(zip(program.graph.inputs, args, strict=True))
        self.boundaries: dict[int, dict[Variable, Any]] = {0: {}}
        self.residuals: dict[int, tuple[int, list[Any]]] = {}
        self.table: dict[Variable, Any] = {}
        self.latest: list[Any] = []
        self._used: set[int] = set()
        self._ever: set[int] = set()

    def fork(self) -> Execution:
        """A copy that can go on without changing this one (arrays are shared)."""
        other = Execution.__new__(Execution)
        other.__dict__ = {
            k: v.copy() if isinstance(v, (dict, set, list)) and k != "functions" else v for k, v in self.__dict__.items()
        }
        return other

    def arrays(self) -> list[Any]:
        """All arrays that the execution holds, in a fixed order."""
        found = [*self.env.values(), *self.latest]
        found += [x for boundary in self.boundaries.values() for x in boundary.values()]
        return found + [x for _, kept in self.residuals.values() for x in kept]

    def with_arrays(self, arrays: Iterable[Any]) -> Execution:
        """A copy that holds other arrays in their places."""
        rest, other = iter(arrays), self.fork()
        other.env = {v: next(rest) for v in self.env}
        other.latest = [next(rest) for _ in self.latest]
        other.boundaries = {i: {v: next(rest) for v in boundary} for i, boundary in self.boundaries.items()}
        other.residuals = {i: (keep, [next(rest) for _ in kept]) for i, (keep, kept) in self.residuals.items()}
        return other

    def run(self, actions: Iterable[Action]) -> Execution:
        """Execute actions in order."""
        for action in actions:
            match action:
                case Forward(stage, keep, output):
                    self.run_forward(stage, keep, output)
                case Backward(stage):
                    self.run_backward(stage)
                case Free(boundary):
                    self.boundaries.pop(boundary, None)
        return self

    def seed(self, cotangents: Sequence[Any]) -> None:
        """Set the cotangents of the program's seeds, in order."""
        self.latest = list(cotangents)
        for v, ct in zip(self.program.seeds, cotangents, strict=True):
            self._add(v, ct)

    def run_forward(self, i: int, keep: int | None, output: bool) -> None:
        stage = self.program.stages[i]
        values = self._inputs(i, stage)
        if i in self._used or (i in self._ever and not stage.boundary_in):
            entry = stage.kind.entry
            seen = hold_apart([values[k] for k in entry], token_of(self.latest))
            for k, value in zip(entry, seen, strict=True):
                values[k] = value
                if stage.inputs[k] in self.boundaries.get(i, {}):
                    self.boundaries[i] = self.boundaries[i] | {stage.inputs[k]: value}
        self._used.add(i)
        functions = self.functions[stage.kind]
        settled = flows_on(self.program, i) if output else frozenset()
        forward = functions.forward(keep, i in self._ever, settled)
        outputs, residuals = forward(values, self.latest)
        made = dict(zip(stage.outputs, outputs, strict=True))
        if output:
            self.boundaries[i + 1] = {v: made[v] for v in stage.boundary_out}
            self._used.discard(i + 1)
        if i not in self._ever:
            crossing = set(stage.boundary_out)
            self.env.update((v, x) for v, x in made.items() if v not in crossing)
        self._ever.add(i)
        if keep is not None:
            self.residuals[i] = (keep, residuals)

    def run_backward(self, i: int) -> None:
        stage = self.program.stages[i]
        if i not in self.residuals:
            raise ScheduleError(f"stage {i} has no residuals to run its backward from")
        keep, residuals = self.residuals.pop(i)
        cotangents = [self._take(v) for v in stage.seeded]
        if not cotangents or not stage.differentiated:
            return
        part = stage.kind.options[keep].partition
        position = {v: k for k, v in enumerate(part.joint.inputs)}
        values = self._inputs(i, stage, [position[v] for v in part.reads])
        gradients = iter(self.functions[stage.kind].backward(keep)(residuals, values, cotangents))
        crossing = set(stage.boundary_in)
        latest = []
        for v, atom in zip(stage.differentiated, part.joint.gradients, strict=True):
            if atom is not None:
                g = next(gradients)
                self._add(v, g)
                latest += [g] if v in crossing else []
        self.latest = latest or self.latest

    def gradient(self, v: Variable) -> Any:
        """The gradient of an input, typed as the input is; zeros where nothing flowed back."""
        found = self.table.get(v)
        return like_aval(jnp.zeros(v.shape, v.dtype) if found is None else found, v.aval)

    def output(self, atom: Variable | Constant) -> Any:
        """The value of an output of the program."""
        if isinstance(atom, Constant):
            return like_aval(jnp.asarray(atom.value, atom.aval.dtype), atom.aval)
        return self.env[atom]

    def _inputs(self, i: int, stage: Stage, only: Sequence[int] | None = None) -> list[Any]:
        positions = range(len(stage.inputs)) if only is None else only
        return [self._read(i, stage.inputs[k]) for k in positions]

    def _read(self, i: int, v: Variable) -> Any:
        boundary = self.boundaries.get(i, {})
        if v in boundary:
            return boundary[v]
        if v in self.env:
            return self.env[v]
        raise ScheduleError(f"stage {i} reads boundary {i}, which is not held")

    def _take(self, v: Variable) -> Any:
        ct = self.table.pop(v, None)
        return jnp.zeros(v.shape, v.dtype) if ct is None else ct

    def _add(self, v: Variable, ct: Any) -> None:
        present = self.table.get(v)
        # A sum of many terms that is left to be fused at its end keeps every term alive.
        self.table[v] = ct if present is None else settle(_sum, [present, ct], token_of([ct]))[0]


def _sum(terms: list[Any]) -> list[Any]:
    return [jnp.add(*terms)]


def split_at_backward(schedule: Schedule) -> tuple[tuple[Action, ...], tuple[Action, ...]]:
    """The actions before the first backward, and the rest."""
    actions = tuple(schedule)
    first = next((k for k, a in enumerate(actions) if isinstance(a, Backward)), len(actions))
    return actions[:first], actions[first:]
