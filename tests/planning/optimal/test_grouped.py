"""Chains beyond tables are planned in groups of equal stages."""

from __future__ import annotations

import pytest

from ckptgrad.errors import BudgetError
from ckptgrad.planning import ChainCosts, get_policy
from ckptgrad.planning.optimal.grouped import best_groups
from ckptgrad.planning.referee import simulate


@pytest.mark.parametrize("residual", [1, 3])
@pytest.mark.parametrize("budget", [30, 60, 150, 400])
def test_groups_of_equal_stages_are_near_the_table(budget, residual):
    """Where the table can follow: within 10 % at the tightest, 1 % from 150 bytes on."""
    costs = ChainCosts.uniform(200, residual_bytes=residual)
    schedule = best_groups(costs, budget).finish("groups")
    found = simulate(schedule, costs)
    assert found.peak <= budget
    best = simulate(get_policy("optimal")(costs, budget), costs).time
    assert found.time <= best * (1.10 if budget < 150 else 1.01)


@pytest.mark.slow
def test_a_hundred_thousand_stages():
    costs = ChainCosts.uniform(100_000, residual_bytes=3)
    schedule = get_policy("optimal")(costs, 400)
    found = simulate(schedule, costs)
    assert found.peak <= 400
    assert found.time <= simulate(get_policy("revolve")(costs, 400), costs).time


def test_a_long_chain_below_its_least():
    costs = ChainCosts.uniform(5000)
    with pytest.raises(BudgetError) as refused:
        get_policy("optimal")(costs, 3)
    smallest = refused.value.smallest
    assert simulate(get_policy("optimal")(costs, smallest), costs).peak <= smallest
