"""Seeded random chains."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ckptgrad.planning.random_chains import mixed_units, random_chain, simple_chain


def options(costs):
    return [option for stage in costs.stages for option in stage.options]


def test_a_seed_is_a_chain():
    assert random_chain(6, 3, seed=1) == random_chain(6, 3, seed=1)
    assert random_chain(6, 3, seed=1) != random_chain(6, 3, seed=2)


@pytest.mark.parametrize("seed", range(5))
def test_chains_end_in_a_result_of_no_bytes_and_keep_within_the_largest(seed):
    costs = random_chain(8, 3, seed, largest=20)
    assert len(costs) == 8
    assert costs.boundary_bytes(8) == costs.cotangent_bytes(8) == 0
    assert all(0 < costs.boundary_bytes(b) <= 20 for b in range(1, 8))
    assert all(len(stage.options) == 3 for stage in costs.stages)
    for stage in costs.stages:
        for option in stage.options:
            assert option.residual_bytes <= 20
            assert option.forward_transient <= stage.forward_transient
            assert option.hidden_bytes <= stage.boundary_bytes
            assert option.output_time <= min(option.forward_time, stage.forward_time)


def test_what_hides_changes_no_other_number():
    plain, hiding = random_chain(8, 2, 3, hides=0.0), random_chain(8, 2, 3, hides=1.0)
    assert any(option.hidden_bytes for option in options(hiding))
    bare = [replace(option, hidden_bytes=0, output_time=0.0) for option in options(hiding)]
    assert bare == options(plain)


def test_the_classical_model():
    costs = simple_chain(8, 2, seed=4)
    assert not any(o.reads_input or o.reads_output or o.hidden_bytes or o.output_time for o in options(costs))
    assert {costs.cotangent_bytes(b) for b in range(8)} == {4}


def test_the_mixed_model():
    costs = mixed_units(4, residual_bytes=2)
    assert [costs.boundary_bytes(b) for b in range(5)] == [1, 1, 1, 1, 0]
    assert {(o.residual_bytes, o.reads_input, o.reads_output) for o in options(costs)} == {(2, False, False)}
    assert {costs.cotangent_bytes(b) for b in range(5)} == {0}
