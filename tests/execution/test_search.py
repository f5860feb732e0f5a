"""The search for a plan, among imagined ones: which are compiled, which is taken, and that more bytes give no slower one."""

from __future__ import annotations

import itertools

import jax
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.execution import search
from ckptgrad.execution.certify import certify
from tests.support.imagined import Imagined, imagined_bytes
from tests.support.rows import quick_rows


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("seed", quick_rows(range(40), *range(6)))
def test_whatever_the_compiler_takes_a_larger_budget_gives_no_slower_plan(seed, slow):
    predicted, taken = imagined_bytes(seed)
    numbers = []
    for budget in range(int(1.05 * predicted[0]), 11_000, 37):
        imagined = Imagined(predicted, taken, slow=slow)
        found = certify(imagined.build, (), {}, budget)
        assert found.peak_bytes <= budget
        assert imagined.compilations == found.rounds <= 1 + search.MOST_CLIMBED + search.MAX_ROUNDS
        numbers.append(found.plan.number)
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("seed", quick_rows(range(20), *range(5)))
def test_of_rungs_close_to_each_other_one_is_tried_where_that_is_asked_for(seed):
    """None on the way down is within 1 % of another; a larger budget gives no slower plan; and it ends."""
    predicted, taken = imagined_bytes(seed)
    numbers = []
    for budget in range(int(1.05 * predicted[0]), 11_000, 37):
        imagined = Imagined(predicted, taken)
        found = search.fastest_within(imagined.build, (), {}, budget, may_open=False, may_be_uniform=False, apart=3)
        assert found is not None
        trial, compilations = found
        assert trial.peak_bytes <= budget
        assert imagined.compilations == compilations <= 2 + search.MOST_CLIMBED + search.MOST_ROUNDS
        numbers.append(trial.plan.number)
    assert numbers == sorted(numbers)


def test_where_every_rung_takes_too_much_fewer_are_tried_if_they_are_apart_or_compiling_takes_long():
    predicted = [*range(500, 2000, 3)]
    counts = []
    for apart, slow in ((1, False), (3, False), (1, True)):
        imagined = Imagined(predicted, [int(1.06 * p) for p in predicted], slow=slow)
        found = search.fastest_within(imagined.build, (), {}, 1000, may_open=False, may_be_uniform=False, apart=apart)
        assert found is not None
        assert 960 < found[0].peak_bytes <= 1000
        counts.append(imagined.compilations)
    assert counts[2] < counts[1] < counts[0]


def test_the_climb_goes_on_from_the_smallest_plan_where_that_takes_far_less_than_predicted():
    """Of a budget below what any plan is predicted to take: rungs up to there lead to the same one."""
    predicted = [2000, 2030, 2060, 2090, 2120]
    imagined = Imagined(predicted, [p // 2 for p in predicted], slow=True)
    found = certify(imagined.build, (), {}, 1100)
    assert (found.plan.number, found.peak_bytes) == (4, 1060)


@pytest.mark.parametrize(
    ("taken", "called", "found", "compilations"),
    [
        # As predicted, or within the budget: stages are not called.
        ([900, 1030, 1400], [500, 500, 500], (0, False, 900), 2),
        ([900, 960, 1400], [500, 500, 500], (1, False, 960), 1),
        # Far from it: they are, if that is within the budget.
        ([900, 1400, 1400], [500, 980, 500], (1, True, 980), 2),
        ([990, 1400, 1400], [500, 1010, 500], (0, False, 990), 3),
    ],
)
def test_over_several_devices_stages_are_called_where_the_compiler_takes_far_more(taken, called, found, compilations):
    imagined = Imagined([900, 960, 2000], taken, called=called, slow=True)
    plan = certify(imagined.build, (), {}, 1000)
    assert (plan.plan.number, plan.plan.called, plan.peak_bytes) == found
    assert imagined.compilations == compilations


def test_once_a_plan_takes_more_with_calls_no_more_are_compiled_with_them():
    imagined = Imagined([700, 800, 960, 2000], [990, 1010, 1050, 3000], called=[500, 500, 1100, 3000], slow=True)
    plan = certify(imagined.build, (), {}, 1000)
    assert (plan.plan.number, plan.plan.called, plan.peak_bytes, imagined.compilations) == (0, False, 990, 4)


@pytest.mark.parametrize(("everything", "found"), [(1900, 700), (2100, None)])
def test_the_open_program_is_tried_before_a_budget_is_refused_where_fences_may_cost_bytes(everything, found):
    imagined = Imagined([1000, 1500], [1000, 1500], opened=700, everything=everything)
    if found is None:
        with pytest.raises(cg.BudgetError) as caught:
            certify(imagined.build, (), {}, 700, may_open=True)
        assert caught.value.smallest == 1000
        return
    opened = certify(imagined.build, (), {}, 700, may_open=True)
    assert (opened.peak_bytes, opened.plan.fenced) == (found, False)
    with pytest.raises(cg.BudgetError) as caught:
        certify(imagined.build, (), {}, 699, may_open=True)
    assert (caught.value.smallest, caught.value.stage, caught.value.floor) == (700, None, None)


def test_a_search_ends_where_plans_take_more_than_was_told_of_them_on_paper(monkeypatch):
    predicted = [*range(500, 2000, 3)]
    imagined = Imagined(predicted, [int(1.2 * p) for p in predicted])
    monkeypatch.setattr(search.Trials, "taken", lambda self, plan, jitted: plan.peak_bytes // 2)
    found = certify(imagined.build, (), {}, 1000)
    assert found.peak_bytes <= 1000


@pytest.mark.parametrize(("slow", "compilations"), [(False, 2), (True, 1)])
def test_where_compiling_takes_long_the_first_program_is_one_that_is_predicted_to_fit(slow, compilations):
    imagined = Imagined([900, 960, 1000, 2000], [900, 985, 1001, 2000], slow=slow)
    found = certify(imagined.build, (), {}, 1000)
    assert (found.plan.number, imagined.compilations) == (1, compilations)


@pytest.mark.parametrize("seed", quick_rows(range(20), *range(5)))
def test_the_open_program_is_taken_as_soon_as_a_budget_has_room_for_it(seed):
    random = np.random.default_rng(seed)
    predicted = np.unique(np.geomspace(1000, 10_000, int(random.integers(4, 60))).astype(int))
    taken = (predicted * random.uniform(0.66, 1.05, len(predicted))).astype(int).tolist()
    opened = int(random.integers(int(1.1 * max(taken)), 20_000))
    numbers = []
    for budget in range(int(1.05 * predicted[0]), 22_000, 137):
        found = certify(Imagined(predicted.tolist(), taken, opened).build, (), {}, budget, may_open=True)
        assert found.peak_bytes <= budget
        numbers.append(found.plan.number + (not found.plan.fenced))
        assert found.plan.fenced == (budget < opened)
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("seed", quick_rows(range(8), *range(3)))
def test_with_an_open_program_to_choose_from_a_larger_budget_gives_no_slower_plan_either(seed):
    random = np.random.default_rng(seed)
    predicted = np.unique(np.geomspace(1000, 10_000, int(random.integers(4, 60))).astype(int))
    taken = (predicted * random.uniform(0.8, 1.05, len(predicted))).astype(int).tolist()
    opened = int(random.integers(8_000, 20_000))
    # From as fast as no plan with fences, to slower than many of them.
    open_seconds = float(random.uniform(0.5, 8)) / len(predicted)
    seconds = []
    for budget in range(int(1.05 * predicted[0]), 22_000, 237):
        imagined = Imagined(predicted.tolist(), taken, opened, seconds=open_seconds)
        found = certify(imagined.build, (), {}, budget, may_open=True)
        assert found.peak_bytes <= budget
        assert found.plan.fenced or found.plan.seconds == open_seconds
        seconds.append(found.plan.seconds)
    assert all(b <= a for a, b in itertools.pairwise(seconds))


@pytest.mark.parametrize(("seconds", "fenced", "compiled"), [(0.5, False, 1), (0.51, True, 2)])
def test_no_plan_with_fences_is_compiled_beside_an_open_program_that_is_as_fast_as_any(seconds, fenced, compiled):
    imagined = Imagined([1000, 1990], [900, 1900], 1950, seconds=seconds)
    found = certify(imagined.build, (), {}, 2000, may_open=True)
    assert (found.plan.fenced, imagined.compilations) == (fenced, compiled)


def test_a_uniform_plan_is_taken_where_the_compiler_packs_the_others_badly():
    """The fastest of four plans takes half more than predicted: the aim is lowered by as much, beyond two plans that fit."""

    def found(budget, uniform=()):
        imagined = Imagined([1000, 2000, 2900, 3000], [900, 2000, 2900, 4500], opened=10**6, uniform=uniform)
        return certify(imagined.build, (), {}, budget, may_open=True).plan.number

    assert found(3000) == 0
    assert found(3000, uniform=(2,)) == 2
    assert found(3000, uniform=(1, 3)) == 1
    assert found(3000, uniform=(0,)) == 0
    with pytest.raises(cg.BudgetError) as caught:
        found(800, uniform=(0,))
    assert caught.value.smallest == 900


def test_a_uniform_plan_gives_way_to_a_faster_one():
    imagined = Imagined([1000, 2000, 2900, 3000], [900, 2000, 2900, 3400], opened=10**6, uniform=(0,))
    assert certify(imagined.build, (), {}, 3000, may_open=True).plan.number == 1


@pytest.mark.parametrize(("opened", "fenced"), [(2000, False), (2001, True)])
def test_the_open_program_is_tried_where_the_fastest_plan_takes_a_little_too_much(opened, fenced):
    imagined = Imagined([1000, 1990], [900, 2010], opened)
    found = certify(imagined.build, (), {}, 2000, may_open=True)
    assert (found.plan.fenced, found.peak_bytes) == (fenced, 900 if fenced else 2000)


@pytest.mark.parametrize(
    ("near", "stated", "number", "compilations"),
    [
        (True, [0.4, 0.45, 0.6], 1, 2),
        (True, [0.4, 0.65, 0.6], 2, 2),
        (True, [0.4, 0.3, 0.336], 2, 1),  # as estimated
        (True, [0.4, 0.3, 0.45], 2, 1),  # the other is estimated to take 0.5
        (False, [0.4, 0.45, 0.6], 2, 1),
    ],
)
def test_where_chunks_stay_near_a_plan_that_is_slower_than_estimated_is_compared_with_one_of_fewer_bytes(
    near, stated, number, compilations
):
    imagined = Imagined([100, 500, 1000], [100, 500, 1000], seconds=stated, slow=True, near=near)
    found = certify(imagined.build, (), {}, 1040)
    assert found.plan.number == number
    assert imagined.compilations == compilations


@pytest.mark.parametrize(
    ("stated", "number", "compilations"),
    [
        ([1.2, 0.52, 0.55, 0.6], 1, 3),
        ([1.2, 0.56, 0.55, 0.6], 2, 3),
        ([1.2, 0.52, 0.65, 0.6], 3, 2),  # no faster: that is the last one
        ([1.2, 0.3, 0.335, 0.6], 2, 2),  # as estimated
    ],
)
def test_and_that_one_with_a_still_smaller_one(stated, number, compilations):
    sizes = [100, 250, 500, 1000]
    imagined = Imagined(sizes, sizes, seconds=stated, slow=True, near=True)
    found = certify(imagined.build, (), {}, 1040)
    assert found.plan.number == number
    assert imagined.compilations == compilations


@pytest.mark.parametrize(("slow", "everything", "compiled"), [(True, 1251, 1), (True, 1250, 2), (False, 1251, 2)])
def test_an_open_program_that_stores_far_too_much_is_not_compiled_where_that_takes_long(slow, everything, compiled):
    imagined = Imagined([900], [900], 1500, slow=slow, everything=everything)
    assert certify(imagined.build, (), {}, 1000, may_open=True).plan.fenced
    assert imagined.compilations == compiled


@pytest.mark.parametrize(("memory", "fenced"), [(None, False), (6000, False), (5999, True)])
def test_without_a_budget_stages_are_open_if_the_memory_has_room(memory, fenced):
    imagined = Imagined([1000, 2000], [900, 1900], 6000, memory)
    found = certify(imagined.build, (), {}, None, may_open=True)
    assert (found.plan.fenced, found.peak_bytes) == (fenced, 1900 if fenced else 6000)


def test_a_program_that_the_compiler_refuses_for_its_memory_is_not_taken():
    imagined = Imagined([1000, 2000], [900, 1900])

    def refuse(lowered):
        if lowered.number == 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm.")
        return lowered.number

    imagined.target.compile = refuse
    assert certify(imagined.build, (), {}, None, may_open=True).plan.fenced


@pytest.mark.parametrize(
    ("asked", "slow", "stated", "taken", "number", "compilations"),
    [
        # The compiler was asked about all that the smaller one runs, and it is about as fast.
        ({18}, True, 0.053, 140, 18, 1),
        # If it takes longer than was told of it, others do as well.
        ({18}, True, 0.06, 140, 18, 1),
        # It takes more bytes than there are.
        ({18}, True, 0.053, 1100, 19, 2),
        # It is unsure as well, or there is time to try all; another one is asked about, which is slower by more than that.
        (set(), True, 0.053, 140, 19, 1),
        ({18}, False, 0.053, 140, 19, 1),
        ({17}, True, 0.053, 140, 19, 1),
    ],
)
def test_where_compiling_takes_long_a_plan_that_is_known_goes_before_one_that_is_hardly_faster(
    asked, slow, stated, taken, number, compilations
):
    predicted = [*range(100, 136, 2), 140, 1000]
    seconds = [1 / (1 + n) for n in range(20)]
    seconds[18] = stated
    imagined = Imagined(predicted, [*predicted[:18], taken, 1000], seconds=seconds, slow=slow, near=True, asked=asked)
    found = certify(imagined.build, (), {}, 1040)
    assert found.plan.number == number
    assert imagined.compilations == compilations


@pytest.mark.parametrize(("slow", "compilations"), [(False, 2), (True, 1)])
def test_where_compiling_takes_long_bytes_are_left_unused_that_would_make_a_plan_hardly_faster(slow, compilations):
    """Each plan is faster by half a hundredth than the one before, and those far beyond the budget by more."""
    predicted = [*range(100, 299), 950, 975, 1000, 1025, *range(5000, 5060)]
    taken = [*predicted[:199], 800, 825, 850, 1100, *predicted[203:]]
    imagined = Imagined(predicted, taken, slow=slow)
    found = certify(imagined.build, (), {}, 1000)
    assert found.peak_bytes == (800 if slow else 850)
    assert imagined.compilations == compilations


@pytest.mark.parametrize(("stated", "number", "compilations"), [(0.3, 2, 2), (0.4, 1, 1)])
def test_where_a_plan_takes_longer_than_told_others_near_it_are_not_tried_for_their_time(stated, number, compilations):
    """The second plan seems to take half as long as the first, which is estimated at 0.5."""
    seconds = [1.0, 0.51 if number == 2 else 0.6, stated, 0.25]
    imagined = Imagined([100, 800, 1000, 5000], [100, 700, 900, 5000], seconds=seconds, slow=True, near=True)
    found = certify(imagined.build, (), {}, 1000)
    assert (found.plan.number, imagined.compilations) == (number, compilations)
