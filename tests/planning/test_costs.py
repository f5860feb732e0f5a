"""Costs of a chain: what is impossible is refused, and which save option is taken without a budget."""

from __future__ import annotations

import pytest

from ckptgrad.planning import ChainCosts, SaveOption, StageCost


@pytest.mark.parametrize(
    "make",
    [
        lambda: ChainCosts(()),
        lambda: StageCost((), 1, 1, 1.0),
        lambda: SaveOption("negative", -1, True, True, 1.0, 1.0),
        lambda: SaveOption("endless", 1, True, True, float("inf"), 1.0),
        lambda: SaveOption("unknown", 1, True, True, float("nan"), 1.0),
        lambda: StageCost((SaveOption("all output", 1, True, True, 1.0, 1.0, output_time=1.5),), 1, 1, 2.0),
        lambda: StageCost((SaveOption("more than plain", 1, True, True, 1.0, 1.0, output_time=0.5),), 1, 1, 0.25),
    ],
)
def test_impossible_costs_are_refused(make):
    with pytest.raises(ValueError):
        make()


def stage_of(*options):
    """Options as (residual bytes, forward and backward seconds)."""
    return StageCost(tuple(SaveOption("", size, False, False, *seconds) for size, *seconds in options), 1, 1, 0.5)


def test_the_fastest_option_is_the_smallest_of_equals():
    assert stage_of((9, 1.0, 1.0), (5, 0.5, 1.5), (1, 1.0, 2.0)).fastest == 1


def test_a_lean_option_may_be_a_little_slower():
    """A few per cent of estimated time are not worth any bytes."""
    stage = stage_of((9, 1.0, 1.0), (5, 1.0, 1.04), (1, 1.0, 1.2))
    assert (stage.fastest, stage.lean(10)) == (0, 1)


def test_a_forward_without_output_saves_its_time():
    option = SaveOption("", 1, True, True, 2.0, 3.0, output_time=0.5)
    stage = StageCost((option,), 1, 1, 1.0)
    assert [stage.forward_seconds(*call) for call in ((None,), (0,), (0, False))] == [1.0, 2.0, 1.5]
    assert (option.time, option.time_alone) == (5.0, 4.5)


def test_boundaries_of_a_chain_and_its_input():
    costs = ChainCosts.uniform(2, boundary_bytes=3, cotangent_bytes=4)
    assert [costs.boundary_bytes(k) for k in range(3)] == [3, 3, 3]
    own = ChainCosts(costs.stages, input_bytes=10, input_cotangent_bytes=11)
    assert [own.boundary_bytes(k) for k in range(3)] == [10, 3, 3]
    assert [own.cotangent_bytes(k) for k in range(3)] == [11, 4, 4]
