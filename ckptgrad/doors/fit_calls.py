"""The calls inside a step whose budget is "fit": recorded while the step is traced, planned together, traced again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from ckptgrad.chain.cutting import Ways
from ckptgrad.chain.program import Program
from ckptgrad.costs.source import program_costs
from ckptgrad.doors.choosing import over_chunks, worth_chunking
from ckptgrad.errors import BudgetError, ScheduleError
from ckptgrad.planner import costs_to_compile, make_plan
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.request import Request
from ckptgrad.results.plan import Plan
from ckptgrad.results.step_plan import StepPlan

# What a step may ask for of its calls, where these leave it open.
PLAIN = Request()
LEFT_OPEN = ("policy", "saveable", "costs")


def completed_by(request: Request, asked: Request) -> Request:
    """A request with what another one asks for, where it leaves that open."""
    left = [name for name in LEFT_OPEN if getattr(request, name) == getattr(PLAIN, name)]
    return replace(request, **{name: getattr(asked, name) for name in left})


@dataclass(frozen=True)
class FitCall:
    """One call.

    Attributes:
        cuts: the ways to cut it with the costs of their stages, the finest first.
        request: what is asked for.
        leaves_chunks: whether there is one more, with stages that may run over chunks, which was not looked at.
    """

    cuts: tuple[tuple[Program, ChainCosts], ...]
    request: Request
    leaves_chunks: bool = False

    def plan(self, limit: int | None, policy: str | None = None) -> Plan:
        """The fastest plan within `limit` bytes.

        Args:
            limit: bytes beyond the arguments of the call; None for no limit.
            policy: another one than is asked for.

        Raises:
            BudgetError: there is none; carries the fewest bytes.
        """
        request = replace(self.request, budget=limit, policy=policy or self.request.policy)
        plans: list[Plan] = []
        errors: list[BudgetError] = []
        for program, costs in self.cuts if limit is not None else self.cuts[:1]:
            try:
                plans.append(over_chunks(make_plan(program, request, costs), self.cuts[0][0]))
            except BudgetError as error:
                errors.append(error)
        if not plans:
            raise min(errors, key=lambda error: error.smallest)
        return min(plans, key=lambda plan: plan.seconds)

    def is_worth_chunking(self, limit: int) -> bool:
        """Whether stages over chunks, which were not looked at, may give a better plan within `limit` bytes."""
        best: Plan | None = None
        with suppress(BudgetError):
            best = self.plan(limit)
        return self.leaves_chunks and worth_chunking(best, self.cuts[0][0], self.request)


class Recorder:
    """Plans the calls of a step that is traced for the first time: each as fast as it can be.

    Attributes:
        calls: those that were planned, in the order in which they were traced.
    """

    def __init__(self, chunks: bool = False, asked: Request = PLAIN) -> None:
        """
        Args:
            chunks: whether ways to cut into stages that may run over chunks are looked at.
            asked: what is asked for of calls that leave it open.
        """
        self.calls: list[FitCall] = []
        self._chunks, self._asked = chunks, asked

    def completed(self, request: Request) -> Request:
        return completed_by(request, self._asked)

    def plan_of(self, ways: Ways[Program], request: Request) -> Plan:
        """The fastest plan of the next call."""
        given = request.given_stages
        programs = [p for p in ways.whole if given is None or len(p.stages) == given] or [ways.finest]
        chunked = ways.chunked if given is None else None
        finest, *others = programs
        if chunked is not None and self._chunks:
            others += chunked()
        within = replace(request, budget="1x")  # there will be a budget
        priced = [(finest, costs_to_compile(finest, within))]
        priced += [(p, self._costs(p, within)) for p in others]
        self.calls.append(FitCall(tuple(priced), request, chunked is not None and not self._chunks))
        return self.calls[-1].plan(None)

    @staticmethod
    def _costs(program: Program, request: Request) -> ChainCosts:
        """The costs of another way to cut a call; of stages over chunks the compiler is asked about few options."""
        if program.chunked:
            return costs_to_compile(program, request)
        return program_costs(program, request.costs, compiling=True)


class Planned:
    """Gives the calls of a step that is traced again the plans that were made of them, in the order of the first trace."""

    def __init__(self, function: str, plans: Sequence[Plan], asked: Request = PLAIN) -> None:
        self._function, self._plans, self._next, self._asked = function, plans, 0, asked

    def completed(self, request: Request) -> Request:
        return completed_by(request, self._asked)

    def plan_of(self, ways: Ways[Program], request: Request) -> Plan:
        """The plan of the next call.

        Raises:
            ScheduleError: the step is another one than when its calls were planned.
        """
        if self._next == len(self._plans):
            raise self._changed(f"a planned call more than the {len(self._plans)} of before")
        plan = self._plans[self._next]
        self._next += 1
        programs = [*ways.whole]
        if plan.program.chunked:
            programs = [] if ways.chunked is None else [*ways.chunked()]
        program = next((p for p in programs if len(p.stages) == len(plan.costs)), None)
        if program is None:
            stages = len((programs or [ways.finest])[0].stages)
            raise self._changed(f"{stages} stages in a planned call that had {len(plan.costs)}")
        return replace(plan, program=program)

    def check_all_used(self) -> None:
        """Raises:
        ScheduleError: the step has fewer calls than when they were planned.
        """
        if self._next < len(self._plans):
            raise self._changed(f"{self._next} planned calls instead of {len(self._plans)}")

    def _changed(self, how: str) -> ScheduleError:
        return ScheduleError(
            f"{self._function} has {how}: it changes from trace to trace; make what it depends on an argument, or constant"
        )


def plan_step(
    calls: Sequence[FitCall],
    around: int,
    limit: int | None,
    fenced: bool = True,
    policy: str | None = None,
    called: bool = False,
) -> StepPlan:
    """Plans of all calls of a step for one number of bytes.

    Calls share the bytes by each being planned within all of them, as calls that run one after another may; where results
    or residuals of several are held at once, the certificate of the whole says so, and the next number is smaller. A call
    that cannot be planned within them gets its smallest plan.

    Args:
        calls: at least one.
        around: bytes of the step beyond its arguments and beyond those of its largest call.
        limit: bytes beyond the arguments of the step; None for no limit.
        fenced, policy, called: as for `execution.trials.Build`.

    Raises:
        BudgetError: no call can be planned within them; carries the fewest bytes for which one can.
    """
    within = None if limit is None else max(1, limit - around)
    plans: list[Plan] = []
    errors: list[BudgetError] = []
    for call in calls:
        try:
            plans.append(call.plan(within, policy))
        except BudgetError as error:
            errors.append(error)
            plans.append(call.plan(error.smallest, policy))
    if limit is not None and len(errors) == len(calls):
        least = min(errors, key=lambda error: error.smallest)
        raise BudgetError(limit, least.smallest + around, least.stage, least.policy)
    return StepPlan(tuple(replace(plan, fenced=fenced, called=called) for plan in plans), around)
