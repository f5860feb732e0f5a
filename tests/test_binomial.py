"""The closed form of binomial checkpointing has the published values, and its advance attains them."""

from __future__ import annotations

import pytest

from ckptgrad.binomial import advance, extra_forwards, repetitions
from tests.cases.binomial import LISTED


@pytest.mark.parametrize(("stages", "checkpoints", "extra"), LISTED)
def test_closed_form_has_the_listed_values(stages, checkpoints, extra):
    assert extra_forwards(stages, checkpoints) == extra


def forwards_by_advancing(stages: int, checkpoints: int) -> int:
    """Extra forwards where each next checkpoint goes where `advance` says."""
    if stages == 1:
        return 0
    at = advance(stages, checkpoints)
    behind = forwards_by_advancing(stages - at, max(1, checkpoints - 1)) if checkpoints > 1 else 0
    return at + behind + forwards_by_advancing(at, checkpoints)


@pytest.mark.parametrize("checkpoints", [1, 2, 3, 5])
def test_going_as_far_as_told_runs_no_more_forwards_than_the_closed_form(checkpoints):
    for stages in range(1, 60):
        assert forwards_by_advancing(stages, checkpoints) == extra_forwards(stages, checkpoints)


def test_repetitions_are_the_least_that_reach_the_end():
    """With one checkpoint every stage is reached from the start; with as many as there are stages none is repeated twice."""
    assert [repetitions(n, 1) for n in (1, 2, 10)] == [0, 1, 9]
    assert [repetitions(n, 3) for n in (1, 4, 5, 10, 11)] == [0, 1, 2, 2, 3]
