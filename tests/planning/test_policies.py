"""What every policy promises: schedules that the referee accepts, within the budget, or BudgetError."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from ckptgrad.errors import BudgetError
from ckptgrad.planning import ChainCosts, get_policy, registered
from ckptgrad.planning.optimal.dynamic_programming import LongChain
from ckptgrad.planning.random_chains import random_chain
from ckptgrad.planning.referee import simulate
from tests.cases.policies import ROWS
from tests.support.chains import chains

every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
relaxed = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def smallest_peak(policy, costs: ChainCosts) -> int:
    with pytest.raises(BudgetError) as caught:
        policy(costs, costs.held_bytes)
    assert caught.value.budget == costs.held_bytes
    assert caught.value.stage in range(len(costs))
    assert str(caught.value.smallest) in str(caught.value)
    return caught.value.smallest


def test_every_registered_policy_has_a_row():
    assert {row.name for row in ROWS if row.made is None} == set(registered())


def test_every_policy_names_its_references():
    assert all(registration.references for registration in registered().values())


@every_row
@pytest.mark.parametrize("n", [1, 2, 3, 8, 17])
@pytest.mark.parametrize("options", [1, 3])
def test_natural_plan_is_valid(row, n, options):
    costs = random_chain(n, options, seed=n)
    schedule = row.policy(costs, None)
    assert schedule.policy == row.name
    assert schedule.stages == n
    assert simulate(schedule, costs).forwards == schedule.forwards


@every_row
@pytest.mark.parametrize("n", [1, 2, 3, 8, 17])
@pytest.mark.parametrize("options", [1, 3])
def test_smallest_peak_is_exact(row, n, options):
    costs = random_chain(n, options, seed=50 + n)
    smallest = smallest_peak(row.policy, costs)
    assert simulate(row.policy(costs, smallest), costs).peak == smallest
    with pytest.raises(BudgetError, match=str(smallest)):
        row.policy(costs, smallest - 1)


@every_row
@relaxed
@given(costs=chains(5))
def test_budget_is_kept_and_counted_as_the_referee_does(row, costs):
    natural = simulate(row.policy(costs, None), costs).peak
    smallest = smallest_peak(row.policy, costs) if natural > costs.held_bytes else natural
    for budget in sorted({smallest, (smallest + natural) // 2, natural}):
        if budget >= smallest:
            assert simulate(row.policy(costs, budget), costs).peak <= budget


@every_row
def test_held_bytes_shift_the_budget(row):
    costs = random_chain(6, 2, seed=3)
    heavier = ChainCosts(costs.stages, costs.input_bytes, costs.input_cotangent_bytes, costs.held_bytes + 1000)
    smallest = smallest_peak(row.policy, costs)
    assert smallest_peak(row.policy, heavier) == smallest + 1000
    assert row.policy(heavier, smallest + 1003).actions == row.policy(costs, smallest + 3).actions


@pytest.mark.parametrize("row", [row for row in ROWS if row.long], ids=lambda row: row.name)
def test_ten_thousand_stages(row):
    costs = ChainCosts.uniform(10_000)
    assert simulate(row.policy(costs, None), costs).peak > 0


@pytest.mark.parametrize("name", ["rotor"])
def test_chains_too_long_for_a_table_are_refused(name):
    costs = ChainCosts.uniform(10_000)
    with pytest.raises(LongChain, match="revolve"):
        get_policy(name)(costs, 1000)
    assert simulate(get_policy(name)(costs, None), costs).recomputations == 0
