"""H-Revolve's schedules in our actions: the referee accepts them, and counts the forwards of the package."""

from __future__ import annotations

import pytest
from checkpoint_schedules import HRevolve

from ckptgrad.bench.cases.steps import forward_steps
from ckptgrad.bench.h_revolve import h_revolve
from ckptgrad.planning import ChainCosts, Fetch, simulate


@pytest.mark.parametrize(("steps", "in_memory", "on_disk"), [(3, 1, 0), (8, 2, 2), (12, 1, 4), (16, 2, 4)])
def test_the_referee_counts_the_forwards_and_transfers_of_the_package(steps, in_memory, on_disk):
    schedule, seconds = h_revolve(steps, in_memory, on_disk, 2.0, 0.5, 0.25)
    found = simulate(schedule, ChainCosts.uniform(steps, backward_time=2.0))
    assert found.forwards == forward_steps(HRevolve(steps, in_memory, on_disk, uf=1.0, ub=2.0, wd=0.5, rd=0.25))
    fetched = sum(isinstance(action, Fetch) for action in schedule)
    assert seconds == found.time + 0.5 * schedule.sent + 0.25 * fetched
