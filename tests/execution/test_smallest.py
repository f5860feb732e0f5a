"""The smallest program among imagined ones: which plans near the smallest one are compiled, and which is taken."""

from __future__ import annotations

import pytest

import ckptgrad as cg
from ckptgrad.execution.certify import certify, certify_faster
from tests.support.imagined import Imagined

MIB = 1 << 20


@pytest.mark.parametrize(
    ("taken", "slow", "number", "compilations"),
    [
        # As predicted, or nearly so: the first program is the smallest.
        ([100, 104, 120], False, 0, 1),
        ([107, 104, 120], False, 0, 1),
        # Far from it: plans near it are tried, each once.
        ([140, 104, 150], False, 1, 3),
        ([140, 150, 90], False, 2, 3),
        ([70, 104, 60], False, 2, 3),
        ([70, 104, 120], False, 0, 3),
        # Where compiling takes long, those that are predicted to take less than it does.
        ([107, 104, 120], True, 0, 1),
        ([140, 104, 150], True, 1, 3),
        ([125, 104, 90], True, 1, 2),
        # Or any of them, where it takes far less than predicted.
        ([70, 65, 60], True, 2, 3),
        ([70, 60, 65], True, 1, 3),
        ([70, 80, 80], True, 0, 3),
        ([93, 60, 60], True, 0, 1),
    ],
)
def test_the_smallest_program_is_looked_for_where_the_smallest_plan_is_not_as_predicted(taken, slow, number, compilations):
    imagined = Imagined([100 * MIB, 104 * MIB, 130 * MIB], [n * MIB for n in taken], slow=slow)

    def build(limit, **options):
        return imagined.build(100 * MIB if limit is None else limit, **options)

    found = certify_faster(build, (), {}, None, float("inf"), may_open=False, may_be_uniform=False, least=True)
    assert found is not None
    assert (found.plan.number, imagined.compilations) == (number, compilations)
    assert found.peak_bytes == taken[number] * MIB


def test_of_plans_that_are_predicted_alike_one_is_compiled_where_far_less_is_taken():
    imagined = Imagined([1000 * MIB, 1001 * MIB, 1060 * MIB], [700 * MIB, 600 * MIB, 650 * MIB], slow=True)

    def build(limit, **options):
        return imagined.build(1000 * MIB if limit is None else limit, **options)

    found = certify_faster(build, (), {}, None, float("inf"), may_open=False, may_be_uniform=False, least=True)
    assert found is not None
    assert (found.plan.number, imagined.compilations) == (2, 2)


@pytest.mark.parametrize("slow", [False, True])
def test_the_smallest_program_is_found_before_a_budget_is_refused(slow):
    """A plan that is predicted to take more than the smallest one, and the budget, may take less than both."""
    imagined = Imagined([100 * MIB, 120 * MIB], [140 * MIB, 90 * MIB], slow=slow)
    least = certify_faster(
        lambda limit, **options: imagined.build(100 * MIB if limit is None else limit, **options),
        (), {}, None, float("inf"), may_open=False, may_be_uniform=False, least=True,
    )  # fmt: skip
    assert least is not None
    assert certify(imagined.build, (), {}, least.peak_bytes).peak_bytes == least.peak_bytes == 90 * MIB
    with pytest.raises(cg.BudgetError) as caught:
        certify(imagined.build, (), {}, 80 * MIB)
    assert caught.value.smallest == least.peak_bytes


def test_the_smallest_program_may_be_one_of_calls():
    imagined = Imagined([100 * MIB], [140 * MIB], called=[110 * MIB])
    found = certify_faster(imagined.build, (), {}, None, float("inf"), may_open=False, may_be_uniform=False, least=True)
    assert found is not None
    assert (found.plan.called, found.peak_bytes, imagined.compilations) == (True, 110 * MIB, 2)
    with pytest.raises(cg.BudgetError) as caught:
        certify(imagined.build, (), {}, 90 * MIB)
    assert caught.value.smallest == 110 * MIB


@pytest.mark.parametrize(("may_open", "fenced"), [(True, False), (False, True)])
def test_the_smallest_program_may_be_the_open_one(may_open, fenced):
    imagined = Imagined([100 * MIB], [100 * MIB], opened=90 * MIB, everything=120 * MIB)
    found = certify_faster(imagined.build, (), {}, None, float("inf"), may_open=may_open, may_be_uniform=False, least=True)
    assert found is not None
    assert (found.plan.fenced, found.peak_bytes) == (fenced, (100 if fenced else 90) * MIB)
