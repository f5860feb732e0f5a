"""The referee: runs a schedule on paper, checks every read, and reports its peak and its time.

Algorithm: one pass that follows what is held: boundaries, residuals, one cotangent. Shares no code with the
ledger, the policies or the writer.
Bytes are those of the worst moment *during* each action: what is held, what it writes, and its transients; a free takes no
time, so that they are those after it.
Regime: any schedule of forwards, backwards, frees and transfers of a chain, nested or not. Bytes are those of the device.
Does not: judge whether a schedule is good, know what tiers can hold, or model allocators, fragmentation or overlap.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ckptgrad.errors import ScheduleError
from ckptgrad.planning.costs import ChainCosts, StageCost
from ckptgrad.planning.schedule import Backward, Fetch, Forward, Free, Offload, Schedule, is_well_formed, unknown_action


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a schedule costs: `peak` and `timeline` (one entry per action) in bytes, `time` in seconds.

    `peak_at` is the index of the first action that reaches the peak; `forwards` counts all forwards, `recomputations`
    those of stages that had run forward before.
    """

    peak: int
    time: float
    forwards: int
    recomputations: int
    peak_at: int
    timeline: tuple[int, ...]


@dataclass
class _State:
    """What is held: boundaries, those sent to a tier with its number, the residuals of stages by save option, and the
    cotangent of one boundary.
    """

    costs: ChainCosts
    cotangent: int
    live: int
    boundaries: set[int] = field(default_factory=lambda: {0})
    sent: dict[int, int] = field(default_factory=dict[int, int])
    residuals: dict[int, int] = field(default_factory=dict[int, int])
    time: float = 0.0


def simulate(schedule: Schedule, costs: ChainCosts) -> Simulation:
    """Run `schedule` on paper; raise ScheduleError at the first action that breaks a rule."""
    live = costs.held_bytes + costs.boundary_bytes(0) + costs.cotangent_bytes(len(costs))
    state = _State(costs, len(costs), live)
    timeline: list[int] = []
    forwards: Counter[int] = Counter()
    judged: set[int] = set()  # a long schedule repeats its actions
    for index, action in enumerate(schedule):
        if id(action) not in judged:
            if not is_well_formed(action):
                raise unknown_action(action, index)
            judged.add(id(action))
        try:
            match action:
                case Forward():
                    timeline.append(_forward(state, action))
                    forwards[action.stage] += 1
                case Backward():
                    timeline.append(_backward(state, action))
                case Free():
                    _free(state, action)
                    timeline.append(state.live)
                case Offload():
                    timeline.append(state.live)
                    _offload(state, action)
                case Fetch():
                    _fetch(state, action)
                    timeline.append(state.live)
        except _Bad as bad:
            raise ScheduleError(str(bad), index, action) from None
    _check_end(state)
    peak, total = max(timeline), forwards.total()
    return Simulation(peak, state.time, total, total - len(forwards), timeline.index(peak), tuple(timeline))


class _Bad(Exception):
    """Which rule the action at hand breaks."""


def _forward(state: _State, action: Forward) -> int:
    stage = _known_stage(state, action.stage)
    if action.stage not in state.boundaries:
        raise _Bad(f"its input, boundary {action.stage}, is not held")
    if action.keep is None:
        if not action.output:
            raise _Bad("it keeps neither residuals nor its output")
        residual, transient, seconds = 0, stage.forward_transient, stage.forward_time
    else:
        if not 0 <= action.keep < len(stage.options):
            raise _Bad(f"stage {action.stage} has no save option {action.keep}, only {len(stage.options)}")
        if action.stage in state.residuals:
            raise _Bad(f"residuals of stage {action.stage} are held already")
        if action.stage >= state.cotangent:
            raise _Bad(f"stage {action.stage} has been differentiated, its residuals would never be read")
        option = stage.options[action.keep]
        residual, transient, seconds = option.residual_bytes, option.forward_transient, option.forward_time
        if not action.output:
            transient += option.hidden_bytes
            seconds -= option.output_time
        state.residuals[action.stage] = action.keep
    during = state.live + residual + transient
    state.live += residual
    if action.output:
        during += stage.boundary_bytes
        state.live += 0 if action.stage + 1 in state.boundaries else stage.boundary_bytes
        state.boundaries.add(action.stage + 1)
    state.time += seconds
    return during


def _backward(state: _State, action: Backward) -> int:
    stage = _known_stage(state, action.stage)
    if action.stage + 1 != state.cotangent:
        raise _Bad(f"it needs the cotangent of boundary {action.stage + 1}, held is that of {state.cotangent}")
    if action.stage not in state.residuals:
        raise _Bad(f"residuals of stage {action.stage} are not held")
    option = stage.options[state.residuals.pop(action.stage)]
    if option.reads_input and action.stage not in state.boundaries:
        raise _Bad(f"option {option.name!r} reads the input, boundary {action.stage}, which is not held")
    if option.reads_output and action.stage + 1 not in state.boundaries:
        raise _Bad(f"option {option.name!r} reads the output, boundary {action.stage + 1}, which is not held")
    state.cotangent = action.stage
    arriving = state.costs.cotangent_bytes(action.stage)
    during = state.live + arriving + option.backward_transient
    state.live += arriving - stage.cotangent_bytes - option.residual_bytes
    state.time += option.backward_time
    return during


def _free(state: _State, action: Free) -> None:
    sent = state.sent.pop(action.boundary, None)
    if action.boundary in state.boundaries:
        state.boundaries.remove(action.boundary)
        state.live -= state.costs.boundary_bytes(action.boundary)
    elif sent is None:
        raise _Bad(f"boundary {action.boundary} is not held")


def _offload(state: _State, action: Offload) -> None:
    if action.boundary not in state.boundaries:
        raise _Bad(f"boundary {action.boundary} is not held")
    if action.boundary in (0, len(state.costs)):
        raise _Bad("the chain's input and its result are the caller's, and stay")
    if state.sent.setdefault(action.boundary, action.tier) != action.tier:
        raise _Bad(f"boundary {action.boundary} is on tier {state.sent[action.boundary]} already")
    state.boundaries.remove(action.boundary)
    state.live -= state.costs.boundary_bytes(action.boundary)


def _fetch(state: _State, action: Fetch) -> None:
    if state.sent.get(action.boundary) != action.tier:
        raise _Bad(f"boundary {action.boundary} is not on tier {action.tier}")
    if action.boundary in state.boundaries:
        raise _Bad(f"boundary {action.boundary} is held already")
    state.boundaries.add(action.boundary)
    state.live += state.costs.boundary_bytes(action.boundary)


def _known_stage(state: _State, stage: int) -> StageCost:
    if not 0 <= stage < len(state.costs):
        raise _Bad(f"the chain has no stage {stage}, only {len(state.costs)}")
    return state.costs.stages[stage]


def _check_end(state: _State) -> None:
    end = len(state.costs)
    if state.cotangent:
        raise ScheduleError(f"at the end of the schedule: the backward of stage {state.cotangent - 1} is missing")
    if end not in state.boundaries:
        raise ScheduleError(f"at the end of the schedule: the chain's result, boundary {end}, is not held")
    if state.residuals:
        raise ScheduleError(f"at the end of the schedule: residuals of stages {sorted(state.residuals)} are still held")
    if state.sent:
        raise ScheduleError(f"at the end of the schedule: boundaries {sorted(state.sent)} are still on a tier")
    if len(state.boundaries) > 1:
        raise ScheduleError(f"at the end of the schedule: boundaries {sorted(state.boundaries)[:-1]} are still held")
