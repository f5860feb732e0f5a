"""The referee of all schedules, on a case done by hand."""

from __future__ import annotations

import pytest

from ckptgrad.planning import ChainCosts, SaveOption, StageCost
from ckptgrad.planning.exhaustive_referee import least_time


@pytest.mark.parametrize(
    ("budget", "time"),
    [(1, None), (2, 1.5), (3, 1.0)],
)
def test_the_exhaustive_search_on_a_case_done_by_hand(budget, time):
    """One stage: the residuals of 1 byte take 0.5 s + 1 s, those of 2 bytes 0.25 s + 0.75 s; the input takes
    1.
    """
    options = (
        SaveOption("small", 1, False, False, 0.5, 1.0),
        SaveOption("large", 2, False, False, 0.25, 0.75),
    )
    costs = ChainCosts((StageCost(options, 0, 0, 0.25),), input_bytes=1)
    assert least_time(costs, budget) == time
