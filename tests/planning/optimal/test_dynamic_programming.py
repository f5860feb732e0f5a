"""The optimal policy against recursions, another package, other policies and all schedules there are."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from checkpoint_schedules.mixed import optimal_steps_mixed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ckptgrad.errors import BudgetError
from ckptgrad.planning import ChainCosts, SaveOption, StageCost, get_policy, minimum_peak
from ckptgrad.planning.exhaustive_referee import least_time
from ckptgrad.planning.optimal import dynamic_programming
from ckptgrad.planning.optimal.dynamic_programming import Optimum
from ckptgrad.planning.optimal.exhaustive_search import least_conceivable, searchable
from ckptgrad.planning.policies.every_k import every_k
from ckptgrad.planning.random_chains import mixed_units, random_chain, simple_chain
from ckptgrad.planning.referee import simulate
from tests.support.chains import chains

relaxed = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
WORKING_SET = 2


def optimal_time(costs: ChainCosts, budget: int | None) -> float:
    return simulate(get_policy("optimal")(costs, budget), costs).time


def largest_peak(costs: ChainCosts) -> int:
    return simulate(get_policy("store_all")(costs, None), costs).peak


@cache
def mixed_steps(n: int, s: int) -> int:
    if n <= s + 1:
        return n
    if s == 1:
        return n * (n + 1) // 2 - 1
    split = min(i + mixed_steps(i, s) + mixed_steps(n - i, s - 1) for i in range(2, n))
    return min(1 + mixed_steps(n - 1, s - 1), split)


@pytest.mark.parametrize("s", range(1, 12))
def test_unit_sizes_give_the_mixed_counts(s):
    for n in range(2, 31):
        schedule = get_policy("optimal")(mixed_units(n), s + WORKING_SET)
        assert schedule.forwards == mixed_steps(n, s)
        assert schedule.forwards == optimal_steps_mixed(n, min(s, n - 1))


@pytest.mark.parametrize(
    ("n", "s", "steps"), [(50, 5, 138), (100, 10, 237), pytest.param(250, 25, 486, marks=pytest.mark.slow)]
)
def test_unit_sizes_give_the_listed_mixed_counts(n, s, steps):
    assert get_policy("optimal")(mixed_units(n), s + WORKING_SET).forwards == steps


@relaxed
@given(costs=chains(5), data=st.data())
def test_never_slower_than_another_policy(costs, data):
    never_slower(costs, data)


@pytest.mark.slow
@relaxed
@given(costs=chains(), data=st.data())
def test_never_slower_than_another_policy_up_to_seven_stages(costs, data):
    never_slower(costs, data)


def never_slower(costs, data):
    names = ["rotor", "revolve", "sqrt", "recompute_all", "store_all", "every_k"]
    rival = data.draw(st.sampled_from([get_policy(name) for name in names] + [every_k(2), every_k(4)]))
    budget = data.draw(st.integers(minimum_peak(costs)[0], largest_peak(costs)))
    try:
        schedule = rival(costs, budget)
    except BudgetError:
        return
    assert optimal_time(costs, budget) <= simulate(schedule, costs).time + 1e-9


@relaxed
@given(costs=chains())
def test_emitted_time_is_the_tables_and_falls_with_the_budget(costs):
    smallest, largest = Optimum(costs).least_bytes, largest_peak(costs)
    before = float("inf")
    for budget in range(smallest, largest + 1, max(1, (largest - smallest) // 9)):
        optimum = Optimum(costs)
        slot, slots = optimum.slots(budget)
        whole = optimum.row(0, len(costs) - 1, True)
        writer = optimum.write(budget)
        simulation = simulate(writer.finish("optimal"), costs)
        seconds = float(optimum.times(slot, slots)[whole, slots])
        # The bytes of the chain's end are rounded up to slots.
        assert simulation.time == pytest.approx(seconds, rel=1e-9) or budget - optimum.least_bytes < slot
        assert simulation.time == pytest.approx(writer.time, rel=1e-12)
        assert simulation.peak == writer.peak <= budget
        assert simulation.time <= before + 1e-9
        before = simulation.time


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n", [5, 20])
def test_rounded_bytes_stay_feasible_down_to_the_exact_minimum(n, seed):
    costs = random_chain(n, 2, seed, largest=10**9)
    smallest, largest = Optimum(costs).least_bytes, largest_peak(costs)
    for budget in (smallest, smallest + 1, (3 * smallest + largest) // 4, largest - 1):
        optimum = Optimum(costs)
        slot, slots = optimum.slots(budget)
        whole = optimum.row(0, n - 1, True)
        writer = optimum.write(budget)
        simulation = simulate(writer.finish("optimal"), costs)
        assert simulation.peak <= budget
        assert simulation.time <= float(optimum.times(slot, slots)[whole, slots]) * (1 + 1e-9)
    smallest = minimum_peak(costs)[0]
    with pytest.raises(BudgetError) as caught:
        get_policy("optimal")(costs, smallest - 1)
    assert caught.value.smallest == smallest


def test_compiled_and_interpreted_tables_agree(monkeypatch):
    costs = random_chain(12, 3, seed=1, largest=10**6)
    interpreted = Optimum(costs)
    values = interpreted.times(10_000, 300)
    monkeypatch.setattr(dynamic_programming, "INTERPRETED_SPLITS", -1)
    compiled = Optimum(costs)
    np.testing.assert_array_equal(compiled.least[0], interpreted.least[0])
    np.testing.assert_allclose(compiled.least[1], interpreted.least[1])
    np.testing.assert_allclose(compiled.times(10_000, 300), values, rtol=1e-6)


@pytest.mark.parametrize("result", [0, 4])
def test_the_last_stage_always_has_its_output_and_hides_nothing(result):
    option = SaveOption("all", 3, False, False, 1.0, 2.0, hidden_bytes=100)
    costs = ChainCosts((StageCost((option,), result, 0, 1.0),), input_bytes=5)
    assert Optimum(costs).least_bytes == minimum_peak(costs)[0] == 5 + 3 + result


def test_equal_stages_share_their_segments():
    inner = StageCost((SaveOption("all", 3, True, False, 1.0, 2.0),), 5, 5, 1.0)
    first, last = (StageCost(inner.options, size, size, 1.0) for size in (4, 1))
    segments = Optimum(ChainCosts((first, *[inner] * 298, last), 7, 7)).segments
    assert len(segments.classes.first) < 4 * 300


def test_small_plans_do_not_import_the_compiler():
    code = (
        "import sys; from ckptgrad.planning import ChainCosts, get_policy;"
        "get_policy('optimal')(ChainCosts.uniform(14), 9); assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_a_budget_each_stage_keeps_its_fastest_option():
    costs = random_chain(9, 3, seed=2)
    schedule = get_policy("optimal")(costs, None)
    assert schedule.recomputations == 0
    assert schedule.kept == {i: stage.fastest for i, stage in enumerate(costs.stages)}


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 8))])
@pytest.mark.parametrize(("n", "options"), [(1, 3), (2, 3), (3, 3), (4, 2), (4, 4), (5, 1), (5, 2), (6, 1)])
def test_as_fast_as_the_fastest_of_all_schedules(n, options, seed):
    costs = random_chain(n, options, seed)
    assert searchable(costs)
    smallest, largest = minimum_peak(costs)[0], largest_peak(costs)
    for budget in (smallest, (2 * smallest + largest) // 3, largest):
        assert least_time(costs, budget) == pytest.approx(optimal_time(costs, budget))


@pytest.mark.parametrize("seed", range(6))
def test_what_the_last_stage_keeps_may_take_no_memory_until_its_backward(seed):
    chain = random_chain(4, 2, seed)
    last = chain.stages[-1]
    sizes = [(o, -o.residual_bytes) for o in last.options]
    near = [replace(o, reads_input=True, forward_transient=n, backward_transient=n) for o, n in sizes]
    costs = replace(chain, stages=(*chain.stages[:-1], replace(last, options=tuple(near))))
    smallest, largest = minimum_peak(costs)[0], largest_peak(costs)
    for budget in (smallest, (smallest + largest) // 2, largest):
        assert simulate(get_policy("optimal")(costs, budget), costs).peak <= budget
        assert least_time(costs, budget) == pytest.approx(optimal_time(costs, budget))


@relaxed
@given(costs=chains(4), data=st.data())
def test_as_fast_as_the_fastest_of_all_schedules_on_small_integers(costs, data):
    budget = data.draw(st.integers(minimum_peak(costs)[0], largest_peak(costs)))
    assert least_time(costs, budget) == pytest.approx(optimal_time(costs, budget))


@pytest.mark.parametrize("make", [simple_chain, random_chain])
@pytest.mark.parametrize(
    ("n", "options"),
    [(1, 2), (2, 2), (3, 2), (4, 2), (5, 1), pytest.param(6, 1, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("seed", range(6))
def test_feasible_wherever_any_schedule_is(make, n, options, seed):
    costs = make(n, options, seed)
    smallest = minimum_peak(costs)[0]
    assert least_time(costs, smallest - 1) is None
    assert simulate(get_policy("optimal")(costs, smallest), costs).peak <= smallest


@settings(relaxed, max_examples=12)
@given(costs=chains(longest=7, options=1))
def test_feasible_wherever_any_schedule_is_up_to_seven_stages(costs):
    smallest = minimum_peak(costs)[0]
    assert least_conceivable(costs) <= smallest
    assert least_time(costs, smallest - 1) is None


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_seven_stages_against_all_schedules(seed):
    costs = simple_chain(7, 1, seed)
    smallest, largest = minimum_peak(costs)[0], largest_peak(costs)
    budget = (smallest + largest) // 2
    bound = least_time(costs, budget)
    assert bound is not None
    assert bound <= optimal_time(costs, budget) <= 1.01 * bound


def test_the_smallest_peak_is_a_budget_where_a_backward_overwrites_its_input():
    """The cotangent that it makes lies where its input was: the two are never there together."""
    first = StageCost((SaveOption("all", 4, True, False, 1, 1),), boundary_bytes=100, cotangent_bytes=100, forward_time=1)
    last = StageCost((SaveOption("input", 0, True, False, 1, 1, backward_transient=-100),), 0, 0, 1)
    costs = ChainCosts((first, last), input_bytes=10, input_cotangent_bytes=10)
    least = minimum_peak(costs)[0]
    assert least == 124  # The backward of the first stage: its input, residuals and both cotangents.
    schedule = get_policy("optimal")(costs, least)
    assert simulate(schedule, costs).peak == least
    assert least_time(costs, least) is not None
