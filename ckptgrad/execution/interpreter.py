# pyright: reportUnknownMemberType=false
"""A schedule as one traceable function.

`Execution` interprets the actions of a schedule on arrays or tracers.  Under `jax.jit` the actions are gone after tracing:
what is left is one program that runs the forwards and backwards of stages in the order of the schedule, each `isolated`
and, where it runs again, `fenced` as the platform asks.  XLA frees a buffer after its last use, so the schedule's lifetimes
become the program's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ckptgrad.chain.kind import StageKind, stands_open
from ckptgrad.chain.program import Program, Stage
from ckptgrad.errors import ScheduleError
from ckptgrad.execution.isolated import add_isolated, fenced
from ckptgrad.execution.stage_functions import StageFunctions, open_functions, stage_functions
from ckptgrad.graph.evaluate import like_aval, read
from ckptgrad.graph.graph import Constant, Variable
from ckptgrad.graph.value_types import as_cotangent, cotangent_type, filled
from ckptgrad.planning.schedule import Action, Backward, Fetch, Forward, Free, Offload, Schedule, unknown_action
from ckptgrad.target.platform import Isolation

# Where stages are open to each other, gradients wait for so many more backwards before they are summed over devices: their
# products and sums may run beside these. Of 12 transformer blocks over 16 of a v5e by data x tensor parallelism, whose
# compiler otherwise held what later products read, up to 24 MiB a stage, to the end of the program, 1,010 MiB and 30.5 ms
# (1,176 and 30.7); with 1 it is 999 and 31.2, with 0 966 and 31.3.
SUMS_AFTER_OPEN = 2


class Execution:
    """The state of a schedule as it runs.

    Args:
        program: that the schedule is for.
        args: the leaves of its arguments.
        isolation: how stages are isolated; None: in the way of the platform.
        functions: those of each kind; None: as they are isolated.

    Attributes:
        table: the gradient table, by variable of the program's graph.
        latest: the cotangents that came last.
    """

    def __init__(
        self,
        program: Program,
        args: Sequence[Any],
        isolation: Isolation | None = None,
        functions: Callable[[StageKind], StageFunctions] | None = None,
    ) -> None:
        self.program = program
        self._isolation = isolation or program.target.platform.isolation
        platform, whole = program.target.platform, isolation is Isolation.NONE and functions is None
        # After how many more backwards gradients are summed over devices; None where that is the compiler's to choose.
        self._sums_after: int | None = None
        if platform.sums_last and platform.isolation is Isolation.BARRIERS and program.devices > 1:
            self._sums_after = SUMS_AFTER_OPEN if whole else 0 if self._isolation is Isolation.BARRIERS else None
        self._unsummed: list[list[Variable]] = []
        if functions is None:
            functions = open_functions if isolation is Isolation.NONE else partial(stage_functions, isolation=isolation)
        self.functions = {kind: functions(kind) for kind in program.kinds}
        self.env: dict[Variable, Any] = dict(program.graph.constants)
        self.env.update(zip(program.graph.inputs, args, strict=True))
        self.boundaries: dict[int, dict[Variable, Any]] = {0: {}}
        self.residuals: dict[int, tuple[int, list[Any]]] = {}
        self.table: dict[Variable, Any] = {}
        self.latest: list[Any] = []
        self._newest: list[Any] = []
        # What work that is done again, and the next backward, wait for.
        self._awaited: list[Any] = []
        self._ever: set[int] = set()
        # The stage whose residuals were made again just now, and the inputs that were read for it.
        self._region: tuple[int, list[Any]] | None = None

    def fork(self) -> Execution:
        """A copy that can go on without changing this one (arrays are shared)."""
        other = Execution.__new__(Execution)
        other.__dict__ = {
            k: v.copy() if isinstance(v, (dict, set, list)) and k != "functions" else v for k, v in self.__dict__.items()
        }
        return other

    def arrays(self) -> list[Any]:
        """All arrays that the execution holds, in a fixed order."""
        held = [*self.env.values(), *self.latest]
        held += [x for boundary in self.boundaries.values() for x in boundary.values()]
        return held + [x for _, kept in self.residuals.values() for x in kept]

    def run(self, actions: Iterable[Action]) -> Execution:
        """Execute actions in order."""
        for action in actions:
            match action:
                case Forward(stage, keep, output):
                    self.run_forward(stage, keep, output)
                case Backward(stage):
                    self.run_backward(stage)
                case Free(boundary):
                    self.free(boundary)
                case Offload(boundary, tier):
                    self.offload(boundary, tier)
                case Fetch(boundary, tier):
                    self.fetch(boundary, tier)
                case _:
                    raise unknown_action(action)
        return self

    def forget_order(self) -> None:
        """Let go of what repetitions wait for: where actions run one by one, they are in order anyway."""
        self.latest, self._newest = [], []

    def seed(self, cotangents: Sequence[Any]) -> None:
        """Set the cotangents of the program's seeds, in order."""
        self.latest = list(cotangents)
        for v, ct in zip(self.program.seeds, cotangents, strict=True):
            self._add(v, ct)

    def free(self, boundary: int) -> None:
        """Drop a boundary."""
        self.boundaries.pop(boundary, None)

    def offload(self, boundary: int, tier: int) -> None:
        """Send a boundary to a tier.

        Raises:
            ScheduleError: what runs here is one program, from which nothing is sent.
        """
        raise ScheduleError(f"boundary {boundary} is to be sent to a tier, which needs runtime='staged' and tiers=")

    def fetch(self, boundary: int, tier: int) -> None:
        """Fetch a boundary from a tier; as `offload`."""
        self.offload(boundary, tier)

    def run_forward(self, i: int, keep: int | None, output: bool) -> None:
        stage, again = self.program.stages[i], i in self._ever
        functions = self.functions[stage.kind]
        part = functions.part(keep)
        run, call = functions.forward(keep, again, output)
        with jax.named_scope(Forward(i).scope):
            inputs = self._inputs(i, stage)
            if again:
                inputs = self._fenced_with_latest(inputs)
            env = {**part.joint.constants, **dict(zip(part.joint.inputs, inputs, strict=True))}
            # A repetition is told from the first run, and put after it, by what came last.
            latest = [*self._latest, *self._take_awaited()] if again else ()
            env.update(zip(run.makes, call([env[v] for v in run.reads], latest), strict=True))
        crossing = {*stage.boundary_out}
        pairs = list(zip(stage.outputs, part.joint.outputs, strict=True))
        if output:
            self.boundaries[i + 1] = {v: read(env, a) for v, a in pairs if v in crossing}
            self._newest = [*self.boundaries[i + 1].values()]
        if not again:
            late = {*part.joint.late}
            self.env.update((v, read(env, a)) for v, a in pairs if v not in crossing and a not in late)
        self._ever.add(i)
        self._region = (i, inputs) if again and keep is not None else None
        if keep is not None:
            self.residuals[i] = (keep, [env[v] for v in part.residuals])

    def run_backward(self, i: int) -> None:
        stage = self.program.stages[i]
        if i not in self.residuals:
            raise ScheduleError(f"stage {i} has no residuals to run its backward from")
        keep, residuals = self.residuals.pop(i)
        region, self._region = self._region, None
        cotangents = [self._take(v) for v in stage.seeded]
        if not cotangents or not stage.differentiated:
            return
        part = self.functions[stage.kind].part(keep)
        position = {v: k for k, v in enumerate(part.joint.inputs)}
        places = [position[v] for v in part.reads]
        # Right after its repeated forward a backward reads what that read: for a compiler both are one region.
        together = region[1] if region is not None and region[0] == i else None
        inputs = self._inputs(i, stage, places) if together is None else [together[k] for k in places]
        env = part.backward_env(residuals, inputs, cotangents)
        gradients = dict(zip(stage.differentiated, part.joint.gradients, strict=True))
        summed = tuple(k for k, (v, a) in enumerate(gradients.items()) if a is not None and v in self.table)
        totals = [self.table[stage.differentiated[k]] for k in summed]
        run, call = self.functions[stage.kind].backward(keep, summed)
        with jax.named_scope(Backward(i).scope):
            values = [env[v] for v in run.reads]
            if together is None and not stands_open(stage.kind, stage.kind.options[keep]):
                values, totals = fenced((values, totals), self._isolation)
            else:
                totals = fenced(totals, self._isolation)
            made = call((values, totals), self._take_awaited())
        alone = len(made) - len(summed)
        env.update(zip(run.makes[:alone], made[:alone], strict=True))
        sums = dict(zip(summed, made[alone:], strict=True))
        new = {v: sums[k] if k in sums else read(env, a) for k, (v, a) in enumerate(gradients.items()) if a is not None}
        self.table.update(new)
        late = {*part.joint.late}
        self.env.update((v, env[a]) for v, a in zip(stage.outputs, part.joint.outputs, strict=True) if a in late)
        crossing = {*stage.boundary_in}
        self.latest = [g for v, g in new.items() if v in crossing] or self.latest
        of_arguments = [v for v in new if v not in crossing]
        if self._sums_after is not None and of_arguments and len(of_arguments) < len(new):
            self._unsummed.append(of_arguments)
            if len(self._unsummed) > self._sums_after and (made := [v for v in self._unsummed.pop(0) if v in self.table]):
                self._sum_now(made)

    def _sum_now(self, made: Sequence[Variable]) -> None:
        """Have gradients there, summed over devices, before the next backward (`Platform.sums_last`)."""
        values, latest = fenced(([self.table[v] for v in made], self._latest), Isolation.BARRIERS)
        self.table.update(zip(made, values, strict=True))
        self._go_on_from(latest)

    def gradient(self, v: Variable) -> Any:
        """The gradient of an input, typed as the input is; zeros where nothing flowed back."""
        gradient = self.table.get(v)
        return like_aval(filled(cotangent_type(v.aval)) if gradient is None else gradient, v.aval)

    def consume(self, v: Variable, use: Callable[[Any, Isolation], dict[Variable, Any]]) -> dict[Variable, Any]:
        """Use the complete gradient of an input, and let go of it: what is made of it is there before the next backward.

        Args:
            v: the input.
            use: from the gradient, and how it is to be isolated, to what is made of it.
        """
        gradient = self.gradient(v)
        self.table.pop(v, None)
        made = use(gradient, self._isolation)
        if self._isolation is not Isolation.BARRIERS:
            self._awaited += made.values()
            return made
        values, latest = fenced(([*made.values()], self._latest), self._isolation)
        self._go_on_from(latest)
        return dict(zip(made, values, strict=True))

    def output(self, atom: Variable | Constant) -> Any:
        """The value of an output of the program."""
        if isinstance(atom, Constant):
            return like_aval(jnp.asarray(atom.value, atom.aval.dtype), atom.aval)
        return self.env[atom]

    @property
    def _latest(self) -> list[Any]:
        """The cotangents that came last; before there are any, the boundary."""
        return self.latest or self._newest

    def _take_awaited(self) -> list[Any]:
        awaited, self._awaited = self._awaited, []
        return awaited

    def _fenced_with_latest(self, inputs: list[Any]) -> list[Any]:
        """The inputs of a forward that runs again, fenced together with what came last, which goes on from there."""
        if self._isolation is not Isolation.BARRIERS:
            return inputs
        inputs, passed = fenced((inputs, self._latest), self._isolation)
        self._go_on_from(passed)
        return inputs

    def _go_on_from(self, passed: list[Any]) -> None:
        """Put what came last, now behind a barrier, in its own place wherever it is held."""
        behind = {id(old): new for old, new in zip(self._latest, passed, strict=True)}

        def after(values: dict[Variable, Any]) -> dict[Variable, Any]:
            return {v: behind.get(id(x), x) for v, x in values.items()}

        self.table = after(self.table)
        self.boundaries = {k: after(values) for k, values in self.boundaries.items()}
        self.latest, self._newest = ([behind.get(id(x), x) for x in xs] for xs in (self.latest, self._newest))

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
        return self.fill(v, 0) if ct is None else ct

    def fill(self, v: Variable, number: float) -> Any:
        """A cotangent of a value that is one number everywhere."""
        return filled(cotangent_type(v.aval), number)

    def _add(self, v: Variable, ct: Any) -> None:
        ct = as_cotangent(ct, v.aval)
        present = self.table.get(v)
        self.table[v] = ct if present is None else add_isolated(present, ct, self._isolation)


def split_at_backward(schedule: Schedule) -> tuple[tuple[Action, ...], tuple[Action, ...]]:
    """The actions before the first backward, and the rest."""
    actions = tuple(schedule)
    first = next((k for k, a in enumerate(actions) if isinstance(a, Backward)), len(actions))
    return actions[:first], actions[first:]
