"""The registry of policies."""

from __future__ import annotations

import pytest

from ckptgrad.planning import ChainCosts, PolicyError, get_policy, policy, registered
from ckptgrad.planning.policy import unregister


def test_a_function_is_a_policy():
    def mine(costs, budget):
        return get_policy("sqrt")(costs, budget)

    assert get_policy(mine) is mine


def test_unknown_policy_lists_the_known_ones():
    with pytest.raises(PolicyError, match=r"every_k.*optimal.*store_all"):
        get_policy("optimum")


def test_registering_twice_is_an_error():
    with pytest.raises(PolicyError, match="sqrt"):
        policy("sqrt")(get_policy("sqrt"))


def test_a_new_policy_is_known_until_it_is_forgotten():
    @policy("mine", references=("my notes",))
    def mine(costs, budget):
        return get_policy("sqrt")(costs, budget)

    try:
        assert get_policy("mine") is mine
        assert registered()["mine"].references == ("my notes",)
        assert [*registered()] == sorted(registered())
        assert get_policy("mine")(ChainCosts.uniform(9), None).policy == "sqrt"
    finally:
        unregister("mine")
    with pytest.raises(PolicyError, match="no policy is called 'mine'"):
        get_policy("mine")
