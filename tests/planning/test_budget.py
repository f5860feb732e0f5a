"""Budgets of a chain, in bytes."""

from __future__ import annotations

import pytest

from ckptgrad.bytes import format_bytes
from ckptgrad.planning import ChainCosts, SaveOption, StageCost
from ckptgrad.planning.budget import budget_bytes, everything_peak, share_words
from ckptgrad.planning.optimal.dynamic_programming import minimum_peak
from ckptgrad.planning.random_chains import random_chain


def free():
    return 12345


def test_everything_is_each_stages_largest_option():
    """Four stages that keep 10 bytes each; what passes between them is free."""
    options = SaveOption("small", 1, False, False, 1, 1), SaveOption("large", 10, False, False, 5, 5)
    assert everything_peak(ChainCosts((StageCost(options, 0, 0, 1.0),) * 4)) == 40


def test_budgets_of_every_form():
    costs = random_chain(6, 2, 0)
    most, least = everything_peak(costs), minimum_peak(costs)[0]
    assert least <= most
    assert budget_bytes(None, costs, free) is None
    assert budget_bytes("min", costs, free) == least
    assert budget_bytes("1x", costs, free) == most
    assert budget_bytes("0.5x", costs, free) == int(0.5 * most)
    assert budget_bytes("auto", costs, free) == free()
    assert budget_bytes(77, costs, free) == 77


def test_free_bytes_are_asked_for_only_where_they_are_the_budget():
    def unknown():
        pytest.fail("asked")

    assert budget_bytes("2KiB", random_chain(3, 1, 0), unknown) == 2048


def test_a_share_says_of_what_it_is_one():
    costs = random_chain(6, 2, 0)
    assert share_words(" 0.5x", costs) == f"0.5x of the {format_bytes(everything_peak(costs))} that storing everything takes"
    assert [share_words(budget, costs) for budget in (None, 77, "2KiB", "min", "auto")] == [""] * 5
