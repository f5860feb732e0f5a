"""The recurrences count as the ledger does, compiled or not, with numba or without."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ckptgrad.planning import Backward, ChainCosts, Forward, Free
from ckptgrad.planning.ledger import Ledger
from ckptgrad.planning.optimal.dynamic_programming import Optimum
from ckptgrad.planning.optimal.recurrences import option_needs
from ckptgrad.planning.optimal.segments import segments_of
from tests.support.chains import chains
from tests.support.schedules import nested_schedules

relaxed = settings(max_examples=60, deadline=None)


def needs_by_the_ledger(costs: ChainCosts, first: int, last: int, keep: int, owned: bool) -> tuple[int, int, int]:
    """Bytes of the segment from `first` to `last` during, between and during forward and backward of its first stage."""
    option, end = costs.stages[first].options[keep], len(costs)
    ends_chain, alone = last == end - 1, first == last
    ledger = Ledger(costs)
    ledger.boundaries = {first}

    def take(action):
        return next(ledger.changes([action]))

    live = costs.cotangent_bytes(last + 1) + (costs.boundary_bytes(first) if owned else 0)
    change = take(Forward(first, keep, output=option.reads_output or not alone or ends_chain))
    forward, live = live + change.during, live + change.after
    if owned and not option.reads_input:
        live += take(Free(first)).after
    if not alone and not option.reads_output:
        live += take(Free(first + 1)).after  # It belongs to the rest of the segment.
    # The rest of the segment runs: its cotangent arrives, and what ends the chain stays.
    result = costs.boundary_bytes(end) if ends_chain else 0
    live += costs.cotangent_bytes(first + 1) - costs.cotangent_bytes(last + 1) + (0 if alone else result)
    backward = live + take(Backward(first)).during
    between = live - costs.cotangent_bytes(first + 1) - result
    return forward, between, backward


@relaxed
@given(chains(5))
def test_what_an_option_needs_is_what_the_ledger_counts(costs):
    kinds, kind_of = segments_of(costs).kinds, segments_of(costs).kind_of
    for first, stage in enumerate(costs.stages):
        kind = kind_of[first]
        for last in range(first, len(costs)):
            cotangent = costs.cotangent_bytes(last + 1)
            result = costs.boundary_bytes(len(costs)) if last == len(costs) - 1 else 0
            for keep in range(len(stage.options)):
                for owned in (False, True):
                    column = kinds.option_start[kind] + keep
                    found = option_needs(kinds, column, kind, cotangent, result, int(owned), first == last)
                    assert found == needs_by_the_ledger(costs, first, last, keep, owned)


@relaxed
@given(chains(6), st.data())
def test_no_nested_schedule_beats_the_recurrences(costs, data):
    writer = data.draw(nested_schedules(costs))
    optimum = Optimum(costs)
    assert optimum.least_bytes <= writer.peak
    curve = optimum.curve
    assert curve is not None
    assert curve.within(writer.peak) <= writer.time * (1 + 1e-9)
    assert optimum.write(writer.peak).time <= writer.time * (1 + 1e-9)
