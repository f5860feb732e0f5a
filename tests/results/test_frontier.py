"""A frontier: which of its plans a budget gets."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ckptgrad.errors import BudgetError
from ckptgrad.planning import frontier, minimum_peak
from ckptgrad.planning.frontier import Point
from ckptgrad.planning.random_chains import random_chain
from ckptgrad.results.frontier import Frontier
from ckptgrad.target.target import described
from tests.cases.results import FRONTIER, KIB


@pytest.mark.parametrize(
    ("budget", "seconds"),
    [(None, 1.0), (400 * KIB, 1.0), (400 * KIB - 1, 2.0), ("200KiB", 2.0), (100 * KIB, 3.0), ("1GiB", 1.0)],
)
def test_a_budget_gets_the_fastest_plan_within_it(budget, seconds):
    assert FRONTIER.at(budget).seconds == seconds


def test_a_budget_below_the_smallest_peak_is_refused_with_that():
    assert (FRONTIER.smallest_peak_bytes, FRONTIER.fastest_peak_bytes) == (100 * KIB, 400 * KIB)
    with pytest.raises(BudgetError) as refused:
        FRONTIER.at(100 * KIB - 1)
    assert refused.value.smallest == 100 * KIB


def test_the_least_budget_is_the_first_point():
    costs = random_chain(3, 2, seed=3)
    curve = Frontier(tuple(frontier.frontier_points(costs)), (), costs, described("cpu"))
    assert curve.at("min") == curve.points[0]
    assert curve.smallest_peak_bytes == minimum_peak(costs)[0]


def test_others_are_put_beside():
    more = FRONTIER.beside(Point(KIB, 9.0, "jax.grad"))
    assert more.points == FRONTIER.points
    assert [p.policy for p in more.others] == ["sqrt", "revolve(2)", "jax.grad"]


def test_plain_data_is_json():
    found = json.loads(FRONTIER.to_json())
    assert found["points"][0] == {"policy": "optimal", "peak_bytes": 100 * KIB, "seconds": 3.0}
    assert [row["policy"] for row in found["others"]] == ["sqrt", "revolve(2)"]
    assert found["knee"] == {"policy": "optimal", "peak_bytes": 200 * KIB, "seconds": 2.0}
    assert json.loads(replace(FRONTIER, points=FRONTIER.points[:1]).to_json())["knee"] is None
